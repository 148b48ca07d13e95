//! The gallery: whole pictures small, and details at their true size at the same place in all sources.

mod compare;
mod data;
mod detail;
mod patches;
mod sheet;
mod shelf;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;

pub(super) use self::compare::Comparison;
pub(super) use self::data::DataSet;
use self::detail::Place;
pub(super) use self::sheet::Sheet;
use self::sheet::Sheets;
use self::shelf::Shelf;
use super::format::{self, Digits};
use super::view::{ImageRow, Report, Sample};
use super::{Files, Options};
use crate::image::{Rgb, jpeg, thumbnail};
use crate::store::findings::Findings;

/// JPEG quality of details: high enough that what is seen is the picture's damage, not ours.
const DETAIL_QUALITY: u8 = 90;
const WHOLE_QUALITY: u8 = 80;
/// Samples whose pictures are made at the same time.
const AT_ONCE: usize = 2;
/// A preview that is larger than this is made anew, smaller.
const MAX_PREVIEW_BYTES: usize = 64 * 1024;

/// The pictures of a report.
#[derive(Default)]
pub(super) struct Gallery {
    /// Models side by side.
    pub(super) comparisons: Vec<Comparison>,
    /// Reconstructions beside their originals.
    pub(super) reconstructions: Vec<Comparison>,
    /// All models' pictures by sample.
    pub(super) sheet: Option<Sheet>,
    /// Those whose prompts ask for written words.
    pub(super) worded: Option<Sheet>,
    /// Data sets with their captions.
    pub(super) data: Vec<DataSet>,
    /// Which of them are not shown.
    pub(super) data_note: String,
    /// Patches from the highest GLCM score to the lowest.
    pub(super) patches: Vec<Detail>,
    /// Shapes and seeds.
    pub(super) shapes: Vec<Sheet>,
    /// Samples with ladders, or of no model.
    pub(super) samples: Vec<Shown>,
    /// What it leaves out, as sentences.
    pub(super) notes: Vec<String>,
}

/// One sample's pictures.
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) disagreement: String,
    pub(super) wholes: Vec<Whole>,
    /// Details that have nothing beside them, and where they are from.
    pub(super) singles: Vec<(String, Detail)>,
    pub(super) groups: Vec<Group>,
    /// What could not be shown, and why.
    pub(super) problems: Vec<String>,
}

/// A whole picture, small.
pub(super) struct Whole {
    pub(super) source: String,
    pub(super) size: String,
    pub(super) uri: String,
    /// The detail's frame in percent of the picture: left, top, width, height.
    pub(super) frame: Option<[String; 4]>,
}

/// Details of pictures of equal size.
pub(super) struct Group {
    /// Where they are from.
    pub(super) place: String,
    pub(super) rows: Vec<Row>,
}

/// Details side by side: sources that are on no ladder, or a ladder's rungs.
pub(super) struct Row {
    pub(super) title: String,
    pub(super) details: Vec<Detail>,
}

/// A detail at its true size.
pub(super) struct Detail {
    pub(super) label: String,
    pub(super) source: String,
    pub(super) uri: String,
    pub(super) width: u32,
    pub(super) height: u32,
    /// The main metrics' names and scores.
    pub(super) scores: Vec<(String, String)>,
}

impl Shown {
    fn n_bytes(&self) -> usize {
        let wholes = self.wholes.iter().map(|it| it.uri.len() + 400);
        let details = self.groups.iter().flat_map(|it| &it.rows).flat_map(|it| &it.details);
        let details = details.chain(self.singles.iter().map(|it| &it.1));
        wholes.sum::<usize>() + details.map(|it| it.uri.len() + 600 + 80 * it.scores.len()).sum::<usize>()
    }
}

/// The pictures of the first samples, as many as `options` and `n_bytes` allow.
pub(super) fn gallery(
    report: &Report,
    findings: &Findings,
    options: &Options,
    files: &dyn Files,
    n_bytes: usize,
) -> Gallery {
    let mut n_left = n_bytes;
    // What models made is what a report of it is for: it comes first, and may take most of the page.
    let mut gallery = Gallery::default();
    let reconstructions = compare::reconstructions(report, findings, options, files);
    gallery.reconstructions = limited(reconstructions, "original", n_bytes / 2, &mut n_left, &mut gallery.notes);
    let comparisons = compare::models(report, findings, options, files);
    gallery.comparisons = limited(comparisons, "sample", n_bytes / 2, &mut n_left, &mut gallery.notes);
    gallery.patches = patches::patches(report, findings, options, files);
    let n_patches: usize = gallery.patches.iter().map(|it| it.uri.len() + 600 + 80 * it.scores.len()).sum();
    if n_patches > n_left {
        gallery.notes.push("Patches are not shown (the page would grow too large).".to_owned());
        gallery.patches.clear();
    } else {
        n_left -= n_patches;
    }
    for it in data::sets(report, findings, options, files) {
        if it.n_bytes() > n_left / 4 {
            gallery.data_note =
                format!("From {} on, data sets are not shown (the page would grow too large).", it.name);
            break;
        }
        n_left -= it.n_bytes();
        gallery.data.push(it);
    }
    let sheets = Sheets::new(report, findings, files);
    let n_sheet = n_left / 3;
    gallery.shapes = sheets.shapes(n_sheet);
    gallery.worded = sheets.worded(n_sheet / 2);
    gallery.sheet = sheets.models(n_sheet);
    let all = gallery.shapes.iter().chain(&gallery.worded).chain(&gallery.sheet);
    n_left = n_left.saturating_sub(all.map(Sheet::n_bytes).sum());
    if !gallery.comparisons.is_empty() && report.ladders.is_empty() {
        return gallery;
    }
    let mut is_full = false;
    let samples = &report.samples[..report.samples.len().min(options.max_samples)];
    // Few at a time: each holds a whole photograph and its copies in memory.
    for some in samples.chunks(AT_ONCE) {
        let shown: Vec<Shown> = some.par_iter().map(|it| show(it, report, findings, options, files)).collect();
        for it in shown {
            is_full |= it.n_bytes() > n_left;
            if !is_full {
                n_left -= it.n_bytes();
                gallery.samples.push(it);
            }
        }
        if is_full {
            break;
        }
    }
    let n_shown = gallery.samples.len();
    let n_without = report.samples.len() - n_shown;
    if n_without > 0 {
        let why = if is_full { "the page would grow too large" } else { "the gallery's limit" };
        let names: Vec<&str> = report.samples[n_shown..].iter().take(8).map(|it| it.name.as_str()).collect();
        let more =
            if n_without > names.len() { format!(" and {} more", n_without - names.len()) } else { String::new() };
        gallery.notes.push(format!("Not shown ({why}): {}{more}.", names.join(", ")));
    }
    gallery
}

/// The first of `comparisons` for which there is room in `n_most` bytes; what is left out is noted.
fn limited(
    mut comparisons: Vec<Comparison>,
    what: &str,
    n_most: usize,
    n_left: &mut usize,
    notes: &mut Vec<String>,
) -> Vec<Comparison> {
    let mut n_part = n_most.min(*n_left);
    let n_fitting = comparisons
        .iter()
        .take_while(|it| {
            let fits = it.n_bytes() <= n_part;
            n_part = n_part.saturating_sub(it.n_bytes());
            fits
        })
        .count();
    let without = comparisons.split_off(n_fitting).len();
    if without > 0 {
        notes
            .push(format!("Not shown side by side (the page would grow too large): {}.", format::count(without, what)));
    }
    *n_left -= comparisons.iter().map(Comparison::n_bytes).sum::<usize>();
    comparisons
}

fn show(sample: &Sample, report: &Report, findings: &Findings, options: &Options, files: &dyn Files) -> Shown {
    let mut shelf = Shelf::new(findings, files, options.max_pixels);
    let mut shown = Shown {
        name: sample.name.clone(),
        disagreement: sample.disagreement.map(|it| Digits::two().number(it)).unwrap_or_default(),
        wholes: Vec::new(),
        singles: Vec::new(),
        groups: Vec::new(),
        problems: Vec::new(),
    };
    let mut by_size: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for &idx in &sample.images {
        if let Some(size) = report.images[idx].size {
            by_size.entry(size).or_default().push(idx);
        }
    }

    let mut frames: BTreeMap<usize, Place> = BTreeMap::new();
    for (size, images) in by_size.iter().rev() {
        let Some((mut group, place)) = details(images, *size, &mut shelf, report, options) else { continue };
        match group.rows.as_mut_slice() {
            [row] if row.details.len() == 1 => shown.singles.extend(row.details.pop().map(|it| (group.place, it))),
            _ => shown.groups.push(group),
        }
        frames.extend(images.iter().map(|it| (*it, place)));
    }
    for &idx in sample.images.iter().filter(|&&it| report.sources[report.images[it].source].rung.is_none()) {
        let image = &report.images[idx];
        if let Some(uri) = whole(idx, &mut shelf, findings, options) {
            shown.wholes.push(Whole {
                source: report.sources[image.source].name.clone(),
                size: format::size(image.size),
                uri,
                frame: frames.get(&idx).zip(image.size).map(|(place, size)| place.percent_of(size)),
            });
        }
    }
    shown.problems = shelf.problems(report);
    shown
}

/// The details of one group of images, all of `size`, and where they are from.
fn details(
    images: &[usize],
    size: (u32, u32),
    shelf: &mut Shelf,
    report: &Report,
    options: &Options,
) -> Option<(Group, Place)> {
    let rows = rows(images, report);
    let first = *rows.iter().find(|it| it.is_ladder).or(rows.first())?.images.first()?;
    let worst = rows.iter().find(|it| it.is_ladder).or(rows.first())?.images.last().copied()?;
    let place = match (shelf.picture(first), shelf.picture(worst)) {
        (Some(from), Some(to)) => Place::of_largest_difference(&from, &to, options.detail),
        (Some(it), None) | (None, Some(it)) => Place::of_largest_contrast(&it, options.detail),
        (None, None) => return None,
    };

    let mut uris: BTreeMap<usize, String> = BTreeMap::new();
    for &idx in images {
        let Some(picture) = shelf.picture(idx) else { continue };
        let Place { x, y, width, height } = place;
        match jpeg::encode(&picture.crop(x, y, width, height), DETAIL_QUALITY) {
            Ok(bytes) => drop(uris.insert(idx, data_uri(&bytes))),
            Err(why) => shelf.fails(idx, why.to_string()),
        }
    }
    let detail = |idx: usize, is_ladder: bool| {
        let image = &report.images[idx];
        let source = &report.sources[image.source];
        let level = || format::level(source.rung.as_ref().map(|it| it.level));
        Some(Detail {
            label: if is_ladder { level() } else { source.name.clone() },
            source: source.name.clone(),
            uri: uris.get(&idx)?.clone(),
            width: place.width,
            height: place.height,
            scores: scores(image, report),
        })
    };
    let rows = rows
        .into_iter()
        .map(|it| Row {
            title: it.title,
            details: it.images.into_iter().filter_map(|idx| detail(idx, it.is_ladder)).collect(),
        })
        .filter(|it| !it.details.is_empty())
        .collect();
    Some((Group { place: format!("{place} of {}", format::size(Some(size))), rows }, place))
}

/// Images that stand in one row.
struct Plan {
    title: String,
    is_ladder: bool,
    images: Vec<usize>,
}

/// Sources that are on no ladder, then each ladder from its undamaged picture to the worst.
fn rows(images: &[usize], report: &Report) -> Vec<Plan> {
    let source_of = |idx: usize| report.images[idx].source;
    let ladders = report.ladders.iter().map(|ladder| Plan {
        title: format!("{}, {}", ladder.name, format::parameter(&ladder.parameter)),
        is_ladder: true,
        images: ladder
            .rungs
            .iter()
            .filter_map(|rung| images.iter().copied().find(|&it| source_of(it) == rung.source))
            .collect(),
    });
    let ladders: Vec<Plan> = ladders.filter(|it| it.images.len() > 1).collect();
    let plain: Vec<usize> = images.iter().copied().filter(|&it| report.sources[source_of(it)].rung.is_none()).collect();
    // A lone undamaged source stands at the head of its ladders.
    let is_told_apart = plain.len() > 1 || ladders.is_empty();
    let plain = Plan { title: String::new(), is_ladder: false, images: if is_told_apart { plain } else { Vec::new() } };
    std::iter::once(plain).chain(ladders).filter(|it| !it.images.is_empty()).collect()
}

fn scores(image: &ImageRow, report: &Report) -> Vec<(String, String)> {
    let main = report.metrics.iter().zip(&image.scores).enumerate().filter(|(_, (it, _))| it.main);
    main.map(|(metric, (column, score))| {
        let values = report.sources.iter().flat_map(|it| it.cells[metric].values.iter().copied());
        let text = score.map_or_else(|| "–".to_owned(), |it| Digits::of(values).number(it));
        (column.label.clone(), text)
    })
    .collect()
}

/// A whole picture as a small JPEG: its preview where there is a fit one, else made from the file.
fn whole(idx: usize, shelf: &mut Shelf, findings: &Findings, options: &Options) -> Option<String> {
    let preview = findings.images[idx].preview.as_ref().and_then(|it| shelf.files.read(it).ok());
    let is_fit = |it: &Vec<u8>| it.starts_with(&[0xff, 0xd8]) && it.len() <= MAX_PREVIEW_BYTES;
    if let Some(preview) = preview.filter(is_fit) {
        return Some(data_uri(&preview));
    }
    let small: Rgb = thumbnail(&shelf.picture(idx)?, options.thumbnail);
    match jpeg::encode(&small, WHOLE_QUALITY) {
        Ok(bytes) => Some(data_uri(&bytes)),
        Err(why) => {
            shelf.fails(idx, why.to_string());
            None
        }
    }
}

fn data_uri(jpeg: &[u8]) -> String {
    format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg))
}
