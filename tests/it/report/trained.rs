//! What a report says of trained models: made-up losses whose truth is known.

use std::sync::atomic::{AtomicUsize, Ordering};

use jobctl::job::task::finetune::Finetune;
use jobctl::job::{Hash, JobId, State};
use jobctl::report::analyse;
use jobctl::report::view::{Report, Tuning};
use jobctl::store::findings::{Curve, Findings, Training};
use jobctl::sweep::Sweep;
use jobctl::train::random::{Purpose, Stream};

use super::folder;
use super::models::numbers;
use super::paper::cells;

/// A model of the findings by hand, so that its pictures are known.
const TUNED: &str = "models/sd3-f16-wlf";
const N_SEEDS: u64 = 4;
/// Tests run at once, and each needs a folder of its own.
static N_MADE: AtomicUsize = AtomicUsize::new(0);

fn task(seed: u64, keys: &str) -> Finetune {
    let text = format!(
        "name = 't'\n[[finetune]]\nname = 'b'\nmodel = 'P'\ndata = 'd'\nsize = 512\nheld_out = 6\nseed = {seed}\n{keys}"
    );
    Sweep::parse(&text, "t.toml").unwrap().finetune[0].points[0].task.clone()
}

/// A training whose held-out pictures are looked at before the first step, at 500 and at 1,000: `ends` are the losses of the
/// last two looks, picture by picture.
fn training(name: &str, seed: u64, pictures: &[Hash], before: &[f64], ends: [&[f64]; 2], keys: &str) -> Training {
    let mean = |it: &[f64]| it.iter().sum::<f64>() / it.len() as f64;
    let curve = |name: String, values: [f64; 3]| Curve {
        name,
        points: [0, 500, 1_000].into_iter().zip(values.map(Some)).collect(),
    };
    let mut curves = vec![curve("held_out".to_owned(), [mean(before), mean(ends[0]), mean(ends[1])])];
    curves.extend(
        pictures
            .iter()
            .enumerate()
            .map(|(idx, of)| curve(format!("picture/{of}"), [before[idx], ends[0][idx], ends[1][idx]])),
    );
    Training {
        name: name.to_owned(),
        base: "models/sd3-f16".to_owned(),
        job: JobId(1),
        state: State::Done,
        task: task(seed, keys),
        n_pictures: Some(40),
        left_out: Vec::new(),
        frames: Vec::new(),
        looked_at: Hash::of(b"the same latents"),
        curves,
    }
}

/// Three settings: `flow` learns, the tuned model learns more, `twin` learns as much as `flow` but for chance.
fn findings(keys: &str) -> Findings {
    let mut findings = numbers(&folder(&format!("trained-{}", N_MADE.fetch_add(1, Ordering::Relaxed))));
    let pictures: Vec<Hash> = findings.images.iter().filter(|it| it.source == 0).map(|it| it.content).collect();
    for (setting, gain, chance) in [("flow", 0.3, 0.004), (TUNED, 0.4, 0.004), ("twin", 0.3, 0.05)] {
        for seed in 0..N_SEEDS {
            let mut random = Stream::new(seed, Purpose::HeldOut, 0, (gain * 10.0) as u64 + (chance * 1e3) as u64);
            let of_seed = 0.02 * Stream::new(seed, Purpose::Order, 0, 0).normal();
            let before: Vec<f64> = (0..pictures.len()).map(|it| 1.0 + 0.1 * it as f64 + of_seed).collect();
            let mut after =
                |gain: f64| before.iter().map(|it| it - gain + chance * random.normal()).collect::<Vec<f64>>();
            let (middle, last) = (after(gain + 0.2), after(gain));
            let name = if setting == TUNED { TUNED.to_owned() } else { format!("{setting} seed={seed}") };
            findings.trainings.push(training(&name, seed, &pictures, &before, [&middle, &last], keys));
        }
    }
    findings
}

fn tuning(keys: &str) -> (Report, Tuning) {
    let report = analyse(&findings(keys));
    let tuning = report.tuning.clone();
    (report, tuning)
}

#[test]
fn differences_of_held_out_losses_are_told_with_their_significance() {
    let (_, tuning) = tuning("");
    let compared: Vec<(&str, Option<&str>)> =
        tuning.differences.iter().map(|it| (it.first.as_str(), it.second.as_deref())).collect();
    let expected = [
        ("flow", None),
        (TUNED, None),
        ("twin", None),
        (TUNED, Some("flow")),
        ("twin", Some("flow")),
        ("twin", Some(TUNED)),
    ];
    assert_eq!(compared, expected);
    assert!(tuning.differences.iter().all(|it| (it.n_seeds, it.n_pictures) == (4, 6)));
    for (at, truth) in [(0, -0.3), (1, -0.4), (3, -0.1), (5, 0.1)] {
        let it = &tuning.differences[at];
        let found = it.difference.unwrap();
        assert!(found.interval.holds(truth) && it.p_holm.unwrap() <= 0.05, "{it:?}");
        assert!(it.p_holm.unwrap() >= found.p && (it.first_mean - it.second_mean - found.mean).abs() < 1e-12);
        assert!(tuning.sentences[at].contains("significantly"), "{}", tuning.sentences[at]);
    }
    let lower = format!("{TUNED} has a significantly lower held-out loss than flow: by −0.1");
    assert!(tuning.sentences[3].starts_with(&lower), "{}", tuning.sentences[3]);
    assert!(tuning.sentences[3].contains("over 6 comparisons, 4 seeds × 6 pictures"), "{}", tuning.sentences[3]);
    let twin = &tuning.sentences[4];
    assert!(twin.starts_with("Whether twin and flow differ in their held-out loss cannot be told: by "), "{twin}");
}

#[test]
fn the_loss_of_the_weights_that_come_out_is_what_is_compared() {
    let mean = |keys: &str| tuning(keys).1.differences[0].difference.unwrap().mean;
    assert!((mean("") + 0.3).abs() < 0.01 && (mean("keep = 'best'") + 0.5).abs() < 0.01);
    let (report, _) = tuning("keep = 'best'");
    let (first, last) = report.trainings[0].held_out.unwrap();
    assert!((first - last - 0.5).abs() < 0.02);
    let out = report.trainings[0].settings.iter().find(|it| it.0 == "Comes out").unwrap();
    assert_eq!(out.1, "the best of the looks, after step 500");
}

#[test]
fn one_seed_or_other_pictures_are_no_ground_for_more() {
    let mut findings = findings("");
    findings.trainings.retain(|it| it.task.seed == 0);
    // What is looked at with other latents cannot be compared.
    findings.trainings[2].looked_at = Hash::of(b"others");
    let tuning = analyse(&findings).tuning;
    let pairs: Vec<_> = tuning.differences.iter().filter_map(|it| it.second.as_deref()).collect();
    assert_eq!(pairs, ["flow"]);
    assert!(tuning.sentences[0].contains("1 seed × 6 pictures, so that nothing is said of other seeds"), "{tuning:?}");
}

#[test]
fn what_models_make_stands_beside_what_was_held_out() {
    let (report, tuning) = tuning("");
    let models: Vec<&str> = tuning.samples.iter().map(|it| it.model.as_str()).collect();
    // `flow` and `twin` have made no pictures.
    assert_eq!(models, ["models/sd3-f16", "models/sd3-f16", TUNED, TUNED]);
    for it in &tuning.samples {
        assert!(it.held_out == "photographs" && it.n_held_out == 6 && it.n >= 12, "{it:?}");
        let own = |of: &dyn Fn(usize) -> bool| {
            let scores: Vec<f64> = report
                .images
                .iter()
                .filter(|image| of(image.source))
                .filter_map(|image| image.scores[it.metric])
                .collect();
            scores.iter().sum::<f64>() / scores.len() as f64
        };
        let is_of = |source: usize| {
            let source = serde_json::to_value(&report.sources[source]).unwrap();
            source["making"]["kind"] == "generated" && source["making"]["model"] == it.model.as_str()
        };
        assert!((own(&is_of) - own(&|source| source == 0) - it.distance).abs() < 1e-12, "{it:?}");
    }
    // Where a source shows more than what was held out, it is not what was held out.
    let mut findings = findings("");
    findings.images[0].content = Hash::of(b"another picture");
    assert!(analyse(&findings).tuning.samples.is_empty());
}

#[test]
fn steps_and_throughput_make_table_10_on_the_page() {
    let mut findings = findings("");
    findings.trainings.truncate(3);
    let speed = |values: &[Option<f64>]| Curve {
        name: "images_per_s".to_owned(),
        points: values.iter().enumerate().map(|(idx, it)| (250 * (idx as u64 + 1), *it)).collect(),
    };
    findings.trainings[0].name = "SD3-2B-WLF".to_owned();
    // A value that was not finite counts for nothing; the middle two of four are 0.52 and 0.5417.
    findings.trainings[0].curves.push(speed(&[Some(0.52), None, Some(0.2), Some(0.5417), Some(9.0)]));
    let loss = [(500, Some(0.5)), (20_000, Some(0.4))];
    findings.trainings[0].curves.push(Curve { name: "loss".to_owned(), points: loss.to_vec() });
    findings.trainings[1].name = "other".to_owned();
    findings.trainings[1].curves.push(speed(&[Some(1234.5)]));
    let folder = folder("trained-page");
    let written = jobctl::report::write(&findings, &folder, &jobctl::report::Options::default()).unwrap();
    let page = std::fs::read_to_string(written.html).unwrap();
    let rows = cells(&page, "Table 10: ");
    let expected: [&[&str]; 3] = [
        &["SD3-2B", "SD3-2B-WLF from models/sd3-f16", "20000", "20000", "0.531", "0.59"],
        &["Flux-12B", "not here", "–", "20000", "–", "1.39"],
        &["other", "other from models/sd3-f16", "0", "–", "1234", "–"],
    ];
    assert_eq!(rows, expected, "a training without a speed is no row of it");
    let row = page.split("Table 10</th>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains("href=\"#paper\""), "{row}");
}
