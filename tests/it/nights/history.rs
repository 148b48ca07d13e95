//! What a night says of the one before: pure, on values that are made here.

use std::collections::{BTreeMap, BTreeSet};

use jobctl::job::Hash;
use jobctl::job::task::MetricId;
use jobctl::report::history::{Found, How, Kept, Verdict, analyse, words};
use jobctl::store::nights::{Night, NightFailure, NightScores, NightSet, NightSource, NightSweep};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::definition;

const FIRST: OffsetDateTime = datetime!(2026-11-01 07:00 UTC);

/// A night `n` days after the first, of these sources with so many pictures each.
fn night(n: i64, sources: &[&str], n_pictures: i32) -> Night {
    let source = |name: &&str| NightSource {
        sweep: 0,
        name: (*name).to_owned(),
        model: None,
        making: None,
        packages: BTreeSet::new(),
        pictures: Hash::of(name.as_bytes()),
        samples: (0..n_pictures).map(|it| (it, format!("s{it}"))).collect(),
    };
    Night {
        at: FIRST + Duration::days(n),
        sweeps: vec![NightSweep {
            row: 1,
            slug: "small-12345678".to_owned(),
            name: "small".to_owned(),
            programs: BTreeSet::from(["jobctl 0.1.0 (aaa)".to_owned()]),
            machines: BTreeSet::new(),
            n_unfinished: 0,
        }],
        sources: sources.iter().map(source).collect(),
        scores: Vec::new(),
        sets: Vec::new(),
        failures: Vec::new(),
    }
}

fn metric(name: &str, version: u32) -> MetricId {
    let row = jobctl::metrics::TABLE.iter().find(|it| it.name == name).unwrap();
    MetricId { metric: name.to_owned(), variant: row.variant.to_owned(), version }
}

/// Numbers that look random and are always the same.
fn noise(seed: i32) -> f64 {
    f64::from((seed.wrapping_mul(7919).wrapping_add(seed.wrapping_mul(seed).wrapping_mul(104_729))).rem_euclid(1000))
        / 1000.0
}

fn score(night: &mut Night, source: usize, name: &str, value: impl Fn(i32) -> f64) {
    let cells: Vec<i32> = night.sources[source].samples.keys().copied().collect();
    let values = cells.into_iter().map(|it| (it, Some(value(it)))).collect();
    night.scores.push(NightScores { source, metric: metric(name, 1), values });
}

fn first(blocks: &str, night: &Night) -> Kept {
    let found = analyse(&definition(blocks), night, None, &[]);
    Kept { run: 1, good: true, found }
}

/// The second night against the first.
fn second(blocks: &str, before: &Night, after: &Night) -> Found {
    let kept = first(blocks, before);
    analyse(&definition(blocks), after, Some((&kept, Some(before))), std::slice::from_ref(&kept))
}

#[test]
fn a_fall_beyond_noise_is_a_regression_and_a_rise_is_not() {
    let (mut before, mut after) = (night(0, &["a", "b", "c"], 60), night(1, &["a", "b", "c"], 60));
    for (source, shift) in [(0, -0.02), (1, 0.02), (2, 0.0)] {
        score(&mut before, source, "glcm_score", |it| 0.7 + 0.1 * noise(it));
        score(&mut after, source, "glcm_score", |it| 0.7 + 0.1 * noise(it) + shift + 0.01 * (noise(it + 99) - 0.5));
    }
    let found = second("", &before, &after);
    let verdicts: Vec<(&str, Verdict)> =
        found.changes.iter().map(|it| (it.series.source.as_str(), it.verdict)).collect();
    assert_eq!(verdicts, [("a", Verdict::Worse), ("b", Verdict::Better), ("c", Verdict::Same)]);
    assert_eq!(found.regressions().map(|it| it.series.source.as_str()).collect::<Vec<_>>(), ["a"]);
    let change = &found.changes[0];
    let difference = change.difference.as_ref().unwrap();
    assert_eq!(difference.how, How::Paired { n: 60 });
    assert!((difference.value + 0.02).abs() < 0.002 && difference.interval.unwrap().holds(difference.value));
    assert!(!found.good && found.broke.is_empty());
    assert_eq!(found.verdict(), "1 regression");
    let said = words::sentence(change, "a", found.level);
    assert!(
        said.contains("GLCM score fell from 0.7") && said.contains("which is worse") && said.contains("60 pairs"),
        "{said}"
    );
}

#[test]
fn equal_arguments_give_an_equal_value_which_survives_being_kept() {
    let (mut before, mut after) = (night(0, &["a"], 40), night(1, &["a"], 40));
    score(&mut before, 0, "psnr", |it| 30.0 + noise(it));
    score(&mut after, 0, "psnr", |it| 29.0 + noise(it));
    let found = second("", &before, &after);
    assert_eq!(found, second("", &before, &after));
    let kept: Found = serde_json::from_value(serde_json::to_value(&found).unwrap()).unwrap();
    assert_eq!(kept, found);
}

#[test]
fn less_than_the_threshold_is_shown_and_no_alarm() {
    let (mut before, mut after) = (night(0, &["a"], 50), night(1, &["a"], 50));
    score(&mut before, 0, "psnr", |it| 30.0 + noise(it));
    score(&mut after, 0, "psnr", |it| 29.9 + noise(it));
    let alarm = |threshold: f64| format!("[[alarm]]\nmetric = \"psnr\"\nthreshold = {threshold:?}");
    let quiet = second(&alarm(0.5), &before, &after);
    assert!(quiet.good);
    assert_eq!((quiet.changes[0].verdict, quiet.changes[0].is_regression), (Verdict::Worse, false));
    assert!(!second(&alarm(0.05), &before, &after).good);
    let relative = "[[alarm]]\nmetric = \"psnr\"\nrelative = 0.01";
    assert!(second(relative, &before, &after).good);
    // An alarm for another model or metric is none for this one.
    assert!(second("[[alarm]]\nmetric = \"psnr\"\nmodel = \"b\"", &before, &after).good);
    assert!(second("[[alarm]]\nmetric = \"nmse\"", &before, &after).good);
    assert!(!second("[[alarm]]\nmetric = \"psnr\"\nmodel = \"a*\"\nwhen = \"changed\"", &before, &after).good);
    assert!(second("[[alarm]]\nmetric = \"psnr\"\nwhen = \"better\"", &before, &after).good);
}

#[test]
fn lower_is_better_where_the_metric_says_so() {
    let (mut before, mut after) = (night(0, &["a"], 50), night(1, &["a"], 50));
    score(&mut before, 0, "compression_ratio", |it| 10.0 + noise(it));
    score(&mut after, 0, "compression_ratio", |it| 11.0 + noise(it) * 1.1);
    assert_eq!(second("", &before, &after).changes[0].verdict, Verdict::Worse);
    assert_eq!(second("", &after, &before).changes[0].verdict, Verdict::Better);
}

#[test]
fn noise_alone_seldom_raises_an_alarm_over_a_whole_night() {
    // 60 nights of 6 series: Holm keeps the nights with any false alarm at 5 %.
    let sources = ["a", "b", "c", "d", "e", "f"];
    let mut n_alarms = 0;
    for trial in 0..60 {
        let (mut before, mut after) = (night(0, &sources, 20), night(1, &sources, 20));
        for source in 0..sources.len() {
            let seed = |it: i32| trial * 7907 + source as i32 * 131 + it;
            score(&mut before, source, "glcm_score", noise);
            score(&mut after, source, "glcm_score", |it| noise(it) + uniform(seed(it)) - 0.5);
        }
        n_alarms += usize::from(!second("", &before, &after).good);
    }
    // Binomial(60, 0.05) exceeds 9 once in a thousand times.
    assert!(n_alarms <= 9, "{n_alarms} of 60");
}

/// Uniform from 0 to 1, by a generator that passes for random (splitmix64).
fn uniform(seed: i32) -> f64 {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[test]
fn what_cannot_be_paired_is_compared_by_means_and_said_to_be() {
    let (mut before, mut after) = (night(0, &["a"], 50), night(1, &["a"], 50));
    score(&mut before, 0, "psnr", |it| 30.0 + noise(it));
    for (idx, sample) in after.sources[0].samples.values_mut().enumerate() {
        *sample = format!("other{idx}");
    }
    score(&mut after, 0, "psnr", |it| 28.0 + noise(it));
    let found = second("", &before, &after);
    assert_eq!(found.changes[0].difference.as_ref().unwrap().how, How::Unpaired);
    assert_eq!(found.changes[0].verdict, Verdict::Worse);
    // The rows of the last good night are gone: their means were kept.
    let kept = first("", &before);
    let found = analyse(&definition(""), &after, Some((&kept, None)), &[]);
    assert_eq!(found.changes[0].verdict, Verdict::Worse);
    assert!(found.notes[0].starts_with("50 of the 50 scores"), "{:?}", found.notes);
}

#[test]
fn seeds_are_pooled_and_paired_one_by_one() {
    let sources = ["m seed=0", "m seed=1"];
    let (mut before, mut after) = (night(0, &sources, 30), night(1, &sources, 30));
    for source in 0..2 {
        score(&mut before, source, "psnr", |it| 30.0 + 5.0 * noise(it + source as i32 * 31));
        score(&mut after, source, "psnr", |it| 29.9 + 5.0 * noise(it + source as i32 * 31));
    }
    let found = second("", &before, &after);
    assert_eq!(found.changes.len(), 1);
    assert_eq!((found.changes[0].series.source.as_str(), found.changes[0].series.n), ("m", 60));
    // What is drawn from all there could be are the samples.
    assert_eq!(found.changes[0].difference.as_ref().unwrap().how, How::Paired { n: 30 });
    assert_eq!(found.changes[0].verdict, Verdict::Worse);
}

#[test]
fn a_new_definition_of_a_metric_is_no_change_of_the_model() {
    let (mut before, mut after) = (night(0, &["a"], 30), night(1, &["a"], 30));
    score(&mut before, 0, "psnr", |it| 30.0 + noise(it));
    score(&mut after, 0, "psnr", |it| 20.0 + noise(it));
    after.scores[0].metric.version = 2;
    let found = second("", &before, &after);
    assert_eq!((found.changes[0].verdict, found.good), (Verdict::Redefined, true));
    assert_eq!(found.causes[0].what, "metric");
}

#[test]
fn what_may_have_done_it_is_named() {
    let (mut before, mut after) = (night(0, &["a", "b"], 30), night(1, &["a", "b"], 30));
    for source in 0..2 {
        score(&mut before, source, "psnr", |it| 30.0 + noise(it));
        score(&mut after, source, "psnr", |it| 29.0 + noise(it));
    }
    before.sources[0].packages = BTreeSet::from(["0a0a".to_owned()]);
    after.sources[0].packages = BTreeSet::from(["0b0b".to_owned()]);
    before.sources[1].making = Some(serde_json::json!({ "steps": 28, "guidance": 7.0, "seed": 0 }));
    after.sources[1].making = Some(serde_json::json!({ "steps": 20, "guidance": 7.0, "seed": 1 }));
    after.sweeps[0].programs = BTreeSet::from(["jobctl 0.1.0 (bbb)".to_owned()]);
    let found = second("", &before, &after);
    let of = |source: &str| {
        let change = found.changes.iter().find(|it| it.series.source == source).unwrap();
        change.causes.iter().map(|it| words::cause(&found.causes[*it])).collect::<Vec<_>>()
    };
    let program = "the program: jobctl 0.1.0 (aaa) before, jobctl 0.1.0 (bbb) now";
    assert_eq!(of("a"), ["the package of a: 0a0a before, 0b0b now", program]);
    assert_eq!(of("b"), ["the settings of b: steps = 28 before, steps = 20 now", program]);
}

#[test]
fn what_is_gone_or_failed_breaks_the_night() {
    let (mut before, mut after) = (night(0, &["a", "b"], 30), night(1, &["a", "b"], 30));
    for source in 0..2 {
        score(&mut before, source, "psnr", |it| 30.0 + noise(it));
    }
    score(&mut after, 0, "psnr", |it| 30.0 + noise(it));
    let error = "the picture is black\nand so on".to_owned();
    after.failures.push(NightFailure { sweep: 0, kind: "decode".into(), state: "failed".into(), error, n: 12 });
    after.sweeps[0].n_unfinished = 3;
    let found = second("", &before, &after);
    assert_eq!(
        found.broke,
        [
            "small-12345678 was not done: 3 jobs had not ended.",
            "small-12345678: 12 decode jobs failed: the picture is black",
            "b has no PSNR any more; the last good night had it.",
        ]
    );
    assert!(!found.good);
    assert_eq!(found.verdict(), "3 problems");
    let nothing = Night { sweeps: Vec::new(), sources: Vec::new(), scores: Vec::new(), failures: Vec::new(), ..after };
    let found = analyse(&definition(""), &nothing, None, &[]);
    assert_eq!(
        (found.broke.as_slice(), found.good),
        (["No sweep called small had been enqueued.".to_owned()].as_slice(), false)
    );
}

#[test]
fn a_number_of_a_set_is_compared_with_the_nights_before() {
    let definition = definition("");
    let of = |n: i64, value: f64| {
        let mut night = night(n, &["a"], 30);
        night.sets.push(NightSet { source: 0, metric: metric("compression_ratio", 1), value: Some(value), n: 30 });
        night
    };
    let mut past: Vec<Kept> = Vec::new();
    let usual = [10.0, 10.2, 9.9, 10.1, 10.0];
    for (n, value) in usual.into_iter().enumerate() {
        let found = analyse(&definition, &of(n as i64, value), None, &past);
        past.insert(0, Kept { run: n as i64, good: true, found });
    }
    let tonight = |value: f64, past: &[Kept]| {
        let found = analyse(&definition, &of(9, value), Some((&past[0], None)), past);
        (found.changes[0].verdict, found.changes[0].difference.clone().unwrap().how)
    };
    assert_eq!(tonight(10.15, &past), (Verdict::Same, How::Nights { n: 5 }));
    assert_eq!(tonight(14.0, &past), (Verdict::Worse, How::Nights { n: 5 }));
    assert_eq!(tonight(14.0, &past[..2]), (Verdict::Unclear, How::Alone));
}

#[test]
fn the_baseline_is_compared_on_the_same_samples() {
    let sources = ["base", "m seed=0", "m seed=1"];
    let mut tonight = night(0, &sources, 40);
    score(&mut tonight, 0, "psnr", |it| 30.0 + 8.0 * noise(it));
    for source in 1..3 {
        score(&mut tonight, source, "psnr", |it| 30.2 + 8.0 * noise(it) + 0.1 * noise(it * 3 + source as i32));
    }
    let found = first("[compare]\nbaseline = \"base\"", &tonight).found;
    assert_eq!(found.versus.len(), 1);
    let it = &found.versus[0];
    assert_eq!((it.source.as_str(), it.baseline.as_str(), it.verdict), ("m", "base", Verdict::Better));
    assert_eq!(it.difference.how, How::Paired { n: 40 });
}

#[test]
fn models_have_their_names_unless_those_are_several_sources() {
    let mut tonight = night(0, &["x", "y", "Sana"], 5);
    tonight.sources[0].model = Some("PixArt-Σ".to_owned());
    tonight.sources[1].model = Some("Sana".to_owned());
    for source in 0..3 {
        score(&mut tonight, source, "psnr", f64::from);
    }
    let names = words::names(&first("", &tonight).found);
    let expected = [("Sana", "Sana"), ("x", "PixArt-Σ"), ("y", "y")];
    assert_eq!(names, BTreeMap::from(expected.map(|it| (it.0.to_owned(), it.1.to_owned()))));
}
