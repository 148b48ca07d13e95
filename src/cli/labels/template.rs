//! `jobctl labels template`: pictures under blind names, a sheet to fill in, and a key kept apart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::sheet::Item;
use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::cli::report::Library;
use crate::config::Config;
use crate::database;
use crate::image::{MAX_PIXELS, Rgb, damage, png};
use crate::job::Hash;
use crate::labels::{Area, Shown};
use crate::queue::look;
use crate::report::Files;
use crate::store::artifact::Artifacts;
use crate::store::findings::{Findings, Image};
use crate::store::read::findings;

/// Make a sheet of a sweep's pictures for people to fill in: blind names, an order shuffled by a seed.
///
/// DIR gets the pictures (or crops of them) and sheet.csv; what they are stands in a key file beside DIR, which raters
/// do not get. `jobctl labels import DIR/sheet.csv --key DIR.key.jsonl` reads the filled sheet.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jobctl labels template demo --out rate --seed 7 --aspect quality --crop 512 --crops 4
  jobctl labels template demo --out choose --form pairs --aspect 'Visual Aesthetics,Fine Details'")]
pub struct Args {
    /// The sweep: its id, the beginning of it, or its name.
    sweep: String,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Whether each picture gets a number, or one of two is chosen.
    #[arg(long, default_value = "ratings", value_parser = ["ratings", "pairs"])]
    form: String,
    /// The aspects, separated by commas: a row each.
    #[arg(long, value_delimiter = ',', default_value = "quality")]
    aspect: Vec<String>,
    /// Only these sources, separated by commas.
    #[arg(long, value_delimiter = ',')]
    source: Vec<String>,
    /// Show crops of this side in pixels instead of whole pictures.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    crop: Option<u32>,
    /// So many crops of each picture or pair.
    #[arg(long, default_value_t = 1, requires = "crop", value_parser = clap::value_parser!(u32).range(1..=64))]
    crops: u32,
    /// Seed of the names, the order, the sides and the crops.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// At most so many items.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Where the key goes; the default is DIR.key.jsonl.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let pool = database::open(config, 2).await?;
    let (sweep, _) = look::find_sweep(&pool, &args.sweep).await?;
    let artifacts = Artifacts::open(&config.store)?;
    let findings = findings(&pool, &artifacts, sweep).await?;
    if let Some(wrong) = args.source.iter().find(|it| findings.sources.iter().all(|source| source.name != **it)) {
        let names: Vec<&str> = findings.sources.iter().map(|it| it.name.as_str()).collect();
        eprintln!("error: the sweep has no source `{wrong}`; its sources are: {}", names.join(", "));
        return Ok(Outcome::Misused);
    }
    let key = args.key.clone().unwrap_or_else(|| args.out.with_added_extension("key.jsonl"));
    if args.out.exists() && std::fs::read_dir(&args.out)?.next().is_some() || key.exists() {
        eprintln!(
            "error: {} or {} exists: a sheet that people fill in is not overwritten",
            args.out.display(),
            key.display()
        );
        return Ok(Outcome::Misused);
    }
    let files = Library { artifacts, runtime: tokio::runtime::Handle::current() };
    let args_of = Work {
        pairs: args.form == "pairs",
        aspects: args.aspect.clone(),
        sources: args.source.clone(),
        crop: args.crop,
        n_crops: args.crops,
        seed: args.seed,
        limit: args.limit,
        out: args.out.clone(),
    };
    let items = tokio::task::spawn_blocking(move || args_of.make(&findings, &files)).await??;
    let lines: Vec<String> = items.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    std::fs::write(&key, lines.join("\n") + "\n").with_context(|| format!("write {}", key.display()))?;
    let sheet = args.out.join("sheet.csv");
    if args.json {
        say_json(&serde_json::json!({ "sheet": sheet, "key": key, "items": items.len() }))?;
    } else {
        say(format_args!("{} items in {}", items.len(), sheet.display()));
        say(format_args!("the key, not for raters: {}", key.display()));
    }
    Ok(Outcome::Done)
}

/// What is to be made.
struct Work {
    pairs: bool,
    aspects: Vec<String>,
    sources: Vec<String>,
    crop: Option<u32>,
    n_crops: u32,
    seed: u64,
    limit: Option<u32>,
    out: PathBuf,
}

impl Work {
    fn make(&self, findings: &Findings, files: &dyn Files) -> anyhow::Result<Vec<Item>> {
        let mut rng = Pcg64::seed_from_u64(self.seed);
        let is_wanted =
            |it: &&Image| self.sources.is_empty() || self.sources.contains(&findings.sources[it.source].name);
        let mut by_sample: BTreeMap<&str, Vec<&Image>> = BTreeMap::new();
        for it in findings.images.iter().filter(is_wanted) {
            by_sample.entry(&it.sample).or_default().push(it);
        }
        let mut groups: Vec<Vec<&Image>> = Vec::new();
        for of_sample in by_sample.values() {
            if self.pairs {
                for (idx, a) in of_sample.iter().enumerate() {
                    groups.extend(of_sample[idx + 1..].iter().filter(|b| b.key != a.key).map(|b| vec![*a, *b]));
                }
            } else {
                groups.extend(of_sample.iter().map(|it| vec![*it]));
            }
        }
        let mut groups: Vec<(Vec<&Image>, u32)> =
            groups.into_iter().flat_map(|it| (0..self.n_crops).map(move |crop| (it.clone(), crop))).collect();
        shuffle(&mut groups, &mut rng);
        groups.truncate(self.limit.map_or(usize::MAX, |it| it as usize));
        ensure!(
            !groups.is_empty(),
            "the sweep has nothing to show: no picture{}",
            if self.pairs { " that another source has too" } else { "" }
        );
        std::fs::create_dir_all(&self.out).with_context(|| format!("make {}", self.out.display()))?;
        let sheet = self.out.join("sheet.csv");
        let mut writer = csv::Writer::from_path(&sheet).with_context(|| format!("write {}", sheet.display()))?;
        writer.write_record(if self.pairs {
            &["item", "first", "second", "aspect", "rater", "choice", "comment"][..]
        } else {
            &["item", "file", "aspect", "rater", "rating", "comment"][..]
        })?;
        let mut items = Vec::new();
        for (group, _) in &groups {
            let item = self.item(group, findings, files, &mut rng)?;
            let name = |which: &str| format!("{}{which}.png", item.item);
            for aspect in &self.aspects {
                if self.pairs {
                    writer.write_record([&item.item, &name("-1"), &name("-2"), aspect, "", "", ""])?;
                } else {
                    writer.write_record([&item.item, &name(""), aspect, "", "", ""])?;
                }
            }
            items.push(item);
        }
        writer.flush().with_context(|| format!("write {}", sheet.display()))?;
        Ok(items)
    }

    fn item(&self, group: &[&Image], findings: &Findings, files: &dyn Files, rng: &mut Pcg64) -> anyhow::Result<Item> {
        let mut shown: Vec<Rgb> = group.iter().map(|it| picture(it, files)).collect::<anyhow::Result<_>>()?;
        let (width, height) = (shown[0].width, shown[0].height);
        let mut area = None;
        if let Some(side) = self.crop {
            // The same place in both: where sizes differ there is none.
            if shown.iter().any(|it| (it.width, it.height) != (width, height)) {
                bail!("{}: the two pictures have different sizes, so no crop is of the same place", group[0].sample);
            }
            let (side_x, side_y) = (side.min(width), side.min(height));
            let at = Area {
                x: below(rng, width - side_x + 1),
                y: below(rng, height - side_y + 1),
                width: side_x,
                height: side_y,
            };
            shown = shown.iter().map(|it| it.crop(at.x, at.y, at.width, at.height)).collect();
            area = Some(at);
        }
        let second = group.get(1).map(|it| it.key);
        let is_turned = second.is_some() && rng.next_u64() >> 63 == 1;
        if is_turned {
            shown.reverse();
        }
        // The name says nothing to whoever does not have the seed and the pictures.
        let item = Hash::of_value(&("sheet", self.seed, group[0].key, second, area)).to_string()[..10].to_owned();
        for (idx, image) in shown.iter().enumerate() {
            let which = if second.is_some() { format!("-{}", idx + 1) } else { String::new() };
            let path = self.out.join(format!("{item}{which}.png"));
            std::fs::write(&path, png::encode(image)).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Item {
            item,
            picture: group[0].key,
            second,
            area,
            shown: second.map(|_| if is_turned { Shown::SecondFirst } else { Shown::FirstFirst }),
            sample: group[0].sample.clone(),
            sources: group.iter().map(|it| findings.sources[it.source].name.clone()).collect(),
        })
    }
}

/// A cell's picture as its recipe says.
fn picture(image: &Image, files: &dyn Files) -> anyhow::Result<Rgb> {
    let path: &Path =
        image.path.as_deref().with_context(|| format!("{}: this machine does not have its file", image.sample))?;
    let bytes = files.read(path).with_context(|| format!("read {}", path.display()))?;
    ensure!(Hash::of(&bytes) == image.content, "{} has changed since the sweep read it", path.display());
    damage::make(&bytes, &image.picture.steps, MAX_PIXELS).with_context(|| path.display().to_string())
}

fn below(rng: &mut Pcg64, n: u32) -> u32 {
    ((u128::from(rng.next_u64()) * u128::from(n)) >> 64) as u32
}

fn shuffle<T>(items: &mut [T], rng: &mut Pcg64) {
    for it in (1..items.len()).rev() {
        items.swap(it, below(rng, it as u32 + 1) as usize);
    }
}
