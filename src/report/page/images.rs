//! Every image on its own: scores, and folded away beneath, what it was made of.

use crate::report::format::{self, Digits};
use crate::report::table::{Cell, Head, numbers, words};
use crate::report::view::{ImageRow, Report};
use crate::store::findings::Making;

/// The most rows.
const MOST_ROWS: usize = 1_000;
/// The most bytes of prompts and settings.
const MOST_BYTES: usize = 1_000_000;
/// The most letters of a prompt.
const MOST_LETTERS: usize = 600;

/// The list and what it leaves out.
pub(in crate::report) struct Images {
    pub(in crate::report) head: Vec<Head>,
    pub(in crate::report) rows: Vec<Row>,
    pub(in crate::report) note: String,
}

/// One image.
pub(in crate::report) struct Row {
    pub(in crate::report) sample: String,
    pub(in crate::report) cells: Vec<Cell>,
    /// What it is made of: names and values.
    pub(in crate::report) more: Vec<(&'static str, String)>,
}

/// The images in the report's order.
pub(super) fn images(report: &Report) -> Images {
    let main: Vec<usize> = (0..report.metrics.len()).filter(|&it| report.metrics[it].main).collect();
    let digits: Vec<Digits> = main
        .iter()
        .map(|&metric| Digits::of(report.sources.iter().flat_map(|it| it.cells[metric].values.iter().copied())))
        .collect();
    let mut head = vec![words("Image"), words("Made of"), words("Source"), numbers("Size")];
    head.extend(main.iter().map(|&it| {
        let column = &report.metrics[it];
        super::sources::metric_head(&column.label, &column.unit, column.better)
    }));
    let mut n_bytes = 0;
    let mut rows = Vec::new();
    for image in report.images.iter().take(MOST_ROWS) {
        let row = row(image, report, &main, &digits);
        n_bytes += row.more.iter().map(|it| it.1.len()).sum::<usize>();
        if n_bytes > MOST_BYTES {
            break;
        }
        rows.push(row);
    }
    let (n, n_all) = (format::thousands(rows.len() as u64), format::thousands(report.images.len() as u64));
    let note = if n == n_all { String::new() } else { format!("The first {n} of {n_all}; report.json has them all.") };
    Images { head, rows, note }
}

fn row(image: &ImageRow, report: &Report, main: &[usize], digits: &[Digits]) -> Row {
    let source = &report.sources[image.source];
    let n_pixels = image.size.map_or(0.0, |(width, height)| f64::from(width) * f64::from(height));
    let mut cells = vec![Cell::words(&source.name), Cell::number(format::size(image.size), n_pixels)];
    for (&metric, digits) in main.iter().zip(digits) {
        cells.push(match image.scores[metric] {
            Some(score) => Cell::number(digits.number(score), score),
            None => Cell::absent("–"),
        });
    }
    let mut more = Vec::new();
    if let Some(prompt) = &image.prompt {
        let cut = prompt.char_indices().nth(MOST_LETTERS);
        more.push(("Prompt", cut.map_or_else(|| prompt.clone(), |(at, _)| format!("{} …", &prompt[..at]))));
    }
    for it in &image.captions {
        let cut = it.text.char_indices().nth(MOST_LETTERS);
        let text = cut.map_or_else(|| it.text.clone(), |(at, _)| format!("{} …", &it.text[..at]));
        more.push(("Caption", it.by.as_ref().map_or_else(|| text.clone(), |by| format!("{text} ({by})"))));
    }
    let others = report.metrics.iter().zip(&image.scores).filter(|(it, _)| !it.main);
    let others: Vec<String> = others
        .filter_map(|(it, score)| Some(format!("{} {}", it.label, Digits::of([(*score)?]).number((*score)?))))
        .collect();
    if !others.is_empty() {
        more.push(("Other scores", others.join(", ")));
    }
    if let Some(settings) = source.making.as_ref().map(settings) {
        more.push(("Settings", settings));
    }
    if let Some(model) = &source.model {
        more.push(("Model", model.clone()));
    }
    more.push(("Recipe (BLAKE3)", image.key.to_string()));
    more.push(("File (BLAKE3)", image.content.to_string()));
    Row { sample: image.sample.clone(), cells, more }
}

fn settings(making: &Making) -> String {
    match making {
        Making::Generated { steps, guidance, negative, seed, t5_tokens, dtype, partition, format, .. } => {
            let negative = match negative.as_deref() {
                None => "no negative prompt".to_owned(),
                Some("") => "empty negative prompt".to_owned(),
                Some(text) => format!("negative prompt “{text}”"),
            };
            format!(
                "seed {seed}, {steps} steps, guidance {guidance}, {negative}, {t5_tokens} T5 tokens, {}, partition {}, {}",
                dtype.word(),
                partition.word(),
                format.word()
            )
        }
        Making::Reconstructed { of, partition, dtype, .. } => {
            format!("of {of}, partition {}, {}", partition.word(), dtype.word())
        }
    }
}
