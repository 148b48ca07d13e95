//! Pictures of data sets with what is said that they show: the paper's Figure 3.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use super::sheet::beginning;
use super::shelf::Shelf;
use super::{AT_ONCE, whole};
use crate::job::Hash;
use crate::job::task::Step;
use crate::report::format;
use crate::report::view::Report;
use crate::report::{Files, Options};
use crate::store::findings::Findings;

/// So many pictures of a set are shown, at equal steps through those that have a caption.
const MOST: usize = 8;
/// So many sets are shown.
const MOST_SETS: usize = 8;
/// The most letters of a caption.
const MOST_LETTERS: usize = 400;

/// A data set.
pub(in crate::report) struct DataSet {
    pub(in crate::report) name: String,
    /// How many pictures it has, and how many of them have a caption.
    pub(in crate::report) hint: String,
    pub(in crate::report) pictures: Vec<Shown>,
    /// What could not be shown, and why.
    pub(in crate::report) problems: Vec<String>,
}

/// One of its pictures.
pub(in crate::report) struct Shown {
    pub(in crate::report) sample: String,
    pub(in crate::report) size: String,
    pub(in crate::report) uri: String,
    /// What it shows, and who says so.
    pub(in crate::report) captions: Vec<(String, String)>,
}

impl DataSet {
    pub(super) fn n_bytes(&self) -> usize {
        let of_captions = |it: &Shown| it.captions.iter().map(|it| it.0.len() + it.1.len() + 60).sum::<usize>();
        500 + self.pictures.iter().map(|it| it.uri.len() + 400 + of_captions(it)).sum::<usize>()
    }
}

/// The sets of pictures that no model made, as far as anybody says what they show: their files, machines, or the prompts that
/// models were given for the same samples. A set of the same files as one before it is left out: crops, say.
pub(super) fn sets(report: &Report, findings: &Findings, options: &Options, files: &dyn Files) -> Vec<DataSet> {
    let mut prompts: HashMap<&str, &str> = HashMap::new();
    for it in &report.images {
        if let Some(prompt) = it.prompt.as_deref().filter(|it| !it.trim().is_empty()) {
            prompts.entry(&it.sample).or_insert(prompt);
        }
    }
    let mut known: BTreeSet<Vec<Hash>> = BTreeSet::new();
    let mut sets: Vec<(usize, Vec<usize>, usize)> = Vec::new();
    for (source, it) in report.sources.iter().enumerate() {
        if it.rung.is_some() || it.making.is_some() || it.model.is_some() {
            continue;
        }
        let is_patch = |it: usize| findings.images[it].picture.steps.iter().any(|it| matches!(it, Step::Patch { .. }));
        let images: Vec<usize> =
            (0..report.images.len()).filter(|it| report.images[*it].source == source && !is_patch(*it)).collect();
        let mut contents: Vec<Hash> = images.iter().map(|it| report.images[*it].content).collect();
        contents.sort_unstable();
        let n_all = images.len();
        let has_words = |it: &usize| {
            let image = &report.images[*it];
            !image.captions.is_empty() || prompts.contains_key(image.sample.as_str())
        };
        let told: Vec<usize> = images.into_iter().filter(has_words).collect();
        if !told.is_empty() && known.insert(contents) {
            sets.push((source, told, n_all));
        }
    }
    sets.truncate(MOST_SETS);
    let shown = |(source, told, n_all): (usize, Vec<usize>, usize)| {
        let n = told.len().min(MOST);
        // The first and the last, and as far apart as can be in between.
        let chosen = (0..n).map(|nth| told[nth * (told.len() - 1) / (n - 1).max(1)]);
        let mut shelf = Shelf::new(findings, files, options.max_pixels);
        let mut pictures = Vec::with_capacity(n);
        for idx in chosen {
            let image = &report.images[idx];
            let Some(uri) = whole(idx, &mut shelf, findings, options) else { continue };
            let mut captions: Vec<(String, String)> = image
                .captions
                .iter()
                .map(|it| (it.by.clone().unwrap_or_default(), beginning(&it.text, MOST_LETTERS)))
                .collect();
            if let (true, Some(prompt)) = (captions.is_empty(), prompts.get(image.sample.as_str())) {
                captions.push(("the prompt that models were given".to_owned(), beginning(prompt, MOST_LETTERS)));
            }
            pictures.push(Shown { sample: image.sample.clone(), size: format::size(image.size), uri, captions });
        }
        let n_told = match told.len() {
            told if told == n_all => "all with captions".to_owned(),
            told => format!("{} with captions", format::thousands(told as u64)),
        };
        DataSet {
            name: report.sources[source].name.clone(),
            hint: format!("{}, {n_told}", format::count(n_all, "picture")),
            pictures,
            problems: shelf.problems(report),
        }
    };
    let mut made = Vec::with_capacity(sets.len());
    while !sets.is_empty() {
        let few: Vec<_> = sets.drain(..AT_ONCE.min(sets.len())).collect();
        made.extend(few.into_par_iter().map(shown).collect::<Vec<DataSet>>());
    }
    made
}
