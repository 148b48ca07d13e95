//! What machines were asked, what they answered, and what that cost against what it may.

use crate::report::format;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::Report;
use crate::store::findings::Spending;

/// A row for each `[[judge]]` and `[[caption]]` block.
pub(super) fn table(report: &Report) -> Table {
    let head = vec![
        words("Block"),
        words("Asked"),
        numbers("Requests"),
        numbers("Answers"),
        numbers("Asked again").hinting("", "the first answer could not be understood"),
        numbers("Without an answer").hinting("", "refused, lost or still under way"),
        numbers("Tokens read"),
        numbers("Tokens written"),
        numbers("Cost").hinting("US dollars", "by the endpoint's count of tokens and the sweep's prices"),
        numbers("Budget").hinting("US dollars", ""),
    ];
    let mut table = Table::new("What machines were asked, and what that cost", head);
    for it in &report.asked {
        table.rows.push(row(it));
    }
    table
}

fn row(it: &Spending) -> Vec<Cell> {
    let count = |n: i64| Cell::number(format::thousands(n.unsigned_abs()), n as f64);
    let without = it.refused + it.lost + it.open;
    let kinds = [(it.refused, "refused"), (it.lost, "lost"), (it.open, "under way")];
    let kinds: Vec<String> = kinds.iter().filter(|it| it.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
    // What open and lost requests may yet come to is reserved.
    let reserved = it.spent - it.cost;
    let reserved = if reserved > 1e-9 { format!("{} more reserved", dollars(reserved)) } else { String::new() };
    let budget = match it.budget {
        Some(budget) if budget > 0.0 => {
            Cell::number(dollars(budget), budget).noting(format!("{:.0} % of it spent", 100.0 * it.spent / budget))
        }
        Some(budget) => Cell::number(dollars(budget), budget),
        None => Cell::absent("none"),
    };
    vec![
        Cell::words(&it.name).noting(if it.kind == "caption" { "captions".to_owned() } else { "verdicts".to_owned() }),
        Cell::words(&it.model),
        count(it.answered + it.surplus + without),
        count(it.answered).noting(if it.surplus > 0 { format!("and {} too many", it.surplus) } else { String::new() }),
        count(it.again),
        count(without).noting(kinds.join(", ")),
        count(it.tokens_in),
        count(it.tokens_out),
        Cell::number(dollars(it.cost), it.cost).noting(reserved),
        budget,
    ]
}

/// Small sums to the hundredth of a cent.
fn dollars(sum: f64) -> String {
    if sum > 0.0 && sum < 0.995 { format!("{sum:.4}") } else { format!("{sum:.2}") }
}
