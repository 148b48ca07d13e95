//! What trained models make, beside the pictures that were held out: distances of mean scores.

use std::collections::BTreeSet;

use super::compared::setting;
use crate::job::task::finetune::PICTURE;
use crate::report::view::{Beside, Column, ImageRow, SourceRow};
use crate::store::findings::{Making, Training};

/// Every setting and what it started from, by every main metric, if a source shows what was held out: pictures that exist,
/// undamaged, all of which some model was looked at with.
pub(super) fn beside(
    trainings: &[Training],
    sources: &[SourceRow],
    images: &[ImageRow],
    metrics: &[Column],
) -> Vec<Beside> {
    let looked_at = trainings.iter().flat_map(|it| &it.curves).filter_map(|it| it.name.strip_prefix(PICTURE));
    let looked_at: BTreeSet<&str> = looked_at.collect();
    let shows_held_out = |idx: usize| {
        let mut own = images.iter().filter(|it| it.source == idx).peekable();
        let source = &sources[idx];
        let is_plain = source.making.is_none() && source.rung.is_none() && own.peek().is_some();
        is_plain && own.all(|it| looked_at.contains(it.content.to_string().as_str()))
    };
    let held_out: Vec<usize> = (0..sources.len()).filter(|it| shows_held_out(*it)).collect();
    let mut found = Vec::new();
    for source in held_out {
        for (model, names) in models(trainings) {
            let of_model = |it: &SourceRow| match &it.making {
                Some(Making::Generated { model, .. }) => names.contains(&model.as_str()),
                _ => false,
            };
            let own: Vec<usize> = (0..sources.len()).filter(|it| of_model(&sources[*it])).collect();
            for metric in (0..metrics.len()).filter(|it| metrics[*it].main) {
                let scores = |of: &[usize]| -> Vec<f64> {
                    let own = images.iter().filter(|it| of.contains(&it.source));
                    own.filter_map(|it| it.scores[metric]).collect()
                };
                let (ours, theirs) = (scores(&own), scores(&[source]));
                let mean = |it: &[f64]| it.iter().sum::<f64>() / it.len() as f64;
                if ours.is_empty() || theirs.is_empty() {
                    continue;
                }
                found.push(Beside {
                    model: model.clone(),
                    held_out: sources[source].name.clone(),
                    metric,
                    n: ours.len(),
                    n_held_out: theirs.len(),
                    mean: mean(&ours),
                    held_out_mean: mean(&theirs),
                    distance: mean(&ours) - mean(&theirs),
                });
            }
        }
    }
    found
}

/// What training started from, unless the sweep trains that too, and the settings: each with the names of its models.
fn models(trainings: &[Training]) -> Vec<(String, Vec<&str>)> {
    let mut models: Vec<(String, Vec<&str>)> = Vec::new();
    let is_trained = |name: &str| trainings.iter().any(|it| it.name == name);
    let bases = trainings.iter().map(|it| it.base.as_str()).filter(|it| !is_trained(it));
    let named = trainings.iter().map(|it| (setting(&it.name, it.task.seed), it.name.as_str()));
    for (model, name) in bases.map(|it| (it.to_owned(), it)).chain(named) {
        match models.iter_mut().find(|it| it.0 == model) {
            Some(known) if known.1.contains(&name) => {}
            Some(known) => known.1.push(name),
            None => models.push((model, vec![name])),
        }
    }
    models
}
