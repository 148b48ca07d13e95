//! How far raters agree, aspect by aspect, and who fails attention checks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Area, Choice, Judge, JudgeKind, Pair, Rating, Verdict};
use crate::job::Hash;
use crate::stats::agreement::{Level, cohen_kappa, fleiss_kappa, krippendorff_alpha};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::screening::{Screened, Vote, screen};
use crate::stats::{Defined, Interval};

/// The agreement of raters on one aspect.
#[derive(Clone, Debug, Serialize)]
pub struct Ratings {
    /// The aspect.
    pub aspect: String,
    /// Whose.
    pub judge: JudgeKind,
    /// Ratings, attention checks not among them.
    pub n: usize,
    /// Pictures and patches.
    pub n_pictures: usize,
    /// Raters.
    pub n_raters: usize,
    /// Krippendorff's α, ordinal.
    pub alpha_ordinal: Defined,
    /// Its interval, percentile bootstrap over pictures.
    pub interval: Option<Interval>,
    /// Krippendorff's α, interval.
    pub alpha_interval: Defined,
    /// The screening of BT.500: raters it would leave out.
    pub screened: Vec<Rejected>,
}

/// A rater that the screening rejects.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    /// Who.
    pub rater: String,
    /// Why.
    #[serde(flatten)]
    pub counts: Screened,
}

/// The agreement of choices on one aspect.
#[derive(Clone, Debug, Serialize)]
pub struct Choices {
    /// The aspect.
    pub aspect: String,
    /// Whose.
    pub judge: JudgeKind,
    /// Choices, attention checks and invalid answers not among them.
    pub n: usize,
    /// Pairs.
    pub n_pairs: usize,
    /// Raters.
    pub n_raters: usize,
    /// Krippendorff's α, nominal.
    pub alpha: Defined,
    /// Its interval, percentile bootstrap over pairs.
    pub interval: Option<Interval>,
    /// Fleiss' κ; needs as many answers to each pair.
    pub kappa: Defined,
}

/// People and one machine on one aspect: the majority of people's choices against the machine's, where both decide.
#[derive(Clone, Debug, Serialize)]
pub struct HumanMachine {
    /// The aspect.
    pub aspect: String,
    /// The machine.
    pub machine: String,
    /// Pairs on which both decide.
    pub n: usize,
    /// The share on which they agree.
    pub agree: Defined,
    /// Cohen's κ.
    pub kappa: Defined,
}

/// How a rater did in attention checks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Attention {
    /// Who.
    pub rater: String,
    /// Checks passed.
    pub passed: usize,
    /// Checks failed.
    pub failed: usize,
}

/// What all labels say of their raters.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// Ratings.
    pub ratings: Vec<Ratings>,
    /// Choices.
    pub choices: Vec<Choices>,
    /// People against machines.
    pub human_machine: Vec<HumanMachine>,
    /// Raters with attention checks.
    pub attention: Vec<Attention>,
}

/// Computes it.
pub fn agreement(ratings: &[Rating], verdicts: &[Verdict], bootstrap: &Bootstrap) -> Agreement {
    Agreement {
        ratings: of_ratings(ratings, bootstrap),
        choices: of_choices(verdicts, bootstrap),
        human_machine: human_machine(verdicts),
        attention: attention(ratings, verdicts),
    }
}

/// Those of the ratings that count: no attention checks; with `screened`, none of raters who failed more than half of
/// their checks or whom the screening rejects on the aspect.
pub fn counted<'a>(ratings: &'a [Rating], verdicts: &[Verdict], screened: bool) -> Vec<&'a Rating> {
    let ordinary = || ratings.iter().filter(|it| it.attention.is_none());
    if !screened {
        return ordinary().collect();
    }
    let checks = attention(ratings, verdicts);
    let careless: BTreeSet<&str> =
        checks.iter().filter(|it| it.failed > it.passed).map(|it| it.rater.as_str()).collect();
    let mut rejected: BTreeSet<(String, String)> = BTreeSet::new();
    for (key, of_aspect) in by_aspect(ordinary(), |it| (&it.aspect, it.judge.kind)) {
        rejected.extend(rejects(&of_aspect).into_iter().map(|it| (key.0.clone(), it.rater)));
    }
    ordinary()
        .filter(|it| !careless.contains(it.judge.name.as_str()))
        .filter(|it| !rejected.contains(&(it.aspect.clone(), it.judge.name.clone())))
        .collect()
}

fn by_aspect<'a, T>(
    labels: impl Iterator<Item = &'a T>,
    key: impl Fn(&'a T) -> (&'a String, JudgeKind),
) -> BTreeMap<(&'a String, JudgeKind), Vec<&'a T>> {
    let mut groups: BTreeMap<_, Vec<&T>> = BTreeMap::new();
    labels.for_each(|it| groups.entry(key(it)).or_default().push(it));
    groups
}

fn n_raters<'a>(judges: impl Iterator<Item = &'a Judge>) -> usize {
    judges.collect::<BTreeSet<_>>().len()
}

fn of_ratings(ratings: &[Rating], bootstrap: &Bootstrap) -> Vec<Ratings> {
    let ordinary = ratings.iter().filter(|it| it.attention.is_none());
    let groups = by_aspect(ordinary, |it| (&it.aspect, it.judge.kind));
    groups
        .into_iter()
        .map(|((aspect, judge), of_aspect)| {
            let mut units: BTreeMap<(Hash, Option<Area>), Vec<f64>> = BTreeMap::new();
            of_aspect.iter().for_each(|it| units.entry((it.picture, it.area)).or_default().push(it.value));
            let units: Vec<Vec<f64>> = units.into_values().collect();
            Ratings {
                aspect: aspect.clone(),
                judge,
                n: of_aspect.len(),
                n_pictures: units.len(),
                n_raters: n_raters(of_aspect.iter().map(|it| &it.judge)),
                alpha_ordinal: krippendorff_alpha(&units, Level::Ordinal),
                interval: alpha_interval(&units, Level::Ordinal, bootstrap),
                alpha_interval: krippendorff_alpha(&units, Level::Interval),
                screened: rejects(&of_aspect),
            }
        })
        .collect()
}

fn alpha_interval(units: &[Vec<f64>], level: Level, bootstrap: &Bootstrap) -> Option<Interval> {
    krippendorff_alpha(units, level).ok()?;
    bootstrap.percentile(units.len(), |drawn| {
        let drawn: Vec<Vec<f64>> = drawn.iter().map(|it| units[*it].clone()).collect();
        krippendorff_alpha(&drawn, level).ok()
    })
}

fn rejects(ratings: &[&Rating]) -> Vec<Rejected> {
    let names: Vec<&Judge> = ratings.iter().map(|it| &it.judge).collect::<BTreeSet<_>>().into_iter().collect();
    let pictures: Vec<(Hash, Option<Area>)> =
        ratings.iter().map(|it| (it.picture, it.area)).collect::<BTreeSet<_>>().into_iter().collect();
    let place = |judge: &Judge| names.binary_search(&judge).expect("every rater is in the list");
    let votes: Vec<Vote> = ratings
        .iter()
        .map(|it| Vote {
            presentation: pictures.binary_search(&(it.picture, it.area)).expect("every picture is in the list"),
            rater: place(&it.judge),
            value: it.value,
        })
        .collect();
    let found = screen(&votes).into_iter().filter(|it| it.rejected);
    found.map(|it| Rejected { rater: names[it.rater].name.clone(), counts: it }).collect()
}

/// A pair on one aspect, the same whichever way round it was asked.
type Asked<'a> = (Pair, Option<Area>, &'a str);

/// The pair in the order of its names, and the choice about it in that order.
fn ordered(verdict: &Verdict) -> (Pair, Choice) {
    match &verdict.pair {
        Pair::Pictures { first, second } if first > second => {
            (Pair::Pictures { first: *second, second: *first }, verdict.choice.turned())
        }
        Pair::Models { first, second, prompt } if first > second => {
            let pair = Pair::Models { first: second.clone(), second: first.clone(), prompt: prompt.clone() };
            (pair, verdict.choice.turned())
        }
        pair => (pair.clone(), verdict.choice),
    }
}

/// What each judge says of each pair on each aspect: an answer that turns with the order shown is a tie, and what was
/// answered invalidly throughout is not there.
pub fn consolidated(verdicts: &[Verdict]) -> BTreeMap<(Pair, Option<Area>, String), BTreeMap<Judge, Choice>> {
    let mut found: BTreeMap<(Pair, Option<Area>, String), BTreeMap<Judge, Choice>> = BTreeMap::new();
    for it in verdicts.iter().filter(|it| it.attention.is_none() && it.choice != Choice::Invalid) {
        let (pair, choice) = ordered(it);
        let of_pair = found.entry((pair, it.area, it.aspect.clone())).or_default();
        of_pair
            .entry(it.judge.clone())
            .and_modify(|before| *before = if *before == choice { choice } else { Choice::Tie })
            .or_insert(choice);
    }
    found
}

fn of_choices(verdicts: &[Verdict], bootstrap: &Bootstrap) -> Vec<Choices> {
    let mut groups: BTreeMap<(String, JudgeKind), BTreeMap<Asked, BTreeMap<Judge, Choice>>> = BTreeMap::new();
    let consolidated = consolidated(verdicts);
    for ((pair, area, aspect), answers) in &consolidated {
        for (judge, choice) in answers {
            let group = groups.entry((aspect.clone(), judge.kind)).or_default();
            group.entry((pair.clone(), *area, aspect)).or_default().insert(judge.clone(), *choice);
        }
    }
    groups
        .into_iter()
        .map(|((aspect, judge), pairs)| {
            let place = |it: &Choice| match it {
                Choice::First => 0,
                Choice::Second => 1,
                Choice::Tie | Choice::Invalid => 2,
            };
            let units: Vec<Vec<f64>> =
                pairs.values().map(|it| it.values().map(|it| place(it) as f64).collect()).collect();
            let counts: Vec<Vec<usize>> = pairs
                .values()
                .map(|it| {
                    let mut counts = vec![0; 3];
                    it.values().for_each(|it| counts[place(it)] += 1);
                    counts
                })
                .collect();
            Choices {
                aspect,
                judge,
                n: units.iter().map(Vec::len).sum(),
                n_pairs: units.len(),
                n_raters: n_raters(pairs.values().flat_map(BTreeMap::keys)),
                alpha: krippendorff_alpha(&units, Level::Nominal),
                interval: alpha_interval(&units, Level::Nominal, bootstrap),
                kappa: fleiss_kappa(&counts),
            }
        })
        .collect()
}

fn human_machine(verdicts: &[Verdict]) -> Vec<HumanMachine> {
    let mut groups: BTreeMap<(String, Judge), (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for ((_, _, aspect), answers) in consolidated(verdicts) {
        let count =
            |choice: Choice| answers.iter().filter(|it| it.0.kind == JudgeKind::Human && *it.1 == choice).count();
        let (first, second) = (count(Choice::First), count(Choice::Second));
        if first == second {
            continue;
        }
        for (judge, choice) in answers.iter().filter(|it| it.0.kind == JudgeKind::Machine && *it.1 != Choice::Tie) {
            let (people, machine) = groups.entry((aspect.clone(), judge.clone())).or_default();
            people.push(usize::from(second > first));
            machine.push(usize::from(*choice == Choice::Second));
        }
    }
    groups
        .into_iter()
        .map(|((aspect, judge), (people, machine))| HumanMachine {
            aspect,
            machine: if judge.variant.is_empty() { judge.name } else { format!("{} ({})", judge.name, judge.variant) },
            n: people.len(),
            agree: Ok(people.iter().zip(&machine).filter(|(a, b)| a == b).count() as f64 / people.len() as f64),
            kappa: cohen_kappa(&people, &machine),
        })
        .collect()
}

fn attention(ratings: &[Rating], verdicts: &[Verdict]) -> Vec<Attention> {
    let of_ratings = ratings.iter().filter_map(|it| Some((&it.judge.name, it.attention?)));
    let of_verdicts = verdicts.iter().filter_map(|it| Some((&it.judge.name, it.attention?)));
    let mut raters: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
    for (rater, passed) in of_ratings.chain(of_verdicts) {
        let counts = raters.entry(rater).or_default();
        *(if passed { &mut counts.0 } else { &mut counts.1 }) += 1;
    }
    raters.into_iter().map(|(rater, (passed, failed))| Attention { rater: rater.clone(), passed, failed }).collect()
}
