//! Choices between sides: who is preferred to whom, strengths of several, and how judges answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scene, by};
use crate::labels::agreement::consolidated;
use crate::labels::{Area, Choice, Judge, Pair, Shown, Verdict};
use crate::report::view::{By, JudgeRow, Preference, StrengthTable};
use crate::stats::bootstrap::Bootstrap;
use crate::stats::bradley_terry::{Outcomes, fit};
use crate::stats::family::holm;
use crate::stats::preference::{Tally, position_bias};

/// One judge's answer on two sides, for the one that comes first among sides.
struct Answer {
    sample: String,
    choice: Choice,
    /// A tie because the answer turned with the order shown.
    turned: bool,
}

/// A judge's answers on one aspect, by the two sides.
type Answers = BTreeMap<(String, By), BTreeMap<[(usize, String); 2], Vec<Answer>>>;

/// All answers.
pub(super) struct Said {
    answers: Answers,
    /// Choices that are of pictures which the report does not have.
    pub(super) n_elsewhere: usize,
}

/// Sorts the choices by aspect, judge and sides.
pub(super) fn said(scene: &Scene) -> Said {
    let verdicts = &scene.findings.verdicts;
    let turned = turned(verdicts);
    let mut said = Said { answers: BTreeMap::new(), n_elsewhere: 0 };
    for ((pair, area, aspect), answers) in consolidated(verdicts) {
        let (first, second, sample) = match &pair {
            Pair::Pictures { first, second } => {
                let (Some(a), Some(b)) = (scene.image(first), scene.image(second)) else {
                    said.n_elsewhere += answers.len();
                    continue;
                };
                let side = |image: usize| scene.side_of(scene.images[image].source).to_owned();
                (side(a), side(b), scene.images[a].sample.clone())
            }
            Pair::Models { first, second, prompt } => {
                (scene.side_named(first), scene.side_named(second), prompt.clone())
            }
        };
        // Two seeds of one side say nothing of sides.
        if first == second {
            continue;
        }
        let (first, second) = (scene.order_of(&first), scene.order_of(&second));
        for (judge, choice) in answers {
            let is_turned = turned.contains(&(pair.clone(), area, aspect.clone(), judge.clone()));
            let (sides, choice) = if first <= second {
                ([first.clone(), second.clone()], choice)
            } else {
                ([second.clone(), first.clone()], choice.turned())
            };
            let of_judge = said.answers.entry((aspect.clone(), by(&judge))).or_default();
            let answer = Answer { sample: sample.clone(), choice, turned: is_turned };
            of_judge.entry(sides).or_default().push(answer);
        }
    }
    said
}

/// What a question is about, and who answered it.
type Question = (Pair, Option<Area>, String, Judge);

fn in_order(pair: &Pair) -> Pair {
    match pair {
        Pair::Pictures { first, second } if first > second => Pair::Pictures { first: *second, second: *first },
        Pair::Models { first, second, prompt } if first > second => {
            Pair::Models { first: second.clone(), second: first.clone(), prompt: prompt.clone() }
        }
        pair => pair.clone(),
    }
}

/// The decisive answers to each question, by whether the first of the pair in order was chosen.
fn decisive(verdicts: &[Verdict]) -> BTreeMap<Question, BTreeSet<bool>> {
    let mut found: BTreeMap<Question, BTreeSet<bool>> = BTreeMap::new();
    for it in verdicts.iter().filter(|it| it.attention.is_none()) {
        let pair = in_order(&it.pair);
        let choice = if pair == it.pair { it.choice } else { it.choice.turned() };
        if matches!(choice, Choice::First | Choice::Second) {
            let question = (pair, it.area, it.aspect.clone(), it.judge.clone());
            found.entry(question).or_default().insert(choice == Choice::First);
        }
    }
    found
}

/// Questions whose answers contradict each other.
fn turned(verdicts: &[Verdict]) -> BTreeSet<Question> {
    decisive(verdicts).into_iter().filter(|it| it.1.len() > 1).map(|it| it.0).collect()
}

fn tally<'a>(answers: impl Iterator<Item = &'a Answer>) -> Tally {
    let mut tally = Tally::default();
    for it in answers {
        match it.choice {
            Choice::First => tally.wins += 1,
            Choice::Second => tally.losses += 1,
            Choice::Tie | Choice::Invalid => tally.ties += 1,
        }
    }
    tally
}

/// A row for each aspect, judge and two sides.
pub(super) fn preferences(said: &Said, bootstrap: &Bootstrap) -> Vec<Preference> {
    let mut rows = Vec::new();
    for ((aspect, by), of_judge) in &said.answers {
        for ([first, second], answers) in of_judge {
            rows.push(preference(aspect, by, (&first.1, &second.1), answers, bootstrap));
        }
    }
    let defined: Vec<f64> = rows.iter().filter_map(|it| it.p.ok()).collect();
    let mut adjusted = holm(&defined).into_iter();
    for it in &mut rows {
        it.p_holm = it.p.ok().and_then(|_| adjusted.next());
    }
    rows
}

fn preference(
    aspect: &str,
    by: &By,
    (first, second): (&str, &str),
    answers: &[Answer],
    bootstrap: &Bootstrap,
) -> Preference {
    let tally = tally(answers.iter());
    let mut by_sample: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    answers.iter().enumerate().for_each(|(idx, it)| by_sample.entry(&it.sample).or_default().push(idx));
    let clusters: Vec<Vec<usize>> = by_sample.into_values().collect();
    let is_clustered = clusters.iter().any(|it| it.len() > 1);
    let interval = if is_clustered {
        bootstrap.clustered(&clusters, |drawn| self::tally(drawn.iter().map(|it| &answers[*it])).win_rate().ok())
    } else {
        tally.interval(bootstrap.level).ok()
    };
    Preference {
        aspect: aspect.to_owned(),
        by: by.clone(),
        first: first.to_owned(),
        second: second.to_owned(),
        tally,
        n_turned: answers.iter().filter(|it| it.turned).count(),
        n_samples: clusters.len(),
        win_rate: tally.win_rate(),
        interval,
        clustered: is_clustered,
        p: tally.sign_test(),
        p_holm: None,
    }
}

/// Strengths where a judge compared three sides at least.
pub(super) fn strengths(said: &Said, bootstrap: &Bootstrap) -> Vec<StrengthTable> {
    let mut tables = Vec::new();
    for ((aspect, by), of_judge) in &said.answers {
        let sides: Vec<&(usize, String)> = of_judge.keys().flatten().collect::<BTreeSet<_>>().into_iter().collect();
        if sides.len() < 3 {
            continue;
        }
        let mut outcomes = Outcomes::new(sides.len());
        for (pair, answers) in of_judge {
            let [a, b] = [0, 1].map(|it| sides.binary_search(&&pair[it]).expect("every side is in the list"));
            for it in answers {
                match it.choice {
                    Choice::First => outcomes.win(a, b),
                    Choice::Second => outcomes.win(b, a),
                    Choice::Tie | Choice::Invalid => outcomes.tie(a, b),
                }
            }
        }
        let strengths = fit(&outcomes);
        let intervals = strengths
            .as_ref()
            .map(|it| (0..sides.len()).map(|side| it.interval(side, bootstrap.level)).collect())
            .unwrap_or_default();
        let sides = sides.into_iter().map(|it| it.1.clone()).collect();
        tables.push(StrengthTable { aspect: aspect.clone(), by: by.clone(), sides, outcomes, strengths, intervals });
    }
    tables
}

/// How each judge answered, all aspects together.
pub(super) fn judges(verdicts: &[Verdict], level: f64) -> Vec<JudgeRow> {
    let mut groups: BTreeMap<By, Vec<&Verdict>> = BTreeMap::new();
    verdicts
        .iter()
        .filter(|it| it.attention.is_none())
        .for_each(|it| groups.entry(by(&it.judge)).or_default().push(it));
    groups
        .into_iter()
        .map(|(by, of_judge)| {
            let own: Vec<Verdict> = of_judge.iter().map(|it| (*it).clone()).collect();
            let mut orders: BTreeMap<Question, BTreeSet<bool>> = BTreeMap::new();
            for it in of_judge.iter().filter(|it| it.shown != Shown::Unknown && it.choice != Choice::Invalid) {
                let pair = in_order(&it.pair);
                let is_first_shown = (it.shown == Shown::FirstFirst) == (pair == it.pair);
                let question = (pair, it.area, it.aspect.clone(), it.judge.clone());
                orders.entry(question).or_default().insert(is_first_shown);
            }
            let turned = turned(&own);
            let both = orders.iter().filter(|it| it.1.len() > 1);
            let placed: Vec<bool> = of_judge.iter().filter_map(|it| it.chose_first_shown()).collect();
            JudgeRow {
                by,
                n: of_judge.len(),
                n_invalid: of_judge.iter().filter(|it| it.choice == Choice::Invalid).count(),
                n_both: both.clone().count(),
                n_turned: both.filter(|it| turned.contains(it.0)).count(),
                position: position_bias(placed.iter().filter(|it| **it).count() as u64, placed.len() as u64, level),
            }
        })
        .collect()
}
