//! What `jobctl correlate` prints for people: a table of coefficients with their intervals.

use super::input::Input;
use super::{Args, each, each_difference};
use crate::cli::Outcome;
use crate::cli::lines::{Lines, plain, right, table};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::study::{Coefficients, Estimate};

/// Prints the coefficients, and the differences if they were asked for.
pub(super) fn print(args: &Args, input: &Input, bootstrap: &Bootstrap) -> std::io::Result<Outcome> {
    let mut out = Lines::new();
    let mut rows = table(&["METRIC", "GROUP", "N", "SRCC", "PLCC", "PLCC, FITTED", "KRCC"]);
    each(args, input, bootstrap, |line| {
        let head = [plain(line.metric), plain(line.group.unwrap_or("-")), line.n.to_string()];
        let cells = head.map(right).into_iter().chain(cells(&line.coefficients));
        rows.add_row(cells);
        Ok(())
    })?;
    out.text(&rows.to_string())?;
    if args.against.is_some() {
        let mut rows =
            table(&["METRIC", "LESS", "GROUP", "N", "SRCC", "PLCC", "PLCC, FITTED", "KRCC", "P OF MENG: SRCC, PLCC"]);
        each_difference(args, input, bootstrap, |line| {
            let head = [line.metric, line.against, line.group.unwrap_or("-")].map(plain);
            let p = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), p_value);
            let meng = format!("{}, {}", p(line.difference.srcc_meng_p), p(line.difference.plcc_meng_p));
            let cells = head.into_iter().chain([line.n.to_string()]).map(right);
            rows.add_row(cells.chain(self::cells(&line.difference.by_bootstrap)).chain([right(meng)]));
            Ok(())
        })?;
        out.text(&rows.to_string())?;
    }
    out.text(&format!(
        "against {}; [{} % intervals], p-values two-sided; {} resamples, seed {}",
        plain(&input.human),
        bootstrap.level * 100.0,
        bootstrap.n_resamples,
        bootstrap.seed
    ))?;
    Ok(Outcome::Done)
}

fn cells(it: &Coefficients) -> [comfy_table::Cell; 4] {
    [it.srcc, it.plcc, it.plcc_fit, it.krcc].map(|it| right(cell(&it)))
}

fn cell(it: &Estimate) -> String {
    let value = match it.value {
        Ok(value) => format!("{value:.4}"),
        Err(why) => return why.to_string(),
    };
    let interval =
        it.interval.map_or_else(|| "no interval".to_owned(), |it| format!("[{:.3}, {:.3}]", it.low, it.high));
    let p = it.p.map_or_else(String::new, |p| format!("\np {}", p_value(p)));
    format!("{value}\n{interval}{p}")
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}
