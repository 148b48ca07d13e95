//! Finding the pictures that rows name, and making labels of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use sqlx::PgPool;

use super::sheet::Item;
use crate::job::Hash;
use crate::labels::rows::{About, Entry, Named, Says};
use crate::labels::{Area, Choice, Pair, Rating, Shown, Verdict};
use crate::store::labels::{Place, pictures_by_prefix, pictures_of_files, places};

/// All that is known of the pictures that a file names.
pub(super) struct Resolver {
    items: BTreeMap<String, Item>,
    base: PathBuf,
    places: Vec<Place>,
    /// Which sweep was named at all.
    has_sweep: bool,
    files: HashMap<PathBuf, Result<Hash, String>>,
    of_contents: HashMap<Hash, Hash>,
    prefixes: HashMap<String, Vec<Hash>>,
}

/// The labels of a file, each with its line, and what could not be found.
pub(super) struct Labels {
    pub(super) ratings: Vec<Rating>,
    pub(super) rating_lines: Vec<u64>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) verdict_lines: Vec<u64>,
    pub(super) faults: Vec<String>,
}

fn named(entry: &Entry) -> Vec<&Named> {
    match &entry.about {
        About::Picture(one) => vec![one],
        About::Pictures(one, other) => vec![one, other],
        About::Item(_) | About::Models(..) => Vec::new(),
    }
}

impl Resolver {
    /// Reads the files that rows name and asks the database for the rest.
    pub(super) async fn load(
        pool: &PgPool,
        sweep: Option<i32>,
        base: &Path,
        items: BTreeMap<String, Item>,
        entries: &[Entry],
    ) -> anyhow::Result<Self> {
        let places = match sweep {
            Some(sweep) => places(pool, sweep).await?,
            None => Vec::new(),
        };
        let mut found = Self {
            items,
            base: base.to_path_buf(),
            places,
            has_sweep: sweep.is_some(),
            files: HashMap::new(),
            of_contents: HashMap::new(),
            prefixes: HashMap::new(),
        };
        for it in entries.iter().flat_map(named) {
            match it {
                Named::Path(path) => {
                    let path = base.join(path);
                    let read = |path: &PathBuf| std::fs::read(path).map(|it| Hash::of(&it));
                    found.files.entry(path).or_insert_with_key(|path| read(path).map_err(|error| error.to_string()));
                }
                Named::Hash(digits) => {
                    if !found.prefixes.contains_key(digits) {
                        found.prefixes.insert(digits.clone(), pictures_by_prefix(pool, digits).await?);
                    }
                }
                Named::Sample { .. } => {}
            }
        }
        let contents: Vec<Hash> = found.files.values().filter_map(|it| it.as_ref().ok()).copied().collect();
        found.of_contents = pictures_of_files(pool, &contents).await?;
        Ok(found)
    }

    fn picture(&self, named: &Named) -> anyhow::Result<Hash> {
        match named {
            Named::Path(word) => match &self.files[&self.base.join(word)] {
                Ok(content) => Ok(self.of_contents[content]),
                Err(error) => {
                    // A sheet may come back without the pictures: their names may be the samples'.
                    let stem = Path::new(word).with_extension("");
                    let mut fits = self.places.iter().filter(|it| Path::new(&it.sample) == stem);
                    match (fits.next(), fits.next()) {
                        (Some(only), None) => Ok(only.picture),
                        _ => bail!("no picture {}: {error}", self.base.join(word).display()),
                    }
                }
            },
            Named::Hash(digits) => match self.prefixes[digits].as_slice() {
                [only] => Ok(*only),
                [] => bail!("no picture has a hash that begins with {digits}"),
                _ => bail!("several pictures have hashes that begin with {digits}"),
            },
            Named::Sample { sample, source } => self.place(sample, source.as_deref()),
        }
    }

    fn place(&self, sample: &str, source: Option<&str>) -> anyhow::Result<Hash> {
        ensure!(self.has_sweep, "samples and sources are of a sweep: `--sweep` says which");
        let fits_source =
            |it: &&Place| source.is_none_or(|source| it.source == source || it.model.as_deref() == Some(source));
        let mut fits = self.places.iter().filter(|it| it.sample == sample).filter(fits_source);
        match (fits.next(), fits.next()) {
            (Some(only), None) => Ok(only.picture),
            (None, _) => {
                let of = source.map_or_else(String::new, |it| format!(" of `{it}`"));
                let near = self.places.iter().rev().filter(fits_source);
                let near = near.map(|it| (strsim::jaro_winkler(&it.sample, sample), &it.sample));
                let near = near.filter(|it| it.0 > 0.85).max_by(|a, b| a.0.total_cmp(&b.0));
                let meant = near.map_or_else(String::new, |it| format!("; did you mean `{}`?", it.1));
                bail!("the sweep has no sample `{sample}`{of}{meant}")
            }
            _ => bail!("the sweep has sample `{sample}` more than once: name its source"),
        }
    }

    /// The labels of all rows whose pictures are known.
    pub(super) fn labels(&self, entries: &[Entry]) -> Labels {
        let mut labels = Labels {
            ratings: Vec::new(),
            rating_lines: Vec::new(),
            verdicts: Vec::new(),
            verdict_lines: Vec::new(),
            faults: Vec::new(),
        };
        for it in entries {
            match self.label(it) {
                Ok(Label::Rating(rating)) => {
                    labels.ratings.push(rating);
                    labels.rating_lines.push(it.line);
                }
                Ok(Label::Verdict(verdict)) => {
                    labels.verdicts.push(verdict);
                    labels.verdict_lines.push(it.line);
                }
                Err(error) => labels.faults.push(format!("line {}: {error:#}", it.line)),
            }
        }
        labels
    }

    fn label(&self, entry: &Entry) -> anyhow::Result<Label> {
        let item = match &entry.about {
            About::Item(name) => Some(self.items.get(name).with_context(|| format!("the key has no item `{name}`"))?),
            _ => None,
        };
        match entry.says {
            Says::Rating(value) => {
                let (picture, area) = match (&entry.about, item) {
                    (_, Some(item)) => {
                        ensure!(item.second.is_none(), "item `{}` is a pair and wants a choice", item.item);
                        (item.picture, item.area)
                    }
                    (About::Picture(named), _) => (self.picture(named)?, entry.area),
                    _ => bail!("a rating is of one picture"),
                };
                Ok(Label::Rating(rating(entry, picture, area, value)))
            }
            Says::Choice(choice) => {
                let (pair, area, shown, choice) = match (&entry.about, item) {
                    (_, Some(item)) => of_item(item, choice)?,
                    (About::Pictures(first, second), _) => {
                        let (first, second) = (self.picture(first)?, self.picture(second)?);
                        ensure!(first != second, "both are the same picture");
                        (Pair::Pictures { first, second }, entry.area, entry.shown, choice)
                    }
                    (About::Models(first, second, prompt), _) => {
                        let pair =
                            Pair::Models { first: first.clone(), second: second.clone(), prompt: prompt.clone() };
                        (pair, entry.area, entry.shown, choice)
                    }
                    _ => bail!("a choice is between two"),
                };
                Ok(Label::Verdict(Verdict {
                    pair,
                    area,
                    aspect: entry.aspect.clone(),
                    judge: entry.judge.clone(),
                    shown,
                    choice,
                    reason: entry.reason.clone(),
                    attention: entry.attention,
                }))
            }
        }
    }
}

enum Label {
    Rating(Rating),
    Verdict(Verdict),
}

fn rating(entry: &Entry, picture: Hash, area: Option<Area>, value: f64) -> Rating {
    Rating {
        picture,
        area,
        aspect: entry.aspect.clone(),
        judge: entry.judge.clone(),
        value,
        scale: entry.scale,
        attention: entry.attention,
    }
}

/// The pair of a sheet's item. The sheet's choice is of what it shows: its first may be the pair's second.
fn of_item(item: &Item, choice: Choice) -> anyhow::Result<(Pair, Option<Area>, Shown, Choice)> {
    let second = item.second.with_context(|| format!("item `{}` is one picture and wants a rating", item.item))?;
    let shown = item.shown.unwrap_or(Shown::Unknown);
    let choice = if shown == Shown::SecondFirst { choice.turned() } else { choice };
    Ok((Pair::Pictures { first: item.picture, second }, item.area, shown, choice))
}
