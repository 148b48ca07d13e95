//! Who is preferred to whom: the paper's Figure 6, strengths of several, how judges answer and agree.

use super::asked;
use super::correlation::{p_value, share};
use super::figures::Figure;
use crate::report::format::{self, Digits};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Opinions, Preference, Report, StrengthTable};
use crate::stats::Defined;

/// So many rows in the chart.
const MOST_BARS: usize = 24;

/// The section's parts.
pub(in crate::report) struct Part {
    pub(in crate::report) figure: Option<Figure>,
    /// Strengths and win matrices.
    pub(in crate::report) tables: Vec<(String, Table)>,
    pub(in crate::report) notes: Vec<String>,
}

pub(super) fn part(report: &Report) -> Option<Part> {
    let costs = (!report.asked.is_empty()).then(|| ("What judging has cost".to_owned(), asked::table(report)));
    let Some(opinions) = &report.opinions else {
        // Asked and not answered yet: there are costs already.
        return costs.map(|it| Part { figure: None, tables: vec![it], notes: Vec::new() });
    };
    let mut tables = Vec::new();
    for it in &opinions.strengths {
        tables.push((format!("Strengths: {}, by {}", it.aspect, it.by.name), strengths(it)));
    }
    if !opinions.judges.is_empty() {
        tables.push(("How judges answer".to_owned(), judges(opinions)));
    }
    tables.extend(costs);
    tables.extend(agreement(opinions));
    let rows: Vec<&Preference> = opinions.preferences.iter().collect();
    let figure = (!rows.is_empty()).then(|| Figure {
        title: String::new(),
        subtitle: String::new(),
        badge: None,
        svg: plot::opinion::bars(&rows[..rows.len().min(MOST_BARS)]),
        alt: "One bar for each aspect, judge and two sides: wins of the first, ties, wins of the second. The table has the numbers."
            .to_owned(),
        table: preferences(&rows),
    });
    let notes = opinions.unused.iter().map(|it| format!("{} {}.", format::thousands(it.0 as u64), it.1)).collect();
    Some(Part { figure, tables, notes })
}

fn count(n: u64) -> Cell {
    Cell::number(format::thousands(n), n as f64)
}

fn preferences(rows: &[&Preference]) -> Table {
    let head = vec![
        words("Aspect"),
        words("Judge"),
        words("First"),
        words("Second"),
        numbers("Wins"),
        numbers("Ties"),
        numbers("Losses"),
        numbers("Turned").hinting("", "ties among them that turned with the order shown"),
        numbers("Win rate"),
        numbers("p").hinting("", "exact sign test"),
        numbers("p, Holm").hinting("", "adjusted over all rows"),
    ];
    let mut table = Table::new("Preferences: wins, ties and losses of the first", head);
    for it in rows {
        let p = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), p_value);
        table.rows.push(vec![
            Cell::words(&it.aspect),
            Cell::words(&it.by.name),
            Cell::words(&it.first),
            Cell::words(&it.second),
            count(it.tally.wins),
            count(it.tally.ties),
            count(it.tally.losses),
            count(it.n_turned as u64),
            share(it.win_rate, it.interval),
            p(it.p.ok()),
            p(it.p_holm),
        ]);
    }
    table
}

/// Strengths, and beside each side how often it was preferred to each other one.
fn strengths(it: &StrengthTable) -> Table {
    let mut head = vec![words("Side"), numbers("Strength").hinting("", "natural logarithm; their mean is 0")];
    head.extend(it.sides.iter().map(|side| numbers(format!("over {side}"))));
    let mut table = Table::new(format!("Bradley–Terry strengths and wins, {}, by {}", it.aspect, it.by.name), head);
    let digits = Digits::two();
    for (a, side) in it.sides.iter().enumerate() {
        let strength = match &it.strengths {
            Ok(of) => Cell::number(digits.number(of.log_strengths[a]), of.log_strengths[a])
                .noting(it.intervals.get(a).map(|it| digits.interval(it)).unwrap_or_default()),
            Err(why) => Cell::absent("undefined").noting(why.to_string()),
        };
        let mut row = vec![Cell::words(side), strength];
        for b in 0..it.sides.len() {
            let (wins, ties) = (it.outcomes.wins[a][b], it.outcomes.ties[a][b]);
            let n = wins + ties + it.outcomes.wins[b][a];
            row.push(if n == 0 {
                Cell::absent("–")
            } else {
                Cell::number(format!("{wins} of {n}"), wins as f64 / n as f64).noting(if ties > 0 {
                    format!("{ties} ties")
                } else {
                    String::new()
                })
            });
        }
        table.rows.push(row);
    }
    table
}

fn judges(opinions: &Opinions) -> Table {
    let head = vec![
        words("Judge"),
        numbers("Answers"),
        numbers("Invalid"),
        numbers("Asked both ways"),
        numbers("Turned").hinting("", "of those asked both ways"),
        numbers("First shown preferred").hinting("", "50 % is no bias"),
        numbers("p").hinting("", "exact test against 50 %"),
    ];
    let mut table = Table::new("How judges answer", head);
    for it in &opinions.judges {
        table.rows.push(vec![
            Cell::words(&it.by.name),
            count(it.n as u64),
            count(it.n_invalid as u64),
            count(it.n_both as u64),
            count(it.n_turned as u64),
            share(it.position.rate, it.position.interval.ok()),
            it.position.p.map_or_else(|_| Cell::absent("–"), p_value),
        ]);
    }
    table
}

fn agreement(opinions: &Opinions) -> Vec<(String, Table)> {
    let digits = Digits::two();
    let number = |it: &Defined| match it {
        Ok(value) => Cell::number(digits.number(*value), *value),
        Err(why) => Cell::absent("undefined").noting(why.to_string()),
    };
    let mut tables = Vec::new();
    let found = &opinions.agreement;
    if !found.ratings.is_empty() || !found.choices.is_empty() {
        let head = vec![
            words("Of"),
            words("By"),
            numbers("n"),
            numbers("Raters"),
            numbers("Krippendorff α"),
            numbers("Fleiss κ"),
        ];
        let mut table = Table::new("Agreement of raters", head);
        for it in &found.ratings {
            let alpha =
                number(&it.alpha_ordinal).noting(it.interval.map(|it| digits.interval(&it)).unwrap_or_default());
            let of = Cell::words(format!("ratings, {}", it.aspect));
            let counts = [it.n, it.n_raters].map(|it| count(it as u64));
            table.rows.push(
                [of, Cell::words(it.judge.word())]
                    .into_iter()
                    .chain(counts)
                    .chain([alpha, Cell::absent("–")])
                    .collect(),
            );
        }
        for it in &found.choices {
            let alpha = number(&it.alpha).noting(it.interval.map(|it| digits.interval(&it)).unwrap_or_default());
            let of = Cell::words(format!("choices, {}", it.aspect));
            let counts = [it.n, it.n_raters].map(|it| count(it as u64));
            table.rows.push(
                [of, Cell::words(it.judge.word())]
                    .into_iter()
                    .chain(counts)
                    .chain([alpha, number(&it.kappa)])
                    .collect(),
            );
        }
        tables.push(("Agreement of raters".to_owned(), table));
    }
    if !found.human_machine.is_empty() {
        let head = vec![words("Machine"), words("Aspect"), numbers("Pairs"), numbers("Agree"), numbers("Cohen κ")];
        let mut table = Table::new("People and machines, where both decide", head);
        for it in &found.human_machine {
            let agree = share(it.agree, None);
            table.rows.push(vec![
                Cell::words(&it.machine),
                Cell::words(&it.aspect),
                count(it.n as u64),
                agree,
                number(&it.kappa),
            ]);
        }
        tables.push(("People and machines".to_owned(), table));
    }
    tables
}
