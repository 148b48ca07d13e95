//! Contact sheets: small pictures of what models made, by sample and model, and by shape and seed.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use super::{WHOLE_QUALITY, data_uri};
use crate::image::{self, jpeg, thumbnail};
use crate::report::Files;
use crate::report::format;
use crate::report::view::{ImageRow, Report, SourceRow};
use crate::store::findings::{Findings, Making};

/// The most samples of a sheet.
const MOST_ROWS: usize = 24;
/// The most samples whose prompts ask for written words.
const MOST_WORDED: usize = 8;
/// The most sources of a sheet.
const MOST_COLUMNS: usize = 12;
/// The most sheets of shapes and seeds.
const MOST_MATRICES: usize = 3;
/// The longer side of a sheet's pictures.
const SIDE: u32 = 160;
/// The longer side of pictures where words should be legible, and of different shapes.
const LARGE_SIDE: u32 = 224;
/// The most letters of a prompt.
const MOST_LETTERS: usize = 160;

/// What precedes words that a picture is to show.
const ASKING: [&str; 10] = [
    "the word",
    "the text",
    "the words",
    "that says",
    "that reads",
    "reading",
    "lettering",
    "letters",
    "inscription",
    "written",
];

/// Small pictures in rows and columns.
#[derive(Default)]
pub(in crate::report) struct Sheet {
    pub(in crate::report) title: String,
    /// What its rows are.
    pub(in crate::report) corner: &'static str,
    pub(in crate::report) columns: Vec<String>,
    pub(in crate::report) rows: Vec<SheetRow>,
    /// What it leaves out.
    pub(in crate::report) note: String,
}

impl Sheet {
    pub(super) fn n_bytes(&self) -> usize {
        self.note.len() + self.rows.iter().map(SheetRow::n_bytes).sum::<usize>()
    }
}

/// One row of a sheet.
pub(in crate::report) struct SheetRow {
    pub(in crate::report) name: String,
    pub(in crate::report) prompt: String,
    /// One for each column; nothing where there is no picture.
    pub(in crate::report) pictures: Vec<Option<Small>>,
}

impl SheetRow {
    fn n_bytes(&self) -> usize {
        300 + self.prompt.len() + self.pictures.iter().flatten().map(|it| it.uri.len() + 300).sum::<usize>()
    }
}

/// A small picture.
pub(in crate::report) struct Small {
    pub(in crate::report) uri: String,
    pub(in crate::report) width: u32,
    pub(in crate::report) height: u32,
    /// The size of the whole.
    pub(in crate::report) size: String,
}

/// What sheets are made from.
pub(super) struct Sheets<'a> {
    report: &'a Report,
    findings: &'a Findings,
    files: &'a dyn Files,
    by_place: HashMap<(usize, &'a str), usize>,
}

impl<'a> Sheets<'a> {
    pub(super) fn new(report: &'a Report, findings: &'a Findings, files: &'a dyn Files) -> Self {
        let mut by_place = HashMap::new();
        for (idx, it) in report.images.iter().enumerate() {
            by_place.entry((it.source, it.sample.as_str())).or_insert(idx);
        }
        Self { report, findings, files, by_place }
    }

    /// The sheet of models and photographs, a row for each sample; none where no source has a model.
    pub(super) fn models(&self, n_bytes: usize) -> Option<Sheet> {
        let samples = self.samples();
        let title = "Every model's pictures".to_owned();
        self.sheet(title, &samples, MOST_ROWS, SIDE, n_bytes)
    }

    /// The same of the samples whose prompts ask for written words.
    pub(super) fn worded(&self, n_bytes: usize) -> Option<Sheet> {
        let samples: Vec<&str> =
            self.samples().into_iter().filter(|it| self.prompt(it).is_some_and(asks_for_words)).collect();
        let title = "Prompts that ask for written words".to_owned();
        self.sheet(title, &samples, MOST_WORDED, LARGE_SIDE, n_bytes)
    }

    /// Of each block with several sizes: a sheet for each of the first samples, sizes across and seeds down.
    pub(super) fn shapes(&self, n_bytes: usize) -> Vec<Sheet> {
        let mut blocks: Vec<(String, Vec<usize>)> = Vec::new();
        for (idx, source) in self.report.sources.iter().enumerate() {
            let Some(name) = less_size_and_seed(source) else { continue };
            match blocks.iter_mut().find(|it| it.0 == name) {
                Some((_, sources)) => sources.push(idx),
                None => blocks.push((name, vec![idx])),
            }
        }
        let shape = |source: usize| match &self.report.sources[source].making {
            Some(Making::Generated { width, height, seed, .. }) => Some(((*width, *height), *seed)),
            _ => None,
        };
        let samples = self.samples();
        let mut n_left = n_bytes;
        let mut sheets = Vec::new();
        for (name, sources) in blocks {
            let mut sizes: Vec<(u32, u32)> = Vec::new();
            sources.iter().filter_map(|it| shape(*it)).for_each(|(size, _)| {
                if !sizes.contains(&size) {
                    sizes.push(size);
                }
            });
            let seeds: BTreeSet<u64> = sources.iter().filter_map(|it| Some(shape(*it)?.1)).collect();
            if sizes.len() < 2 {
                continue;
            }
            let at = |size, seed| sources.iter().copied().find(|it| shape(*it) == Some((size, seed)));
            for sample in
                samples.iter().filter(|sample| sources.iter().any(|it| self.by_place.contains_key(&(*it, **sample))))
            {
                if sheets.len() == MOST_MATRICES {
                    break;
                }
                let rows = seeds.iter().map(|seed| {
                    let images = sizes.iter().map(|size| self.by_place.get(&(at(*size, *seed)?, *sample)).copied());
                    (format!("seed {seed}"), String::new(), images.collect::<Vec<_>>())
                });
                let rows = self.rows(rows.collect(), LARGE_SIDE, &mut n_left);
                if rows.len() < seeds.len() {
                    return sheets;
                }
                sheets.push(Sheet {
                    title: format!("{name}: {sample}"),
                    corner: "Seed",
                    columns: sizes.iter().map(|it| format::size(Some(*it))).collect(),
                    rows,
                    note: self.prompt(sample).map(|it| beginning(it, 400)).unwrap_or_default(),
                });
            }
        }
        sheets
    }

    /// The samples of which a model has a picture.
    fn samples(&self) -> Vec<&'a str> {
        let has_model = |it: &&ImageRow| self.report.sources[it.source].model.is_some();
        let samples: BTreeSet<&str> =
            self.report.images.iter().filter(has_model).map(|it| it.sample.as_str()).collect();
        samples.into_iter().collect()
    }

    fn prompt(&self, sample: &str) -> Option<&'a str> {
        (0..self.report.sources.len())
            .filter_map(|source| self.by_place.get(&(source, sample)))
            .find_map(|it| self.report.images[*it].prompt.as_deref())
    }

    fn sheet(&self, title: String, samples: &[&str], most: usize, side: u32, n_bytes: usize) -> Option<Sheet> {
        if samples.is_empty() {
            return None;
        }
        let has_one = |source: usize| samples.iter().any(|sample| self.by_place.contains_key(&(source, *sample)));
        // Photographs of other samples have no place on it.
        let columns: Vec<usize> =
            self.report.entrants.iter().flat_map(|it| it.sources.iter().copied()).filter(|it| has_one(*it)).collect();
        let shown = &columns[..columns.len().min(MOST_COLUMNS)];
        let rows = samples.iter().take(most).map(|sample| {
            let images = shown.iter().map(|it| self.by_place.get(&(*it, *sample)).copied()).collect();
            ((*sample).to_owned(), beginning(self.prompt(sample).unwrap_or_default(), MOST_LETTERS), images)
        });
        let mut n_left = n_bytes;
        let rows = self.rows(rows.collect(), side, &mut n_left);
        let left_out = [(samples.len() - rows.len(), "sample"), (columns.len() - shown.len(), "source")];
        let left_out: Vec<String> =
            left_out.into_iter().filter(|it| it.0 > 0).map(|(n, what)| format::count(n, what)).collect();
        let note = if left_out.is_empty() { String::new() } else { format!("Not shown: {}.", format::list(&left_out)) };
        let columns = shown.iter().map(|it| self.report.sources[*it].name.clone()).collect();
        (!rows.is_empty()).then_some(Sheet { title, corner: "Sample", columns, rows, note })
    }

    /// As many of the rows as there is room for.
    fn rows(&self, rows: Vec<(String, String, Vec<Option<usize>>)>, side: u32, n_left: &mut usize) -> Vec<SheetRow> {
        let made: Vec<SheetRow> = rows
            .into_par_iter()
            .map(|(name, prompt, images)| {
                let pictures = images.into_iter().map(|it| self.small(it?, side)).collect();
                SheetRow { name, prompt, pictures }
            })
            .collect();
        let mut shown = Vec::new();
        for row in made {
            if row.n_bytes() > *n_left {
                break;
            }
            *n_left -= row.n_bytes();
            shown.push(row);
        }
        shown
    }

    fn small(&self, idx: usize, side: u32) -> Option<Small> {
        let image = &self.findings.images[idx];
        let preview = self.files.read(image.preview.as_ref()?).ok()?;
        let small = thumbnail(&image::decode(&preview, image::MAX_PIXELS).ok()?, side);
        let uri = data_uri(&jpeg::encode(&small, WHOLE_QUALITY).ok()?);
        Some(Small { uri, width: small.width, height: small.height, size: format::size(image.size) })
    }
}

/// What sources have in common that differ in size and seed alone.
fn less_size_and_seed(source: &SourceRow) -> Option<String> {
    let Some(Making::Generated { width, height, seed, .. }) = &source.making else { return None };
    let name = source.name.replace(&format!(" size={width}x{height}"), "");
    Some(name.strip_suffix(&format!(" seed={seed}")).unwrap_or(&name).to_owned())
}

/// Whether a prompt has words in quotation marks, or says that something is written.
fn asks_for_words(prompt: &str) -> bool {
    let quoted = [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»')].iter().any(|(open, close)| {
        let between = prompt.split_once(*open).and_then(|(_, rest)| rest.split_once(*close));
        between.is_some_and(|(words, _)| words.chars().any(char::is_alphanumeric))
    });
    let small = format!(" {} ", prompt.to_lowercase().replace(|it: char| !it.is_alphanumeric(), " "));
    quoted || ASKING.iter().any(|it| small.contains(&format!(" {it} ")))
}

/// The first words of a prompt: some have hundreds.
pub(super) fn beginning(prompt: &str, n_letters: usize) -> String {
    match prompt.char_indices().nth(n_letters) {
        Some((at, _)) => format!("{} …", prompt[..at].trim_end()),
        None => prompt.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_ask_for_words_are_found() {
        for it in
            ["a sign with \"OPEN\" on it", "A poster that reads hello", "a book with the word peace", "„Ja“ on a wall"]
        {
            assert!(asks_for_words(it), "{it}");
        }
        for it in ["a girl reads a book", "a wall \"\"", "a red dress", "handwritten"] {
            assert!(!asks_for_words(it), "{it}");
        }
    }
}
