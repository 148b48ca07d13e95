//! Held-out losses of settings: against what they were before training, and against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{at, comes_out, finite};
use crate::job::task::finetune::PICTURE;
use crate::report::format::{self, Digits};
use crate::report::view::LossDifference;
use crate::stats::Undefined;
use crate::stats::crossed::{Crossed, crossed};
use crate::stats::family::holm;
use crate::store::findings::Training;

/// Up to this level a difference is called significant.
const LEVEL: f64 = 0.05;
/// Beyond so many settings each is compared with the first alone.
const MOST_MUTUAL: usize = 6;

/// A setting: models that differ in their seeds alone.
struct Setting<'a> {
    name: String,
    /// Which pictures it is looked at with: only equal looks can be compared.
    looks: (crate::job::task::making::Part, usize, crate::job::Hash),
    seeds: BTreeMap<u64, Losses<'a>>,
}

/// The held-out loss of each picture: before the first step, and of the weights that come out.
type Losses<'a> = BTreeMap<&'a str, (f64, f64)>;

/// A model's name without its seed.
pub(in crate::report) fn setting(name: &str, seed: u64) -> String {
    let word = format!(" seed={seed}");
    match name.rfind(&word) {
        Some(at) if name[at + word.len()..].chars().next().is_none_or(|it| it == ' ') => {
            format!("{}{}", &name[..at], &name[at + word.len()..])
        }
        _ => name.to_owned(),
    }
}

/// Every setting against what it was before, and every two settings that were looked at alike, with Holm's adjustment
/// over all of them.
pub(super) fn differences(trainings: &[Training]) -> Vec<LossDifference> {
    let settings = settings(trainings);
    let mut found: Vec<LossDifference> = settings.iter().filter_map(before).collect();
    for (idx, first) in settings.iter().enumerate() {
        if idx == 0 || settings.len() <= MOST_MUTUAL {
            found.extend(settings[idx + 1..].iter().filter_map(|second| against(second, first)));
        }
    }
    let p: Vec<f64> = found.iter().filter_map(|it| Some(it.difference.as_ref().ok()?.p)).collect();
    let mut adjusted = holm(&p).into_iter();
    for it in &mut found {
        it.p_holm = it.difference.is_ok().then(|| adjusted.next()).flatten();
    }
    found
}

fn settings(trainings: &[Training]) -> Vec<Setting<'_>> {
    let mut settings: Vec<Setting> = Vec::new();
    for it in trainings.iter().filter(|it| it.n_pictures.is_some()) {
        let name = setting(&it.name, it.task.seed);
        let looks = (it.task.part(), it.task.rhythm.n_levels, it.looked_at);
        let losses = losses(it);
        if losses.is_empty() {
            continue;
        }
        match settings.iter_mut().find(|known| known.name == name && known.looks == looks) {
            Some(known) => drop(known.seeds.insert(it.task.seed, losses)),
            None => settings.push(Setting { name, looks, seeds: BTreeMap::from([(it.task.seed, losses)]) }),
        }
    }
    settings
}

fn losses(it: &Training) -> Losses<'_> {
    let looks = it.curves.iter().find(|curve| curve.name == "held_out").map(finite).unwrap_or_default();
    let out = comes_out(&it.task, &looks);
    let of = it.curves.iter().filter_map(|curve| {
        let picture = curve.name.strip_prefix(PICTURE)?;
        let points = finite(curve);
        let first = points.first().filter(|it| it.0 == 0)?.1;
        Some((picture, (first, at(&points, out)?)))
    });
    of.collect()
}

/// Against what it was before training: a row a seed, a column a picture.
fn before(setting: &Setting) -> Option<LossDifference> {
    let seeds: Vec<&Losses> = setting.seeds.values().collect();
    let pairs = table(&seeds, &seeds, |it| it.1, |it| it.0)?;
    Some(difference(setting.name.clone(), None, &pairs))
}

/// Against another setting that was looked at alike, seed by seed: the noise of a look follows from the seed.
fn against(first: &Setting, second: &Setting) -> Option<LossDifference> {
    if first.looks != second.looks {
        return None;
    }
    let both: Vec<(&Losses, &Losses)> =
        first.seeds.iter().filter_map(|(seed, losses)| Some((losses, second.seeds.get(seed)?))).collect();
    let (ours, theirs): (Vec<&Losses>, Vec<&Losses>) = both.into_iter().unzip();
    let pairs = table(&ours, &theirs, |it| it.1, |it| it.1)?;
    Some(difference(first.name.clone(), Some(second.name.clone()), &pairs))
}

/// The two losses of each seed and picture that all of them have; none without any.
fn table(
    first: &[&Losses],
    second: &[&Losses],
    of_first: impl Fn(&(f64, f64)) -> f64,
    of_second: impl Fn(&(f64, f64)) -> f64,
) -> Option<Vec<Vec<(f64, f64)>>> {
    let mut all = first.iter().chain(second).map(|it| it.keys().copied().collect::<BTreeSet<&str>>());
    let pictures = all.next()?;
    let pictures = all.fold(pictures, |common, it| common.intersection(&it).copied().collect());
    let row = |(a, b): (&&Losses, &&Losses)| pictures.iter().map(|it| (of_first(&a[it]), of_second(&b[it]))).collect();
    (!pictures.is_empty()).then(|| first.iter().zip(second).map(row).collect())
}

fn difference(first: String, second: Option<String>, pairs: &[Vec<(f64, f64)>]) -> LossDifference {
    let differences: Vec<Vec<f64>> = pairs.iter().map(|row| row.iter().map(|(a, b)| a - b).collect()).collect();
    let n = pairs.iter().map(Vec::len).sum::<usize>() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().flatten().map(of).sum::<f64>() / n;
    LossDifference {
        first,
        second,
        n_seeds: pairs.len(),
        n_pictures: pairs.first().map_or(0, Vec::len),
        first_mean: mean(|it| it.0),
        second_mean: mean(|it| it.1),
        difference: crossed(&differences),
        p_holm: None,
    }
}

/// What a comparison says, in words.
pub(super) fn sentence(it: &LossDifference, n_all: usize) -> String {
    let than = it.second.as_deref().unwrap_or("the model before training");
    let (first, n) = (&it.first, counted(it));
    match (&it.difference, it.p_holm) {
        (Ok(found), Some(p)) if p <= LEVEL => {
            let which = if found.mean < 0.0 { "lower" } else { "higher" };
            format!("{first} has a significantly {which} held-out loss than {than}: {}, {n}.", numbers(found, p, n_all))
        }
        (Ok(found), p) => {
            let p = p.unwrap_or(1.0);
            format!(
                "Whether {first} and {than} differ in their held-out loss cannot be told: {}, {n}.",
                numbers(found, p, n_all)
            )
        }
        (Err(Undefined::Constant), _) => {
            format!(
                "{first} and {than} differ by as much for every seed and picture ({n}): there is no chance in it to judge by."
            )
        }
        (Err(why), _) => format!("Whether {first} and {than} differ in their held-out loss is undefined: {why} ({n})."),
    }
}

fn counted(it: &LossDifference) -> String {
    let n = format!("{} × {}", format::count(it.n_seeds, "seed"), format::count(it.n_pictures, "picture"));
    match (it.n_seeds, it.n_pictures) {
        (1, _) => format!("{n}, so that nothing is said of other seeds"),
        (_, 1) => format!("{n}, so that nothing is said of other pictures"),
        _ => n,
    }
}

fn numbers(it: &Crossed, p: f64, n_all: usize) -> String {
    let digits = Digits::of([it.mean, it.interval.low, it.interval.high]);
    let p = if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") };
    let over = if n_all > 1 { format!(" after Holm's adjustment over {n_all} comparisons") } else { String::new() };
    format!("by {}, 95 % interval {}, {p}{over}", digits.signed(it.mean), digits.interval(&it.interval))
}
