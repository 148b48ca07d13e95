//! How models made their sources: the settings of what was generated, the quality of what was reconstructed.

use crate::report::format::{self, Digits};
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{EffortRow, Report};
use crate::store::findings::Making;
use crate::sweep::making::latent_word;

/// The settings of every generated source; none where nothing was generated.
pub(super) fn generated(report: &Report) -> Option<Table> {
    let head = vec![
        words("Source"),
        words("Model"),
        numbers("Size"),
        numbers("Steps"),
        numbers("Guidance"),
        words("Negative prompt"),
        numbers("Seed"),
        numbers("T5 tokens"),
        words("Precision"),
        words("Partition"),
        words("File"),
        numbers("Prompts cut off"),
    ];
    let mut table = Table { class: "wordy", ..Table::new("Settings of the generated sources", head) };
    for source in &report.sources {
        let Some(Making::Generated {
            model,
            width,
            height,
            steps,
            guidance,
            negative,
            seed,
            t5_tokens,
            dtype,
            partition,
            format,
        }) = &source.making
        else {
            continue;
        };
        let n_cut = source.n_truncated.unwrap_or(0);
        let negative = match negative.as_deref() {
            None => "none (no guidance)",
            Some("") => "empty",
            Some(text) => text,
        };
        table.rows.push(vec![
            Cell::words(&source.name),
            Cell::words(model),
            Cell::number(format::size(Some((*width, *height))), f64::from(*width) * f64::from(*height)),
            Cell::number(steps.to_string(), f64::from(*steps)),
            Cell::number(guidance.to_string(), *guidance),
            Cell::words(negative),
            Cell::number(seed.to_string(), *seed as f64),
            Cell::number(t5_tokens.to_string(), f64::from(*t5_tokens)),
            Cell::words(dtype.word()),
            Cell::words(partition.word()),
            Cell::words(format.word()),
            Cell::number(format!("{n_cut} of {}", source.n_images), n_cut as f64),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// What making the generated pictures took, by model and device; none where nothing was measured.
pub(super) fn efforts(report: &Report) -> Option<Table> {
    let head = vec![
        words("Model"),
        words("Device"),
        numbers("Size"),
        numbers("n"),
        numbers("A step")
            .hinting("↓ s", "seconds: the median without each picture's first, guidance counted as one step"),
        numbers("Denoising").hinting("↓ GiB", "the most memory in use"),
        numbers("Decoding").hinting("↓ GiB", "the most memory in use"),
        numbers("Out of memory").hinting("↓", "pictures that could not be made because memory ran out"),
    ];
    let mut table = Table { class: "wordy", ..Table::new("What making the pictures took", head) };
    let all = &report.efforts;
    let digits = |of: fn(&EffortRow) -> Option<f64>| Digits::of(all.iter().filter_map(of));
    for it in all {
        let number = |of: fn(&EffortRow) -> Option<f64>| match of(it) {
            Some(value) => Cell::number(digits(of).number(value), value),
            None => Cell::absent("–"),
        };
        let entrant = &report.entrants[it.entrant];
        let size = match &report.sources[entrant.sources[0]].making {
            Some(Making::Generated { width, height, .. }) => Some((*width, *height)),
            _ => entrant.size,
        };
        let n_pixels = size.map_or(0.0, |(width, height)| f64::from(width) * f64::from(height));
        table.rows.push(vec![
            Cell::words(&entrant.name),
            it.device.as_ref().map_or_else(|| Cell::absent("unknown"), Cell::words),
            Cell::number(format::size(size), n_pixels),
            Cell::number(format::thousands(it.n as u64), it.n as f64),
            number(|it| it.step_s),
            number(|it| it.denoise_gib),
            number(|it| it.decode_gib),
            Cell::number(it.n_out_of_memory.to_string(), it.n_out_of_memory as f64),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The mean scores of every reconstructed source, and by how far its pictures have moved; none where nothing was
/// reconstructed.
pub(super) fn reconstructed(report: &Report) -> Option<Table> {
    let metrics: Vec<usize> = ["psnr", "ssim", "nmse", "best_shift"]
        .into_iter()
        .filter_map(|name| report.metrics.iter().position(|it| it.main && it.id.metric == name))
        .collect();
    let mut head = vec![
        words("Reconstruction"),
        words("Of"),
        words("Model"),
        words("Latent"),
        words("Partition"),
        words("Precision"),
        numbers("n"),
    ];
    head.extend(metrics.iter().map(|&it| {
        let column = &report.metrics[it];
        let unit = if column.unit.is_empty() { String::new() } else { format!(" {}", column.unit) };
        numbers(&column.label)
            .hinting(format!("{}{unit}", format::arrow(column.better)), format::arrow_words(column.better))
    }));
    head.push(words("Moved"));
    let mut table = Table::new("Mean quality of the reconstructions", head);
    for (source_idx, source) in report.sources.iter().enumerate() {
        let Some(Making::Reconstructed { model, of, latent, partition, dtype }) = &source.making else { continue };
        let mut row = vec![
            Cell::words(&source.name),
            Cell::words(of),
            Cell::words(model),
            Cell::words(latent_word(*latent)),
            Cell::words(partition.word()),
            Cell::words(dtype.word()),
            Cell::number(format::thousands(source.n_images as u64), source.n_images as f64),
        ];
        for &metric in &metrics {
            let digits = Digits::of(report.sources.iter().filter_map(|it| it.cells[metric].mean.ok()));
            row.push(match source.cells[metric].mean {
                Ok(mean) => Cell::number(digits.number(mean), mean),
                Err(_) => Cell::absent("–"),
            });
        }
        row.push(Cell::words(moved(report, source_idx)));
        table.rows.push(row);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// What the best shift says of a source's pictures, with how many it says each of.
fn moved(report: &Report, source: usize) -> String {
    let says = report
        .remarks
        .iter()
        .filter(|it| it.source == source && report.metrics[it.metric].id.metric == "best_shift")
        .map(|it| format!("{} ({})", it.why, it.samples.len()));
    let says: Vec<String> = says.collect();
    if says.is_empty() { "–".to_owned() } else { says.join(", ") }
}
