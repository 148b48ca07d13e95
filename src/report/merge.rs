//! Several sweeps as one: what a definition picks from each, so that models of different sweeps stand side by side.

use std::collections::{BTreeMap, HashSet};

use super::definition::Definition;
use super::history::pooled_name;
use crate::job::Hash;
use crate::labels::{Rating, Verdict};
use crate::store::findings::{Caption, Effort, Findings};

/// What the definition asks for of these findings, as those of one sweep. `definition_text` stands where a sweep's file
/// would. Sources of one name in two sweeps get their sweep's id.
pub fn merge(definition: &Definition, definition_text: &str, at: &str, all: Vec<Findings>) -> Findings {
    let mut merged = Findings {
        sweep: format!("{} {at}", definition.name),
        name: definition.title.clone(),
        definition: definition_text.to_owned(),
        enqueued_at: all.iter().map(|it| it.enqueued_at.clone()).max().unwrap_or_else(|| at.to_owned()),
        read_at: at.to_owned(),
        program: all.last().map(|it| it.program.clone()).unwrap_or_default(),
        machines: Vec::new(),
        busy_seconds: 0.0,
        jobs: Vec::new(),
        sources: Vec::new(),
        images: Vec::new(),
        scores: Vec::new(),
        set_scores: Vec::new(),
        ratings: Vec::new(),
        verdicts: Vec::new(),
        asked: Vec::new(),
        captions: Vec::new(),
        efforts: Vec::new(),
        failures: Vec::new(),
        trainings: Vec::new(),
    };
    let mut n_named: BTreeMap<String, usize> = BTreeMap::new();
    for source in all.iter().flat_map(|it| &it.sources) {
        *n_named.entry(source.name.clone()).or_default() += 1;
    }
    for mut it in all {
        let slug = it.sweep.clone();
        merged.trainings.append(&mut it.trainings);
        let takes = |idx: usize| {
            let source = &it.sources[idx];
            let (name, _) = pooled_name(&source.name);
            definition.compare.takes(&name, source.model.as_deref())
                || definition.compare.takes(&source.name, source.making.as_ref().map(package))
        };
        // Where each of its sources and images stands among all.
        let first = merged.sources.len();
        let mut sources: Vec<Option<usize>> = Vec::new();
        for idx in 0..it.sources.len() {
            let n = sources.iter().flatten().count();
            sources.push(takes(idx).then_some(first + n));
        }
        let mut images: Vec<Option<usize>> = Vec::with_capacity(it.images.len());
        for mut image in std::mem::take(&mut it.images) {
            let source = sources.get(image.source).copied().flatten();
            images.push(source.map(|source| {
                image.source = source;
                merged.images.push(image);
                merged.images.len() - 1
            }));
        }
        for (source, place) in it.sources.into_iter().zip(&sources) {
            if place.is_some() {
                let is_alone = n_named.get(&source.name) == Some(&1);
                let name = if is_alone { source.name.clone() } else { format!("{} ({slug})", source.name) };
                merged.sources.push(crate::store::findings::Source { name, ..source });
            }
        }
        for mut score in it.scores {
            let image = images.get(score.image).copied().flatten();
            if let Some(image) =
                image.filter(|_| definition.compare.takes_metric(&score.metric.metric, &score.metric.variant))
            {
                score.image = image;
                merged.scores.push(score);
            }
        }
        for mut score in it.set_scores {
            let source = sources.get(score.source).copied().flatten();
            if let Some(source) =
                source.filter(|_| definition.compare.takes_metric(&score.metric.metric, &score.metric.variant))
            {
                score.source = source;
                merged.set_scores.push(score);
            }
        }
        let place = |image: usize| images.get(image).copied().flatten();
        let captions = it.captions.into_iter();
        merged.captions.extend(captions.filter_map(|it| Some(Caption { image: place(it.image)?, ..it })));
        let efforts = it.efforts.into_iter();
        merged.efforts.extend(efforts.filter_map(|it| Some(Effort { image: place(it.image)?, ..it })));
        for mut failure in it.failures {
            // What is about no source is about all.
            let of = failure.source.map(|it| sources.get(it).copied().flatten());
            if of != Some(None) {
                failure.source = of.flatten();
                merged.failures.push(failure);
            }
        }
        // The same picture may be in several sweeps, and so may what was said of it.
        let known: HashSet<Hash> = merged.ratings.iter().map(Rating::key).collect();
        merged.ratings.extend(it.ratings.into_iter().filter(|it| !known.contains(&it.key())));
        let known: HashSet<Hash> = merged.verdicts.iter().map(Verdict::key).collect();
        merged.verdicts.extend(it.verdicts.into_iter().filter(|it| !known.contains(&it.key())));
        merged.asked.append(&mut it.asked);
        merged.busy_seconds += it.busy_seconds;
        merged.machines.extend(it.machines);
        for (state, n) in it.jobs {
            match merged.jobs.iter_mut().find(|it| it.0 == state) {
                Some(known) => known.1 += n,
                None => merged.jobs.push((state, n)),
            }
        }
    }
    merged.machines.sort();
    merged.machines.dedup();
    merged
}

fn package(making: &crate::store::findings::Making) -> &str {
    use crate::store::findings::Making::{Generated, Reconstructed};
    match making {
        Generated { model, .. } | Reconstructed { model, .. } => model,
    }
}
