//! Intervals of the scores of whole sets.

use jobctl::job::Hash;
use jobctl::metrics;
use jobctl::report::view::{Report, SetCell};
use jobctl::report::{self, Options, analyse};
use jobctl::store::findings::Findings;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::folder;
use super::models::{items, numbers};
use super::paper::cells;

/// One source of `n` pictures of two sizes, the larger of which compress worse, and its pooled compression ratio.
fn many(name: &str, n: usize) -> Findings {
    let mut findings = numbers(&folder(name));
    let mut rng = Pcg64::seed_from_u64(11);
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let (image, score) = (findings.images[0].clone(), findings.scores[1].clone());
    assert_eq!(score.metric.metric, "compression_ratio");
    findings.sources.truncate(1);
    (findings.images, findings.scores) = (Vec::new(), Vec::new());
    findings.captions.clear();
    findings.efforts.clear();
    for idx in 0..n {
        let mut image = image.clone();
        (image.sample, image.key) = (format!("{idx:04}"), Hash::of(&idx.to_le_bytes()));
        let is_large = unit() < 0.3;
        image.size = Some(if is_large { (4096, 3072) } else { (2048, 2048) });
        findings.images.push(image);
        let value = (if is_large { 6.0 } else { 12.0 }) * (0.5 * (unit() + unit() + unit() - 1.5)).exp();
        findings.scores.push(jobctl::store::findings::Score { image: idx, value: Some(value), ..score.clone() });
    }
    let items = items(0, &findings.images, &findings.scores);
    findings.set_scores.truncate(1);
    findings.set_scores[0].n = n as u64;
    findings.set_scores[0].value = metrics::pool(metrics::find(&score.metric).unwrap(), &items);
    findings
}

fn cell(report: &Report) -> &SetCell {
    report.set_scores[0].cells[0].as_ref().unwrap()
}

#[test]
fn the_interval_of_a_pooled_ratio_is_that_of_the_delta_method() {
    let findings = many("sets-delta", 1_000);
    let report = analyse(&findings);
    let it = cell(&report);
    // A ratio of two sums, linearised: large pictures weigh more than in the mean of ratios.
    let items = items(0, &findings.images, &findings.scores);
    let raw: Vec<f64> = items.iter().map(|it| 3.0 * f64::from(it.width) * f64::from(it.height)).collect();
    let bytes: Vec<f64> = items.iter().zip(&raw).map(|(it, raw)| raw / it.value).collect();
    let (n, sum_raw, sum_bytes) = (raw.len() as f64, raw.iter().sum::<f64>(), bytes.iter().sum::<f64>());
    let ratio = sum_raw / sum_bytes;
    let squares: f64 = raw.iter().zip(&bytes).map(|(raw, bytes)| (raw - ratio * bytes).powi(2)).sum();
    let half = 1.959_964 * (squares / (n - 1.0) / n).sqrt() / (sum_bytes / n);
    let interval = it.interval.unwrap();
    assert!((it.value.unwrap() - ratio).abs() < 1e-6 * ratio);
    assert!(((interval.high - interval.low) / (2.0 * half) - 1.0).abs() < 0.06, "{interval:?}, {ratio} ± {half}");
    assert!(((interval.high + interval.low) / 2.0 - ratio).abs() < 0.1 * half, "{interval:?}, {ratio} ± {half}");
    let mean = report.sources[0].cells[0].mean.unwrap();
    assert!(!interval.holds(mean), "the mean of ratios is another number: {mean}, {interval:?}");
    assert_eq!(it.no_interval, None);
}

#[test]
fn a_set_whose_pictures_have_other_scores_now_has_no_interval_and_says_so() {
    let why = |change: &dyn Fn(&mut Findings)| {
        let mut findings = many("sets-changed", 12);
        change(&mut findings);
        let report = analyse(&findings);
        assert_eq!(cell(&report).interval, None);
        cell(&report).no_interval.clone()
    };
    let scores = "its pictures have other scores now than when it was computed";
    assert_eq!(why(&|it| it.scores[3].value = Some(9.0)).as_deref(), Some(scores));
    let pictures = "other pictures have scores now than when it was computed";
    assert_eq!(why(&|it| drop(it.scores.pop())).as_deref(), Some(pictures));
    assert_eq!(why(&|it| it.set_scores[0].value = None), None, "what has no value needs no interval");
    let unknown = |it: &mut Findings| it.set_scores[0].metric.metric = "fid".to_owned();
    assert_eq!(why(&unknown).as_deref(), Some("it is no function of its pictures' stored scores"));
    let few = |it: &mut Findings| {
        it.images.truncate(2);
        it.scores.truncate(2);
        it.set_scores[0].n = 2;
        let metric = metrics::find(&it.set_scores[0].metric).unwrap();
        it.set_scores[0].value = metrics::pool(metric, &items(0, &it.images, &it.scores));
    };
    assert_eq!(why(&few).as_deref(), Some("too few pictures"));
    // A picture that a folder has twice is one in the set.
    let mut findings = many("sets-twice", 12);
    let (mut image, mut score) = (findings.images[5].clone(), findings.scores[5].clone());
    (image.sample, score.image) = ("twin".to_owned(), 12);
    findings.images.push(image);
    findings.scores.push(score);
    assert!(cell(&analyse(&findings)).interval.is_some());
}

#[test]
fn intervals_of_sets_and_what_has_none_are_on_the_page() {
    let folder = folder("sets-page");
    let mut findings = numbers(&folder);
    findings.set_scores[5].value = Some(7.5);
    let report = analyse(&findings);
    let page = std::fs::read_to_string(report::write(&findings, &folder, &Options::default()).unwrap().html).unwrap();
    assert!(page.contains("of the set has no interval for Sana: its pictures have other scores now"));
    let it = report.set_scores[0].cells[6].as_ref().unwrap();
    let interval = it.interval.unwrap();
    // PixArt's, in the table of sources and among the published.
    let written = format!("[{:.2}, {:.2}]", interval.low, interval.high);
    assert_eq!(page.matches(&format!("<small>{written}</small>")).count(), 2, "sources and leaderboard: {written}");
    assert!(page.contains(&format!("<small>pooled\n{written}</small>")), "Table 4");
    let fourth = cells(&page, "Table 4: ");
    let row = fourth.iter().find(|it| it[0] == "PixArt-Σ").unwrap();
    assert_eq!(row[4], format!("{:.2}", it.value.unwrap()));
}
