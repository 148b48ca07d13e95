//! Which of our sources stand in which table of the paper, and with which numbers.

use std::collections::BTreeMap;

use super::published::{self, key};
use crate::labels::JudgeKind;
use crate::metrics::{Better, TABLE};
use crate::report::format;
use crate::report::view::{
    Basis, Column, Entrant, OpinionTable, PaperColumn, PaperRow, PaperTable, PaperValue, Report, SetCell, SizeRow,
    SourceRow,
};
use crate::stats::study::Estimate;
use crate::store::findings::Making;

/// Classes of size with their tables.
const CLASSES: [(u8, &[u8]); 2] = [(1, &[3, 4]), (2, &[7, 8])];

/// The tables for which there is at least one number of ours.
pub(in crate::report) fn tables(report: &Report) -> Vec<PaperTable> {
    let mut tables = vec![correlations(report), reconstructions(report), efforts(report), trainings(report)];
    for (class, numbers) in CLASSES {
        let of_class = |it: &&Entrant| it.model.is_some() && it.size.is_some_and(|size| class_of(size) == class);
        let ours: Vec<Ours> = report.entrants.iter().filter(of_class).map(|it| of_entrant(it, report)).collect();
        tables.extend(numbers.iter().map(|it| table(*it, &ours, "")));
    }
    tables.push(captions(report));
    tables.push(sizes(report));
    let mut tables: Vec<PaperTable> = tables.into_iter().flatten().collect();
    tables.sort_by_key(|it| it.number);
    tables
}

/// 1 for about as many pixels as 2048×2048 has, 2 for 4096×4096, in whatever shape; 0 for others.
fn class_of((width, height): (u32, u32)) -> u8 {
    let n_pixels = f64::from(width) * f64::from(height);
    let is_about = |side: f64| (0.5..1.5).contains(&(n_pixels / (side * side)));
    match () {
        () if is_about(2048.0) => 1,
        () if is_about(4096.0) => 2,
        () => 0,
    }
}

/// A source or an entrant with its numbers by the paper's names of them.
struct Ours {
    /// What may equal a published key.
    keys: Vec<String>,
    name: String,
    detail: String,
    values: BTreeMap<String, PaperValue>,
}

fn of_entrant(it: &Entrant, report: &Report) -> Ours {
    let mut values = BTreeMap::new();
    for (column, standing) in report.metrics.iter().zip(&it.standings).filter(|(column, _)| is_published(column)) {
        if let Ok(value) = standing.mean {
            let value = PaperValue { value, interval: standing.interval, of_set: false };
            values.insert(column.id.metric.clone(), value);
        }
    }
    with_sets(&mut values, report, |column| it.set[column].as_ref());
    Ours {
        keys: [Some(it.name.as_str()), it.model.as_deref()].into_iter().flatten().map(key).collect(),
        name: it.name.clone(),
        detail: format!("{}, {}", format::size(it.size), format::count(it.n_images, "image")),
        values,
    }
}

fn of_source(idx: usize, it: &SourceRow, report: &Report) -> Ours {
    let mut values = BTreeMap::new();
    for (column, cell) in report.metrics.iter().zip(&it.cells).filter(|(column, _)| is_published(column)) {
        if let Ok(value) = cell.mean {
            values.insert(column.id.metric.clone(), PaperValue { value, interval: cell.interval, of_set: false });
        }
    }
    with_sets(&mut values, report, |column| report.set_scores[column].cells[idx].as_ref());
    // Of a reconstruction, the distance to its originals is the paper's rFID.
    if let Some(fid) = values.get("fid").copied() {
        values.entry("rfid".to_owned()).or_insert(fid);
    }
    let detail = match &it.making {
        Some(Making::Reconstructed { of, .. }) => format!("of {of}, {}", format::count(it.n_images, "image")),
        _ => format::count(it.n_images, "image"),
    };
    Ours { keys: vec![key(&it.name)], name: it.name.clone(), detail, values }
}

/// The paper's numbers are those of the default variants.
fn is_published(column: &Column) -> bool {
    column.main && TABLE.iter().find(|it| it.name == column.id.metric).is_none_or(|it| it.variant == column.id.variant)
}

/// Scores of whole sets stand where the paper has them: the distance of distributions, and the pooled ratio.
fn with_sets<'a>(
    values: &mut BTreeMap<String, PaperValue>,
    report: &'a Report,
    cell: impl Fn(usize) -> Option<&'a SetCell>,
) {
    for (idx, column) in report.set_scores.iter().enumerate() {
        let default = TABLE.iter().find(|it| it.name == column.id.metric);
        if default.is_some_and(|it| it.variant != column.id.variant) {
            continue;
        }
        if let Some(it) = cell(idx)
            && let Some(value) = it.value
        {
            values.insert(column.id.metric.clone(), PaperValue { value, interval: it.interval, of_set: true });
        }
    }
}

/// A table's published rows with ours beside, then ours that it does not have; none where none of ours has a number.
fn table(number: u8, ours: &[Ours], note: &str) -> Option<PaperTable> {
    let published = published::table(number)?;
    // Of a step, that memory ran out is a finding too.
    let has_one = |it: &&Ours| number == 5 || published.columns.iter().any(|column| it.values.contains_key(column));
    let ours: Vec<&Ours> = ours.iter().filter(has_one).collect();
    if ours.is_empty() {
        return None;
    }
    let named = |it: &Ours| Some((it.name.clone(), it.detail.clone()));
    let values = |it: &Ours| published.columns.iter().map(|column| it.values.get(column).copied()).collect();
    let mut rows = Vec::new();
    let mut placed = vec![false; ours.len()];
    for row in &published.rows {
        let numbers: Vec<Option<f64>> = published.columns.iter().map(|it| row.numbers.get(it).copied()).collect();
        let matching: Vec<usize> = (0..ours.len()).filter(|&it| ours[it].keys.contains(&row.key)).collect();
        let row_of = |ours: Option<(String, String)>, values: Vec<Option<PaperValue>>| PaperRow {
            method: row.method.clone(),
            ours,
            values,
            published: numbers.clone(),
            origin: row.origin.clone(),
        };
        if matching.is_empty() {
            rows.push(row_of(None, vec![None; published.columns.len()]));
        }
        for it in matching {
            placed[it] = true;
            rows.push(row_of(named(ours[it]), values(ours[it])));
        }
    }
    for (it, _) in ours.iter().zip(&placed).filter(|(_, placed)| !**placed) {
        rows.push(PaperRow {
            method: it.name.clone(),
            ours: named(it),
            values: values(it),
            published: vec![None; published.columns.len()],
            origin: None,
        });
    }
    let columns = published.columns.iter().map(|name| column(name)).collect();
    Some(PaperTable { number, title: published.title.clone(), note: note.to_owned(), columns, rows })
}

fn column(name: &str) -> PaperColumn {
    let known = TABLE.iter().find(|it| it.name == name);
    // Those that this version does not compute.
    let better = match name {
        "fid" | "rfid" | "lpips" | "memory_gb" | "seconds_per_step" => Some(Better::Lower),
        "clip_score" | "aesthetics" | "srcc" | "plcc" | "throughput" => Some(Better::Higher),
        _ => known.map(|it| it.better),
    };
    let label = match name {
        "rfid" => "rFID".to_owned(),
        "srcc" | "plcc" => name.to_uppercase(),
        "clip_score" => "CLIPScore".to_owned(),
        "memory_gb" => "Memory, GB".to_owned(),
        "seconds_per_step" => "Seconds a step".to_owned(),
        "median_height" | "median_width" | "mean_height" | "mean_width" => format::capitalised(&name.replace('_', " ")),
        _ => format::metric_name(name),
    };
    PaperColumn { metric: name.to_owned(), label, better }
}

/// Table 1: metrics against what people said of each patch, or where no patch was rated of each picture, of the first
/// aspect that was rated.
fn correlations(report: &Report) -> Option<PaperTable> {
    let rated =
        |it: &&OpinionTable| it.by.kind == JudgeKind::Human && it.basis == Basis::Ratings && !it.rows.is_empty();
    let of_patches = |it: &&OpinionTable| rated(it) && it.patches;
    let all = &report.opinions.as_ref()?.correlations;
    let opinions = all.iter().find(of_patches).or_else(|| all.iter().find(rated))?;
    let number = |it: &Estimate| Some(PaperValue { value: it.value.ok()?, interval: it.interval, of_set: false });
    let ours = opinions.rows.iter().filter(|it| is_published(&report.metrics[it.metric])).map(|row| {
        let metric = &report.metrics[row.metric].id.metric;
        let coefficients = [("srcc", &row.coefficients.srcc), ("plcc", &row.coefficients.plcc)];
        let values = coefficients.into_iter().filter_map(|(name, it)| Some((name.to_owned(), number(it)?)));
        Ours {
            keys: vec![metric.clone()],
            name: format::metric_name(metric),
            detail: format!(
                "{}, {}",
                opinions.aspect,
                format::count(row.n, if opinions.patches { "patch" } else { "picture" })
            ),
            values: values.collect(),
        }
    });
    let note = "Here, lower-is-better metrics are taken with a minus, as in the paper; PLCC is that of the raw scores. The \
                paper does not say how many patches and people it asked.";
    table(1, &ours.collect::<Vec<_>>(), note)
}

/// Table 5: what making pictures of 4096×4096 took, on each device.
fn efforts(report: &Report) -> Option<PaperTable> {
    const GB_IN_GIB: f64 = (1_u64 << 30) as f64 / 1e9;
    let ours = report.efforts.iter().filter_map(|it| {
        let entrant = &report.entrants[it.entrant];
        let Some(Making::Generated { width, height, .. }) = &report.sources[entrant.sources[0]].making else {
            return None;
        };
        if class_of((*width, *height)) != 2 {
            return None;
        }
        let number = |value: f64| PaperValue { value, interval: None, of_set: false };
        let values = [("memory_gb", it.most_gib().map(|it| it * GB_IN_GIB)), ("seconds_per_step", it.step_s)];
        let lost = format!("{} lost: out of memory", format::count(it.n_out_of_memory, "picture"));
        let measured = format!("{}, {}", format::size(Some((*width, *height))), format::count(it.n, "picture"));
        let details = [
            it.device.clone().or_else(|| (it.n > 0).then(|| "device unknown".to_owned())),
            (it.n > 0).then_some(measured),
            (it.n_out_of_memory > 0).then_some(lost),
        ];
        Some(Ours {
            keys: [Some(entrant.name.as_str()), entrant.model.as_deref()].into_iter().flatten().map(key).collect(),
            name: entrant.name.clone(),
            detail: details.into_iter().flatten().collect::<Vec<_>>().join(", "),
            values: values.into_iter().filter_map(|(name, it)| Some((name.to_owned(), number(it?)))).collect(),
        })
    });
    let note = "Ours: GB are 10⁹ bytes, the most that was in use on the device while a picture was denoised or decoded, weights \
                and other processes with it; a step is the median without the first, guidance counted as one step; parts of a \
                model are in memory one at a time, as in the paper's offloaded rows. The paper measured on one A100: times of \
                other devices cannot be compared with its.";
    table(5, &ours.collect::<Vec<_>>(), note)
}

/// Table 10: every training that has a speed.
fn trainings(report: &Report) -> Option<PaperTable> {
    let ours = report.trainings.iter().filter_map(|it| {
        let number = |value: f64| PaperValue { value, interval: None, of_set: false };
        let values = [("steps", number(it.n_done as f64)), ("throughput", number(it.images_per_s?))];
        Some(Ours {
            keys: vec![key(&it.name)],
            name: it.name.clone(),
            detail: format!("from {}", it.base),
            values: values.into_iter().map(|(name, it)| (name.to_owned(), it)).collect(),
        })
    });
    let note = "Throughput is in pictures a second, the median over the run. The published unit is the same, which the \
                arithmetic of the models makes doubtful.";
    table(10, &ours.collect::<Vec<_>>(), note)
}

/// Table 2: every reconstruction.
fn reconstructions(report: &Report) -> Option<PaperTable> {
    let is_one = |it: &&(usize, &SourceRow)| matches!(it.1.making, Some(Making::Reconstructed { .. }));
    let sources = report.sources.iter().enumerate();
    let ours: Vec<Ours> = sources.filter(|it| is_one(&it)).map(|(idx, it)| of_source(idx, it, report)).collect();
    table(2, &ours, "The paper scales photographs to 4096 pixels and decodes with the moved partition.")
}

/// Table 6: entrants of equal settings whose prompts differ.
fn captions(report: &Report) -> Option<PaperTable> {
    let mut prompts: BTreeMap<(usize, &str), &str> = BTreeMap::new();
    for it in &report.images {
        if let Some(prompt) = &it.prompt {
            prompts.entry((it.source, &it.sample)).or_insert(prompt);
        }
    }
    let of = |it: &Entrant| -> BTreeMap<&str, &str> {
        let source = it.sources[0];
        prompts.range((source, "")..(source + 1, "")).map(|((_, sample), prompt)| (*sample, *prompt)).collect()
    };
    let differ = |a: &Entrant, b: &Entrant| {
        let (of_a, of_b) = (of(a), of(b));
        a.size == b.size
            && a.model == b.model
            && is_alike(&report.sources[a.sources[0]], &report.sources[b.sources[0]])
            && of_a.iter().any(|(sample, prompt)| of_b.get(sample).is_some_and(|other| other != prompt))
    };
    let made: Vec<&Entrant> = report.entrants.iter().filter(|it| it.model.is_some()).collect();
    let is_one = |it: &&&Entrant| made.iter().any(|other| other.name != it.name && differ(it, other));
    let ours: Vec<Ours> = made.iter().filter(is_one).map(|it| of_entrant(it, report)).collect();
    table(6, &ours, "Models of equal settings that were given other words for the same samples.")
}

fn is_alike(a: &SourceRow, b: &SourceRow) -> bool {
    let less_the_seed = |it: &SourceRow| {
        it.making.clone().map(|mut making| {
            if let Making::Generated { seed, .. } = &mut making {
                *seed = 0;
            }
            making
        })
    };
    less_the_seed(a) == less_the_seed(b)
}

/// Table 9, in whole pixels as the paper has them.
fn sizes(report: &Report) -> Option<PaperTable> {
    let columns = &published::table(9)?.columns;
    let ours = |it: &SizeRow| {
        let number = |value: &f64| PaperValue { value: value.round(), interval: None, of_set: true };
        let name = &report.sources[it.source].name;
        Ours {
            keys: vec![key(name)],
            name: name.clone(),
            detail: format::count(it.n, "image"),
            values: columns.iter().cloned().zip(it.centre.iter().map(number)).collect(),
        }
    };
    let ours: Vec<Ours> = report.sizes.as_ref()?.rows.iter().map(ours).collect();
    table(9, &ours, "In pixels, as the files are shown: after the turn that their EXIF asks for.")
}
