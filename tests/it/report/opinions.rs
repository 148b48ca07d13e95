//! What is said of pictures, in the analysed value and on the page.

use jobctl::job::Hash;
use jobctl::labels::{Area, Choice, Judge, JudgeKind, Pair, Rating, Shown, Verdict};
use jobctl::report::view::{Basis, Report};
use jobctl::report::{self, Options, analyse};
use jobctl::stats::Undefined;
use jobctl::store::findings::Findings;

use super::models;
use super::paper::cells;

const ASPECT: &str = "Visual <b>Aesthetics</b>";

fn rating(picture: Hash, rater: &str, value: f64) -> Rating {
    Rating {
        picture,
        area: None,
        aspect: "quality".to_owned(),
        judge: Judge::human(rater),
        value,
        scale: None,
        attention: None,
    }
}

fn verdict(first: Hash, second: Hash, judge: &Judge, shown: Shown, choice: Choice) -> Verdict {
    Verdict {
        pair: Pair::Pictures { first, second },
        area: None,
        aspect: ASPECT.to_owned(),
        judge: judge.clone(),
        shown,
        choice,
        reason: String::new(),
        attention: None,
    }
}

/// The picture of a sample by the source of this index.
fn picture(findings: &Findings, source: usize, sample: &str) -> Hash {
    findings.images.iter().find(|it| it.source == source && it.sample == sample).unwrap().key
}

fn score(findings: &Findings, image: usize, metric: &str) -> f64 {
    let it = findings.scores.iter().find(|it| it.image == image && it.metric.metric == metric).unwrap();
    it.value.unwrap()
}

/// People rate as the GLCM score says and prefer the first source, where a machine answers in turn with the order.
fn said(folder: &std::path::Path) -> Findings {
    let mut findings = models::numbers(folder);
    // Their files are alike; the pictures are not.
    for (idx, it) in findings.images.iter_mut().enumerate() {
        it.key = Hash::of(&idx.to_le_bytes());
    }
    for (idx, it) in findings.images.iter().enumerate() {
        let value = 1.0 + 3.0 * score(&findings, idx, "glcm_score");
        for (rater, off) in [("ann", 0.0), ("bob", 0.25), ("cid", -0.25)] {
            findings.ratings.push(rating(it.key, rater, value + off));
        }
    }
    findings.ratings.push(Rating { attention: Some(false), ..rating(findings.images[0].key, "ann", 99.0) });
    findings.ratings.push(Rating {
        area: Some(Area { x: 0, y: 0, width: 8, height: 8 }),
        ..rating(findings.images[0].key, "ann", 2.0)
    });
    findings.ratings.push(rating(Hash::of(b"elsewhere"), "ann", 2.0));
    let machine = Judge::machine("judge-1", "");
    let source = |name: &str| findings.sources.iter().position(|it| it.name == name).unwrap();
    let [ours, sana, pixart] = ["SD3-F16-WLF@2048 seed=0", "Sana", "PixArt"].map(source);
    for (sample, _) in models::PROMPTS {
        let [a, b, c] = [ours, sana, pixart].map(|it| picture(&findings, it, sample));
        let people = |rater: &str, choice| verdict(b, a, &Judge::human(rater), Shown::Unknown, choice);
        // Sides are shown the other way round: the pair's second is the first side.
        findings.verdicts.push(people("ann", Choice::Second));
        findings.verdicts.push(people("bob", if sample == "shop" { Choice::First } else { Choice::Second }));
        findings.verdicts.push(verdict(
            b,
            c,
            &Judge::human("ann"),
            Shown::Unknown,
            if sample < "k" { Choice::First } else { Choice::Second },
        ));
        findings.verdicts.push(verdict(
            a,
            c,
            &Judge::human("ann"),
            Shown::Unknown,
            if sample == "bridge" { Choice::Second } else { Choice::Tie },
        ));
        // Whatever is shown first is better; one answer cannot be read.
        findings.verdicts.push(verdict(a, b, &machine, Shown::FirstFirst, Choice::First));
        let other = if sample == "evil" { Choice::Invalid } else { Choice::Second };
        findings.verdicts.push(verdict(a, b, &machine, Shown::SecondFirst, other));
    }
    findings
}

fn analysed() -> Report {
    let folder = super::folder("opinions-value");
    analyse(&said(&folder))
}

#[test]
fn the_metric_that_people_follow_correlates_best() {
    let report = analysed();
    let opinions = report.opinions.as_ref().unwrap();
    let table = opinions.correlations.iter().find(|it| it.basis == Basis::Ratings).unwrap();
    assert_eq!((table.by.name.as_str(), table.n_raters), ("people", 3));
    let best = &table.rows[0];
    assert_eq!(report.metrics[best.metric].id.metric, "glcm_score");
    assert!((best.coefficients.plcc.value.unwrap() - 1.0).abs() < 1e-9 && !best.turned && best.clustered);
    let ratio = table.rows.iter().find(|it| report.metrics[it.metric].id.metric == "compression_ratio").unwrap();
    // Lower is better: the score is taken with a minus, so that all coefficients have one direction.
    assert!(ratio.turned && ratio.coefficients.srcc.value.unwrap() > 0.5);
    assert!(ratio.p_first.is_some() && best.p_first.is_none());
    let unused: Vec<usize> = opinions.unused.iter().map(|it| it.0).collect();
    assert_eq!(unused, [1, 1], "{:?}", opinions.unused);
}

#[test]
fn preferences_are_of_sides_and_what_turns_with_the_order_is_a_tie() {
    let report = analysed();
    let opinions = report.opinions.as_ref().unwrap();
    let own = report.entrants.iter().find(|it| it.name == "SD3-F16-WLF@2048").unwrap();
    let find = |kind: JudgeKind, n: u64| {
        opinions.preferences.iter().find(|it| it.by.kind == kind && it.tally.n() == n).unwrap()
    };
    let people = find(JudgeKind::Human, 12);
    let tally = if people.first == own.name { people.tally } else { people.tally.turned() };
    assert_eq!((tally.wins, tally.ties, tally.losses), (11, 0, 1));
    assert!(people.clustered && people.n_samples == 6 && people.interval.is_some());
    assert!(people.p_holm.unwrap() >= people.p.unwrap());
    let machine = find(JudgeKind::Machine, 6);
    assert_eq!((machine.tally.ties, machine.n_turned), (5, 5));
    let judge = opinions.judges.iter().find(|it| it.by.kind == JudgeKind::Machine).unwrap();
    assert_eq!((judge.n, judge.n_invalid, judge.n_both, judge.n_turned), (12, 1, 5, 5));
    assert_eq!((judge.position.n_first, judge.position.n), (11, 11));
    let strengths = &opinions.strengths[0];
    assert_eq!((strengths.sides.len(), strengths.intervals.len()), (3, 3));
    assert!(strengths.strengths.is_ok(), "{:?}", strengths.strengths);
    let choices = opinions.correlations.iter().find(|it| it.basis == Basis::Choices && it.by.name == "people").unwrap();
    assert_eq!(choices.rows[0].two_way.as_ref().unwrap().n, 12 + 6 + 1);
}

#[test]
fn models_are_compared_by_prompt_and_where_they_can_by_seed() {
    let report = analysed();
    let main = report.metrics.iter().filter(|it| it.main).count();
    let n_models = report.entrants.iter().filter(|it| it.model.is_some()).count();
    assert!(report.comparisons.len() <= main * n_models * (n_models - 1) / 2);
    assert!(report.comparisons.iter().any(|it| it.by_seed) && report.comparisons.iter().any(|it| !it.by_seed));
    for it in &report.comparisons {
        let wilcoxon = it.comparison.wilcoxon.as_ref().unwrap();
        assert!(it.p_holm.unwrap() >= wilcoxon.p && it.comparison.n >= 6);
        assert!(it.comparison.smallest_detectable.is_ok());
    }
    // Nothing is said, and the page says what would say it.
    let folder = super::folder("opinions-none");
    let report = analyse(&models::numbers(&folder));
    assert!(report.opinions.is_none() && !report.comparisons.is_empty());
}

#[test]
fn a_side_that_always_wins_has_no_strength_and_says_so() {
    let folder = super::folder("opinions-separated");
    let mut findings = said(&folder);
    findings.verdicts.retain(|it| it.judge.kind == JudgeKind::Human && it.choice != Choice::Tie);
    for it in &mut findings.verdicts {
        it.choice = Choice::First;
    }
    let report = analyse(&findings);
    let strengths = &report.opinions.unwrap().strengths[0];
    assert_eq!(strengths.strengths.as_ref().err(), Some(&Undefined::Separated));
    assert!(strengths.intervals.is_empty());
}

#[test]
fn the_page_shows_opinions_and_their_words_stay_text() {
    let folder = super::folder("opinions");
    let findings = said(&folder);
    let written = report::write(&findings, &folder, &Options::default()).unwrap();
    let page = std::fs::read_to_string(written.html).unwrap();
    for id in ["comparisons", "correlation", "preference"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")) && page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert!(page.contains("PLCC, fitted") && page.contains("How judges answer") && page.contains("p, Holm"));
    assert!(!page.contains(ASPECT) && page.contains("Visual &#60;b&#62;Aesthetics"), "the aspect is escaped");
}

/// Pearson's coefficient, as it is defined.
fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let mean = |it: &[f64]| it.iter().sum::<f64>() / it.len() as f64;
    let (at, to) = (mean(x), mean(y));
    let sum = |a: &[f64], from: f64, b: &[f64], other: f64| {
        a.iter().zip(b).map(|(a, b)| (a - from) * (b - other)).sum::<f64>()
    };
    sum(x, at, y, to) / (sum(x, at, x, at) * sum(y, to, y, to)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |it: &f64| values.iter().filter(|other| *other < it).count() as f64;
    let equal = |it: &f64| values.iter().filter(|other| *other == it).count() as f64;
    values.iter().map(|it| below(it) + (equal(it) + 1.0) / 2.0).collect()
}

#[test]
fn the_digits_of_table_1_are_those_of_the_scores_and_ratings() {
    let folder = super::folder("opinions-table-1");
    let mut findings = said(&folder);
    // Something to disagree about, with ties among the ratings.
    for (idx, it) in findings.ratings.iter_mut().filter(|it| it.attention.is_none()).enumerate() {
        it.value = (2.0 * (it.value + 0.3 * (idx as f64 * 1.7).sin())).round() / 2.0;
    }
    let written = report::write(&findings, &folder, &Options::default()).unwrap();
    let page = std::fs::read_to_string(written.html).unwrap();
    let rows = cells(&page, "Table 1: ");
    for (metric, name, sign) in [("glcm_score", "GLCM score", 1.0), ("compression_ratio", "Compression ratio", -1.0)] {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (idx, it) in findings.images.iter().enumerate() {
            let said: Vec<f64> = findings
                .ratings
                .iter()
                .filter(|of| of.picture == it.key && of.area.is_none() && of.attention.is_none())
                .map(|it| it.value)
                .collect();
            assert_eq!(said.len(), 3);
            x.push(sign * score(&findings, idx, metric));
            y.push(said.iter().sum::<f64>() / 3.0);
        }
        let row = rows.iter().find(|it| it[1].starts_with(name)).unwrap_or_else(|| panic!("{name}: {rows:?}"));
        let written = |value: f64| format!("{value:.2}").replace('-', "\u{2212}");
        assert_eq!(row[2], written(pearson(&ranks(&x), &ranks(&y))), "SRCC of {name}");
        assert_eq!(row[4], written(pearson(&x, &y)), "PLCC of {name}");
        assert!(row[1].ends_with("quality, 72 pictures"), "{row:?}");
    }
    let published: Vec<[&str; 2]> = rows.iter().map(|it| [it[3].as_str(), it[5].as_str()]).collect();
    assert_eq!(published[..4], [["0.75", "0.77"], ["0.53", "0.56"], ["0.36", "0.41"], ["0.20", "0.26"]]);
}
