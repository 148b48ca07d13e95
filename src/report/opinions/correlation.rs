//! Metrics against opinions of pictures: ratings, and shares of choices won.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::{Scene, by};
use crate::labels::agreement::{consolidated, counted};
use crate::labels::{Choice, Judge, Pair};
use crate::report::analysis::sign_of_goodness;
use crate::report::view::{Basis, By, OpinionRow, OpinionTable};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::family::holm;
use crate::stats::logistic::Logistic;
use crate::stats::preference::two_way_accuracy;
use crate::stats::study::{Rows, coefficients, differences};

/// So many values are drawn for one interval at most: with many pictures fewer resamples tell as much.
const MOST_DRAWN: usize = 4_000_000;
const LEAST_RESAMPLES: usize = 400;

/// Opinions of one judge on one aspect.
#[derive(Default)]
struct Said<'a> {
    /// The sum of opinions and how many they are, for each image.
    of_images: BTreeMap<usize, (f64, usize)>,
    raters: BTreeSet<&'a Judge>,
    /// Decisive choices: the image chosen, and the other.
    chosen: Vec<(usize, usize)>,
}

/// Who, on what, how, and whether of parts of pictures.
type Key = (By, String, Basis, bool);

/// A table for each judge and aspect, and how many labels belong in none.
pub(super) fn tables(scene: &Scene, bootstrap: &Bootstrap) -> (Vec<OpinionTable>, Vec<(usize, String)>) {
    let findings = scene.findings;
    let mut groups: BTreeMap<Key, Said> = BTreeMap::new();
    let (mut n_patches, mut n_elsewhere) = (0, 0);
    for it in counted(&findings.ratings, &findings.verdicts, false) {
        let found = match it.area {
            None => scene.image(&it.picture),
            Some(area) => scene.patch(&it.picture, area),
        };
        let Some(image) = found else {
            *(if it.area.is_some() && scene.image(&it.picture).is_some() {
                &mut n_patches
            } else {
                &mut n_elsewhere
            }) += 1;
            continue;
        };
        let is_patch = scene.whole_of.contains_key(&image);
        let said = groups.entry((by(&it.judge), it.aspect.clone(), Basis::Ratings, is_patch)).or_default();
        let (sum, n) = said.of_images.entry(image).or_default();
        (*sum, *n) = (*sum + it.value, *n + 1);
        said.raters.insert(&it.judge);
    }
    let consolidated = consolidated(&findings.verdicts);
    for ((pair, area, aspect), answers) in &consolidated {
        let Pair::Pictures { first, second } = pair else { continue };
        // Choices between parts that are no pictures of their own are of what the parts belong to.
        let patches = area.and_then(|area| scene.patch(first, area).zip(scene.patch(second, area)));
        let Some((first, second)) = patches.or_else(|| scene.image(first).zip(scene.image(second))) else { continue };
        let is_patch = scene.whole_of.contains_key(&first) && scene.whole_of.contains_key(&second);
        for (judge, choice) in answers {
            let said = groups.entry((by(judge), aspect.clone(), Basis::Choices, is_patch)).or_default();
            let won = match choice {
                Choice::First => 1.0,
                Choice::Second => 0.0,
                Choice::Tie | Choice::Invalid => 0.5,
            };
            for (image, won) in [(first, won), (second, 1.0 - won)] {
                let (sum, n) = said.of_images.entry(image).or_default();
                (*sum, *n) = (*sum + won, *n + 1);
            }
            match choice {
                Choice::First => said.chosen.push((first, second)),
                Choice::Second => said.chosen.push((second, first)),
                Choice::Tie | Choice::Invalid => {}
            }
            said.raters.insert(judge);
        }
    }
    let tables = groups.iter().map(|(key, said)| table(scene, key, said, bootstrap)).collect();
    let unused = [
        (n_elsewhere, "ratings of pictures that are not in this report"),
        (
            n_patches,
            "ratings of parts of pictures that no [[patches]] block of the sweep names, so that they have no scores",
        ),
    ];
    (tables, unused.into_iter().filter(|it| it.0 > 0).map(|it| (it.0, it.1.to_owned())).collect())
}

fn table(scene: &Scene, (by, aspect, basis, patches): &Key, said: &Said, bootstrap: &Bootstrap) -> OpinionTable {
    let n = said.of_images.len().max(1);
    let bootstrap =
        Bootstrap { n_resamples: bootstrap.n_resamples.min((MOST_DRAWN / n).max(LEAST_RESAMPLES)), ..*bootstrap };
    let metrics: Vec<(usize, f64)> = scene
        .metrics
        .iter()
        .enumerate()
        .filter_map(|(idx, it)| Some((idx, sign_of_goodness(it.better?))))
        .filter(|(idx, _)| said.of_images.keys().any(|it| scene.images[*it].scores[*idx].is_some()))
        .collect();
    let mut rows: Vec<OpinionRow> =
        metrics.into_par_iter().map(|(metric, sign)| row(scene, metric, sign, said, *basis, &bootstrap)).collect();
    let srcc = |it: &OpinionRow| it.coefficients.srcc.value.unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| srcc(b).total_cmp(&srcc(a)).then(a.metric.cmp(&b.metric)));
    if let Some(first) = rows.first().map(|it| it.metric) {
        let p: Vec<Option<f64>> =
            rows[1..].par_iter().map(|it| p_of_difference(scene, first, it.metric, said, &bootstrap)).collect();
        let adjusted = holm(&p.iter().flatten().copied().collect::<Vec<_>>());
        let mut adjusted = adjusted.into_iter();
        for (row, p) in rows[1..].iter_mut().zip(p) {
            row.p_first = p.and_then(|_| adjusted.next());
        }
    }
    OpinionTable {
        by: by.clone(),
        aspect: aspect.clone(),
        basis: *basis,
        patches: *patches,
        n_raters: said.raters.len(),
        rows,
    }
}

/// The images with an opinion that also `is_wanted`, with their opinions, and those of one sample together.
fn rows_of(scene: &Scene, said: &Said, score: impl Fn(usize) -> Option<f64>) -> Rows {
    let mut rows = Rows::default();
    let mut by_sample: HashMap<&str, usize> = HashMap::new();
    let mut clusters: Vec<Vec<usize>> = Vec::new();
    for (image, (sum, n)) in &said.of_images {
        let Some(x) = score(*image) else { continue };
        let cluster = *by_sample.entry(scene.sample(*image)).or_insert_with(|| {
            clusters.push(Vec::new());
            clusters.len() - 1
        });
        clusters[cluster].push(rows.x.len());
        rows.x.push(x);
        rows.y.push(sum / *n as f64);
    }
    rows.clusters = clusters.iter().any(|it| it.len() > 1).then_some(clusters);
    rows
}

fn row(scene: &Scene, metric: usize, sign: f64, said: &Said, basis: Basis, bootstrap: &Bootstrap) -> OpinionRow {
    let score = |image: usize| Some(sign * scene.images[image].scores[metric]?);
    let rows = rows_of(scene, said, score);
    let choices: Vec<(f64, bool)> =
        said.chosen.iter().filter_map(|(chosen, other)| Some((score(*chosen)? - score(*other)?, true))).collect();
    OpinionRow {
        metric,
        turned: sign < 0.0,
        n: rows.x.len(),
        clustered: rows.clusters.is_some(),
        coefficients: coefficients(&rows, bootstrap),
        p_first: None,
        two_way: (basis == Basis::Choices).then(|| two_way_accuracy(&choices, bootstrap.level)),
        fit: Logistic::fit(&rows.x, &rows.y).ok(),
        points: rows.x.into_iter().zip(rows.y).collect(),
    }
}

fn p_of_difference(scene: &Scene, first: usize, other: usize, said: &Said, bootstrap: &Bootstrap) -> Option<f64> {
    let score = |metric: usize, image: usize| {
        Some(sign_of_goodness(scene.metrics[metric].better?) * scene.images[image].scores[metric]?)
    };
    let both = |image: usize| score(first, image).zip(score(other, image));
    let rows = rows_of(scene, said, |it| both(it).map(|it| it.0));
    let second: Vec<f64> = said.of_images.keys().filter_map(|it| both(*it).map(|it| it.1)).collect();
    differences(&rows, &second, bootstrap).by_bootstrap.srcc.p
}
