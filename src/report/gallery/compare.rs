//! Pictures of one sample side by side: wholes that a reader can lay over each other, and details of the two places that
//! are most worth a look, at equal coordinates.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::detail::{Grid, Place};
use super::sheet::beginning;
use super::shelf::Shelf;
use super::{AT_ONCE, DETAIL_QUALITY, WHOLE_QUALITY, data_uri, scores};
use crate::image::{Rgb, jpeg, thumbnail};
use crate::metrics::{self, Metric, Subject};
use crate::report::format::{self, Digits};
use crate::report::view::Report;
use crate::report::{Files, Options};
use crate::store::findings::Findings;

/// Longer side of a whole picture, in pixels.
const WHOLE: u32 = 640;
/// Side of a detail.
const INSET: u32 = 256;
/// How many places are shown.
const N_PLACES: usize = 2;
/// Among how many places where contrast differs the metric chooses.
const N_CANDIDATES: usize = 6;
/// The most pictures of one comparison.
const MOST_VIEWS: usize = 6;
/// The most samples that are compared.
const MOST_SAMPLES: usize = 6;
/// So many bytes of pixels of one comparison are kept until its places are chosen; beyond, files are decoded again.
const MOST_KEPT: usize = 96 << 20;
/// The most originals that are shown beside their reconstructions.
const MOST_ORIGINALS: usize = 4;

/// Pictures of one size and sample.
pub(in crate::report) struct Comparison {
    pub(in crate::report) sample: String,
    pub(in crate::report) prompt: String,
    /// Which places are shown, and why.
    pub(in crate::report) why: String,
    /// The places in percent of the picture: left, top, width, height.
    pub(in crate::report) boxes: Vec<[String; 4]>,
    pub(in crate::report) views: Vec<View>,
    /// What could not be shown, and why.
    pub(in crate::report) problems: Vec<String>,
}

/// One of the pictures.
pub(in crate::report) struct View {
    pub(in crate::report) name: String,
    pub(in crate::report) uri: String,
    /// Of the small copy.
    pub(in crate::report) width: u32,
    pub(in crate::report) height: u32,
    pub(in crate::report) insets: Vec<Inset>,
    /// The main metrics' names and scores.
    pub(in crate::report) scores: Vec<(String, String)>,
}

/// A detail at its true size.
pub(in crate::report) struct Inset {
    pub(in crate::report) uri: String,
    pub(in crate::report) width: u32,
    pub(in crate::report) height: u32,
    /// The metric of this place alone, where it chose it.
    pub(in crate::report) score: String,
}

impl Comparison {
    pub(super) fn n_bytes(&self) -> usize {
        let of_view = |it: &View| {
            it.uri.len() + 900 + 80 * it.scores.len() + it.insets.iter().map(|it| it.uri.len() + 300).sum::<usize>()
        };
        1_500 + self.prompt.len() + self.views.iter().map(of_view).sum::<usize>()
    }
}

/// Models against each other, the samples first on which their scores are furthest apart.
pub(super) fn models(report: &Report, findings: &Findings, options: &Options, files: &dyn Files) -> Vec<Comparison> {
    let mut by_place: HashMap<(usize, &str), usize> = HashMap::new();
    for (idx, it) in report.images.iter().enumerate() {
        by_place.entry((it.source, &it.sample)).or_insert(idx);
    }
    // Of several seeds the first, which is the others' first as well where their sweeps name the same.
    let firsts: Vec<usize> = report.entrants.iter().map(|it| it.sources[0]).collect();
    let candidates = report.samples.iter().filter_map(|sample| {
        let of_sample = firsts.iter().filter_map(|&it| by_place.get(&(it, sample.name.as_str())).copied());
        let images = of_one_size(of_sample, report);
        (images.len() > 1).then(|| (spread(&images, report), images))
    });
    let mut candidates: Vec<(f64, Vec<usize>)> = candidates.collect();
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    candidates.truncate(MOST_SAMPLES.min(options.max_samples));
    let metric = metrics::parse("glcm_score").ok().and_then(|it| it.first().copied());
    side_by_side(&candidates, |(_, images)| {
        let mut shelf = Shelf::new(findings, files, options.max_pixels);
        by_metric(images, &mut shelf, report, metric)
    })
}

/// Originals with all their reconstructions, at the places where the first of these differs most from its original.
pub(super) fn reconstructions(
    report: &Report,
    findings: &Findings,
    options: &Options,
    files: &dyn Files,
) -> Vec<Comparison> {
    let mut by_original: Vec<(_, Vec<usize>)> = Vec::new();
    for (idx, it) in findings.images.iter().enumerate() {
        let Some(original) = &it.original else { continue };
        let key = original.picture.key();
        match by_original.iter().position(|it| it.0 == key) {
            Some(place) => by_original[place].1.push(idx),
            None if by_original.len() < MOST_ORIGINALS => by_original.push((key, vec![idx])),
            None => {}
        }
    }
    side_by_side(&by_original, |(_, images)| {
        let mut shelf = Shelf::new(findings, files, options.max_pixels);
        by_difference(images, &mut shelf, report)
    })
}

/// A few at a time: each holds whole pictures in memory.
fn side_by_side<T: Sync>(items: &[T], compare: impl Fn(&T) -> Option<Comparison> + Sync) -> Vec<Comparison> {
    let few = |some: &[T]| some.par_iter().filter_map(&compare).collect::<Vec<_>>();
    items.chunks(AT_ONCE).flat_map(few).collect()
}

/// The images of the size that most of them have, the larger one of two; at most [`MOST_VIEWS`].
fn of_one_size(images: impl Iterator<Item = usize>, report: &Report) -> Vec<usize> {
    let mut by_size: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for idx in images {
        if let Some(size) = report.images[idx].size {
            by_size.entry(size).or_default().push(idx);
        }
    }
    let mut images = by_size.into_values().max_by_key(Vec::len).unwrap_or_default();
    images.truncate(MOST_VIEWS);
    images
}

/// How far the images' scores are apart: over the main metrics, the mean range in mean standard deviations of sources.
fn spread(images: &[usize], report: &Report) -> f64 {
    let main = report.metrics.iter().enumerate().filter(|(_, it)| it.main);
    let ranges = main.filter_map(|(metric, _)| {
        let values: Vec<f64> = images.iter().filter_map(|it| report.images[*it].scores[metric]).collect();
        let (low, high) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(*it), high.max(*it)));
        let sds: Vec<f64> = report.sources.iter().filter_map(|it| it.cells[metric].sd.ok()).collect();
        let scale = sds.iter().sum::<f64>() / sds.len() as f64;
        (values.len() > 1 && scale > 0.0).then(|| (high - low) / scale)
    });
    let ranges: Vec<f64> = ranges.collect();
    if ranges.is_empty() { 0.0 } else { ranges.iter().sum::<f64>() / ranges.len() as f64 }
}

/// At the two places whose own scores by `metric` are furthest apart, among those where contrast is.
fn by_metric(
    images: &[usize],
    shelf: &mut Shelf,
    report: &Report,
    metric: Option<&'static Metric>,
) -> Option<Comparison> {
    let mut seen: Vec<(usize, View)> = Vec::new();
    let mut grids = Vec::new();
    let (mut kept, mut n_kept): (Vec<Option<Rgb>>, usize) = (Vec::new(), 0);
    for &idx in images {
        let Some(picture) = shelf.picture(idx) else { continue };
        let name = report.sources[report.images[idx].source].name.clone();
        if let Some(view) = view(&picture, name, scores(&report.images[idx], report)) {
            grids.push(Grid::of_contrast(&picture));
            seen.push((idx, view));
            n_kept += picture.pixels.len();
            kept.push((n_kept <= MOST_KEPT).then_some(picture));
        }
    }
    let candidates = Grid::furthest_apart(&grids, INSET, N_CANDIDATES);
    let mut crops: Vec<Vec<(Rgb, Option<f64>)>> = Vec::new();
    for ((idx, _), kept) in seen.iter().zip(kept) {
        // Large pictures a second time from the files: all at once would be too much memory.
        let picture = kept.map_or_else(|| shelf.picture(*idx), Some)?;
        let crop = |place: &Place| {
            let crop = place.of(&picture);
            let score = metric.and_then(|it| local(it, &crop));
            (crop, score)
        };
        crops.push(candidates.iter().map(crop).collect());
    }
    let range = |place: usize| {
        let values = crops.iter().filter_map(|it| it[place].1);
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)));
        if high > low { high - low } else { 0.0 }
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| range(b).total_cmp(&range(a)));
    order.truncate(N_PLACES);
    let digits = Digits::of(crops.iter().flatten().filter_map(|it| it.1));
    for ((_, view), crops) in seen.iter_mut().zip(&crops) {
        for &place in &order {
            let (crop, score) = &crops[place];
            let score = score.map_or_else(String::new, |it| format!("GLCM score here {}", digits.number(it)));
            view.insets.extend(inset(crop, score));
        }
    }
    let places: Vec<Place> = order.into_iter().map(|it| candidates[it]).collect();
    let why =
        "where the GLCM score of the place alone differs most between them, among the six places where contrast does";
    finished(images[0], seen, &places, why, shelf, report)
}

/// A metric of a detail alone.
fn local(metric: &'static Metric, crop: &Rgb) -> Option<f64> {
    let subject = Subject { rgb: crop, file_bytes: None, reference: None };
    metrics::evaluate(&[metric], &subject).pop()?.value.ok()
}

/// At the two places where the first picture differs most from its original.
fn by_difference(images: &[usize], shelf: &mut Shelf, report: &Report) -> Option<Comparison> {
    let (&first, original) = (images.first()?, shelf.original(*images.first()?)?);
    let places = Grid::furthest_apart(&[Grid::of_difference(&original, &shelf.picture(first)?)], INSET, N_PLACES);
    let mut seen = Vec::new();
    let mut add = |idx: usize, picture: &Rgb, name: String, scores: Vec<(String, String)>| {
        let Some(mut view) = view(picture, name, scores) else { return };
        view.insets = places.iter().filter_map(|it| inset(&it.of(picture), String::new())).collect();
        seen.push((idx, view));
    };
    add(first, &original, "Original".to_owned(), Vec::new());
    for &idx in images.iter().take(MOST_VIEWS - 1) {
        let Some(picture) = shelf.picture(idx) else { continue };
        let name = report.sources[report.images[idx].source].name.clone();
        add(idx, &picture, name, scores(&report.images[idx], report));
    }
    finished(first, seen, &places, "where the first reconstruction differs most from its original", shelf, report)
}

fn finished(
    first: usize,
    seen: Vec<(usize, View)>,
    places: &[Place],
    why: &str,
    shelf: &Shelf,
    report: &Report,
) -> Option<Comparison> {
    let problems = shelf.problems(report);
    if seen.is_empty() && problems.is_empty() {
        return None;
    }
    let image = &report.images[first];
    let size = image.size?;
    let prompt = seen.iter().find_map(|(idx, _)| report.images[*idx].prompt.as_deref()).unwrap_or_default();
    let at = |it: &Place| format!("{}×{} pixels at {}, {}", it.width, it.height, it.x, it.y);
    let places_in_words = places.iter().map(at).collect::<Vec<_>>();
    Some(Comparison {
        sample: image.sample.clone(),
        prompt: beginning(prompt, 400),
        why: format!("{} of {}: {why}.", format::list(&places_in_words), format::size(Some(size))),
        boxes: places.iter().map(|it| it.percent_of(size)).collect(),
        views: seen.into_iter().map(|it| it.1).collect(),
        problems,
    })
}

fn view(picture: &Rgb, name: String, mut scores: Vec<(String, String)>) -> Option<View> {
    scores.retain(|it| it.1 != "–");
    let small = thumbnail(picture, WHOLE);
    let uri = data_uri(&jpeg::encode(&small, WHOLE_QUALITY).ok()?);
    Some(View { name, uri, width: small.width, height: small.height, insets: Vec::new(), scores })
}

fn inset(crop: &Rgb, score: String) -> Option<Inset> {
    let uri = data_uri(&jpeg::encode(crop, DETAIL_QUALITY).ok()?);
    Some(Inset { uri, width: crop.width, height: crop.height, score })
}
