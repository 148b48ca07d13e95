//! What models made: a sheet of small pictures by sample, and reconstructions beside their originals.

use std::collections::HashSet;
use std::path::Path;

use super::detail::Place;
use super::shelf::Shelf;
use super::{DETAIL_QUALITY, Detail, WHOLE_QUALITY, data_uri, scores};
use crate::image::{self, Rgb, jpeg, thumbnail};
use crate::job::Hash;
use crate::report::format;
use crate::report::view::Report;
use crate::report::{Files, Options};
use crate::store::findings::{Findings, Making};

/// The most samples of a sheet.
const MOST_ROWS: usize = 24;
/// The most sources of a sheet.
const MOST_COLUMNS: usize = 12;
/// The longer side of a sheet's pictures.
const SIDE: u32 = 160;
/// The most letters of a prompt.
const MOST_LETTERS: usize = 160;
/// The most originals that are shown beside their reconstructions.
const MOST_ORIGINALS: usize = 4;

/// Small pictures: a row for each sample, a column for each source.
#[derive(Default)]
pub(in crate::report) struct Sheet {
    pub(in crate::report) sources: Vec<String>,
    pub(in crate::report) rows: Vec<SheetRow>,
    /// What it leaves out.
    pub(in crate::report) note: String,
}

/// One sample of a sheet.
pub(in crate::report) struct SheetRow {
    pub(in crate::report) sample: String,
    pub(in crate::report) prompt: String,
    /// Data URI and size, or nothing where there is no picture.
    pub(in crate::report) pictures: Vec<Option<(String, String)>>,
}

/// An original and what autoencoders make of it, at one place.
pub(in crate::report) struct Pair {
    pub(in crate::report) sample: String,
    pub(in crate::report) place: String,
    pub(in crate::report) details: Vec<Detail>,
}

/// The sheet of photographs and generated pictures; none where nothing was generated.
pub(super) fn sheet(report: &Report, findings: &Findings, files: &dyn Files, n_bytes: usize) -> Option<Sheet> {
    let is_generated = |it: &usize| matches!(report.sources[*it].making, Some(Making::Generated { .. }));
    let is_shown = |it: &usize| {
        let source = &report.sources[*it];
        source.rung.is_none() && !matches!(source.making, Some(Making::Reconstructed { .. }))
    };
    if !(0..report.sources.len()).any(|it| is_generated(&it)) {
        return None;
    }
    let of_sample =
        |sample: &str, source: usize| report.images.iter().position(|it| it.source == source && it.sample == sample);
    let mut samples: Vec<&str> =
        report.images.iter().filter(|it| is_generated(&it.source)).map(|it| &*it.sample).collect();
    samples.sort_unstable();
    samples.dedup();
    // Photographs of other samples have no place on it.
    let columns: Vec<usize> = (0..report.sources.len())
        .filter(|it| is_shown(it) && samples.iter().any(|sample| of_sample(sample, *it).is_some()))
        .collect();
    let shown = &columns[..columns.len().min(MOST_COLUMNS)];
    let mut sheet =
        Sheet { sources: shown.iter().map(|&it| report.sources[it].name.clone()).collect(), ..Sheet::default() };
    let mut n_left = n_bytes;
    for sample in samples.iter().take(MOST_ROWS) {
        let images: Vec<Option<usize>> = shown.iter().map(|&it| of_sample(sample, it)).collect();
        let small = |idx: &Option<usize>| {
            let image = &findings.images[(*idx)?];
            let preview = files.read(image.preview.as_ref()?).ok()?;
            let picture = image::decode(&preview, image::MAX_PIXELS).ok()?;
            let bytes = jpeg::encode(&thumbnail(&picture, SIDE), WHOLE_QUALITY).ok()?;
            Some((data_uri(&bytes), format::size(image.size)))
        };
        let pictures: Vec<Option<(String, String)>> = images.iter().map(small).collect();
        let n_row: usize = pictures.iter().flatten().map(|it| it.0.len() + 200).sum();
        if n_row > n_left {
            break;
        }
        n_left -= n_row;
        let prompt = images.iter().flatten().find_map(|it| findings.images[*it].prompt.as_deref()).unwrap_or_default();
        sheet.rows.push(SheetRow { sample: (*sample).to_owned(), prompt: beginning(prompt), pictures });
    }
    let (n_rows, n_columns) = (samples.len() - sheet.rows.len(), columns.len() - shown.len());
    if n_rows + n_columns > 0 {
        sheet.note = format!("Not shown: {n_rows} samples and {n_columns} sources.");
    }
    Some(sheet)
}

/// The first words of a prompt: some have hundreds.
fn beginning(prompt: &str) -> String {
    match prompt.char_indices().nth(MOST_LETTERS) {
        Some((at, _)) => format!("{} …", prompt[..at].trim_end()),
        None => prompt.to_owned(),
    }
}

/// Originals with all their reconstructions, at the place where the first of these differs most from its original.
pub(super) fn pairs(report: &Report, findings: &Findings, options: &Options, files: &dyn Files) -> Vec<Pair> {
    let made: Vec<usize> = (0..findings.images.len()).filter(|&it| findings.images[it].original.is_some()).collect();
    let mut originals: Vec<Hash> = made.iter().filter_map(|&it| original_key(findings, it)).collect();
    let mut seen = HashSet::new();
    originals.retain(|it| seen.insert(*it));
    let mut pairs = Vec::new();
    for key in originals.into_iter().take(MOST_ORIGINALS) {
        let images: Vec<usize> = made.iter().copied().filter(|&it| original_key(findings, it) == Some(key)).collect();
        let Some(&first) = images.first() else { continue };
        let Some(original) = original(findings, files, first, options.max_pixels) else { continue };
        let mut shelf = Shelf::new(findings, files, options.max_pixels);
        let Some(picture) = shelf.picture(first) else { continue };
        let place = Place::of_largest_difference(&original, &picture, options.detail);
        let detail = |picture: &Rgb, label: String, scores: Vec<(String, String)>| {
            let bytes =
                jpeg::encode(&picture.crop(place.x, place.y, place.width, place.height), DETAIL_QUALITY).ok()?;
            let (width, height) = (place.width, place.height);
            Some(Detail { source: label.clone(), label, uri: data_uri(&bytes), width, height, scores })
        };
        let mut details: Vec<Detail> = detail(&original, "Original".to_owned(), Vec::new()).into_iter().collect();
        for idx in images {
            let Some(picture) = shelf.picture(idx) else { continue };
            let row = &report.images[idx];
            details.extend(detail(&picture, report.sources[row.source].name.clone(), scores(row, report)));
        }
        let size = format::size(report.images[first].size);
        pairs.push(Pair { sample: report.images[first].sample.clone(), place: format!("{place} of {size}"), details });
    }
    pairs
}

fn original_key(findings: &Findings, image: usize) -> Option<Hash> {
    findings.images[image].original.as_ref().map(|it| it.picture.key())
}

fn original(findings: &Findings, files: &dyn Files, image: usize, max_pixels: u64) -> Option<Rgb> {
    let original = findings.images[image].original.as_ref()?;
    let path: &Path = original.path.as_deref()?;
    let bytes = files.read(path).ok().filter(|it| Hash::of(it) == original.picture.content)?;
    image::make(&bytes, &original.picture.steps, max_pixels).ok()
}
