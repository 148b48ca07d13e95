//! Fine-tuning on the page: settings and ends as a table, losses as curves, bands side by side.

mod compared;
mod strips;

use super::figures::Figure;
use crate::job::task::finetune::CURATED;
use crate::job::task::making::Part;
use crate::report::format::{self, Digits};
use crate::report::plot;
use crate::report::table::{Cell, Table, numbers, words};
use crate::report::view::{Report, TrainedModel, TrainingCurve};

/// The section.
pub(in crate::report) struct Training {
    pub(in crate::report) models: Table,
    pub(in crate::report) figures: Vec<Figure>,
    pub(in crate::report) legend: Vec<(String, String)>,
    pub(in crate::report) bands: Option<Table>,
    pub(in crate::report) notes: Vec<String>,
    pub(in crate::report) compared: Option<Table>,
    pub(in crate::report) sentences: Vec<String>,
    pub(in crate::report) samples: Option<Table>,
    pub(in crate::report) strips: Vec<strips::Strip>,
    /// Strips that are not shown.
    pub(in crate::report) n_strips_left: usize,
    /// Whether a loss has wavelet bands.
    pub(in crate::report) has_bands: bool,
}

/// What the sweep trains; none where it trains nothing.
pub(super) fn section(report: &Report) -> Option<Training> {
    if report.trainings.is_empty() {
        return None;
    }
    let legend = report.trainings.iter().enumerate().map(|(idx, it)| (class(idx), it.name.clone()));
    let mut figures = Vec::new();
    for part in [Part::Denoiser, Part::Vae] {
        figures.extend(figure(report, part, true));
        figures.extend(figure(report, part, false));
    }
    let (strips, n_strips_left) = strips::strips(report);
    Some(Training {
        models: models(report),
        figures,
        legend: legend.collect(),
        bands: bands(report),
        notes: notes(report),
        compared: compared::losses(&report.tuning),
        sentences: report.tuning.sentences.clone(),
        samples: compared::samples(report),
        strips,
        n_strips_left,
        has_bands: report.trainings.iter().any(|it| it.parts.len() > 2),
    })
}

/// The class of a model's curves.
fn class(idx: usize) -> String {
    format!("f{}", idx % 8)
}

fn models(report: &Report) -> Table {
    let head = vec![
        words("Model"),
        words("From"),
        words("Part"),
        numbers("Steps"),
        numbers("Pictures"),
        numbers("Held-out loss before").hinting("↓", "lower is better"),
        numbers("after").hinting("↓", "lower is better"),
        numbers("Change"),
        numbers("Images a second"),
        numbers("Memory, GiB"),
        words("Settings"),
    ];
    let mut table = Table { class: "wordy", ..Table::new("Models that were trained", head) };
    let losses = report.trainings.iter().filter_map(|it| it.held_out);
    let digits = Digits::of(losses.flat_map(|it| [it.0, it.1]));
    let number = |it: Option<f64>| it.map_or_else(|| Cell::absent("–"), |it| Cell::number(digits.number(it), it));
    for it in &report.trainings {
        let (before, after) = it.held_out.unzip();
        let change = it.held_out.map(|(before, after)| (after / before - 1.0) * 100.0);
        let settings: Vec<String> = it.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let steps = if it.n_done == it.n_steps {
            format::thousands(it.n_done)
        } else {
            format!("{} of {}", format::thousands(it.n_done), format::thousands(it.n_steps))
        };
        table.rows.push(vec![
            Cell::words(&it.name),
            Cell::words(&it.base),
            Cell::words(it.part.word()),
            Cell::number(steps, it.n_done as f64),
            it.n_pictures.map_or_else(
                || Cell::words(it.state.word()),
                |n| Cell::number(format::thousands(n.into()), f64::from(n)),
            ),
            number(before),
            number(after),
            change.map_or_else(|| Cell::absent("–"), |it| Cell::number(format!("{it:+.1} %").replace('-', "−"), it)),
            it.images_per_s.map_or_else(|| Cell::absent("–"), |it| Cell::number(format!("{it:.2}"), it)),
            it.most_gib.map_or_else(|| Cell::absent("–"), |it| Cell::number(format!("{it:.2}"), it)),
            Cell::words(settings.join("; ")),
        ]);
    }
    table
}

/// The curves of all models of one part: the loss that is learnt with, or that of what is held out.
fn figure(report: &Report, part: Part, is_held_out: bool) -> Option<Figure> {
    let curve = |it: &'_ TrainedModel| if is_held_out { it.looks.clone() } else { it.loss.clone() };
    let shown: Vec<(usize, TrainingCurve)> = report
        .trainings
        .iter()
        .enumerate()
        .filter(|it| it.1.part == part)
        .map(|(idx, it)| (idx, curve(it)))
        .filter(|it| it.1.points.len() > 1)
        .collect();
    if shown.is_empty() {
        return None;
    }
    let what = if part == Part::Vae { "autoencoders" } else { "denoisers" };
    let (title, subtitle) = match (is_held_out, part) {
        (true, Part::Vae) => (format!("Held-out loss, {what}"), "mean square of what is given back ↓".to_owned()),
        (true, _) => (format!("Held-out loss, {what}"), "plain flow matching, whatever is learnt with ↓".to_owned()),
        (false, _) => (format!("Loss, {what}"), "what each model learns with: compare a curve with itself".to_owned()),
    };
    let n = shown.iter().map(|it| it.1.n_in_one).max().unwrap_or(1);
    let subtitle = if n > 1 { format!("{subtitle}; means of {n} points") } else { subtitle };
    let head = vec![words("Model"), numbers("First"), numbers("Lowest"), numbers("Last")];
    let mut table = Table::new(&title, head);
    let digits = Digits::of(shown.iter().flat_map(|it| it.1.points.iter().map(|it| it.1)));
    for (idx, curve) in &shown {
        let lowest = curve.points.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
        let (first, last) = (curve.points[0].1, curve.points[curve.points.len() - 1].1);
        let number = |it: f64| Cell::number(digits.number(it), it);
        let name = Cell::words(&report.trainings[*idx].name);
        table.rows.push(vec![name, number(first), number(lowest), number(last)]);
    }
    let lines: Vec<(String, &[(u64, f64)])> =
        shown.iter().map(|(idx, it)| (class(*idx), it.points.as_slice())).collect();
    Some(Figure {
        alt: format!("{title}, by step: one line for each model. The table beneath has the numbers."),
        title,
        subtitle,
        badge: None,
        svg: plot::curves::chart(&lines),
        table,
    })
}

/// The held-out loss band by band, before and after.
fn bands(report: &Report) -> Option<Table> {
    let models: Vec<&TrainedModel> = report.trainings.iter().filter(|it| it.parts.len() > 2).collect();
    let longest = models.iter().max_by_key(|it| it.parts.len())?;
    let mut head = vec![words("Model")];
    head.extend(longest.parts.iter().map(|it| numbers(&it.name)));
    let mut table = Table::new("Held-out loss by wavelet band, before and after", head);
    let digits = Digits::of(models.iter().flat_map(|it| &it.parts).flat_map(|it| [it.first, it.last]));
    for model in &models {
        let mut row = vec![Cell::words(&model.name)];
        row.extend(longest.parts.iter().map(|band| {
            let found = model.parts.iter().find(|it| it.name == band.name);
            found.map_or_else(
                || Cell::absent("–"),
                |it| Cell::number(format!("{} → {}", digits.number(it.first), digits.number(it.last)), it.last),
            )
        }));
        table.rows.push(row);
    }
    Some(table)
}

fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for it in &report.trainings {
        let (curated, broken): (Vec<&String>, Vec<&String>) = it.left_out.iter().partition(|it| it.contains(CURATED));
        for (which, why) in [(broken, "could not be decoded"), (curated, "lay outside the bounds of curation")] {
            if which.is_empty() {
                continue;
            }
            let shown: Vec<String> = which.iter().take(5).map(|it| it.replace(CURATED, "")).collect();
            let n = format::count(which.len(), "picture");
            notes.push(format!("{}: {n} {why} and were left out ({}).", it.name, shown.join("; ")));
        }
    }
    notes
}
