//! Agreement of raters, screening, and strengths from choices, against other libraries.

use jobctl::stats::Undefined;
use jobctl::stats::agreement::{Level, cohen_kappa, fleiss_kappa, krippendorff_alpha};
use jobctl::stats::bradley_terry::{Outcomes, fit};
use jobctl::stats::screening::{Vote, screen};
use serde_json::Value;

use super::{golden_part, near, numbers};

fn table<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn kappas_are_those_of_statsmodels() {
    for it in golden_part("cohen") {
        let ours = cohen_kappa(&table::<Vec<usize>>(&it["first"]), &table::<Vec<usize>>(&it["second"]));
        near(ours.unwrap(), &it["kappa"], 1e-12, "cohen");
    }
    for it in golden_part("fleiss") {
        near(fleiss_kappa(&table::<Vec<Vec<usize>>>(&it["counts"])).unwrap(), &it["kappa"], 1e-12, "fleiss");
    }
    assert_eq!(cohen_kappa(&[], &[]), Err(Undefined::TooFew));
    assert_eq!(cohen_kappa(&[1, 1], &[1, 1]), Err(Undefined::Constant));
    assert_eq!(fleiss_kappa(&[vec![2, 1], vec![1, 1]]), Err(Undefined::Uneven));
    assert_eq!(fleiss_kappa(&[vec![1, 0], vec![0, 1]]), Err(Undefined::TooFew));
    assert_eq!(fleiss_kappa(&[vec![3, 0], vec![3, 0]]), Err(Undefined::Constant));
}

#[test]
fn alpha_is_that_of_the_published_example_and_of_the_library() {
    for it in golden_part("alpha") {
        let units: Vec<Vec<f64>> = it["units"].as_array().unwrap().iter().map(numbers).collect();
        for (name, level) in [("nominal", Level::Nominal), ("ordinal", Level::Ordinal), ("interval", Level::Interval)] {
            near(krippendorff_alpha(&units, level).unwrap(), &it[name], 1e-12, name);
        }
    }
    let published = &golden_part("alpha")[0];
    for (name, value) in [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)] {
        assert!((published[name].as_f64().unwrap() - value).abs() < 5e-4);
    }
    assert_eq!(krippendorff_alpha(&[vec![1.0], vec![2.0]], Level::Ordinal), Err(Undefined::TooFew));
    assert_eq!(krippendorff_alpha(&[vec![1.0, 1.0], vec![1.0, 1.0]], Level::Nominal), Err(Undefined::Constant));
    assert_eq!(krippendorff_alpha(&[vec![1.0, f64::NAN]], Level::Interval), Err(Undefined::NotFinite));
}

#[test]
fn strengths_are_those_of_another_fit() {
    for it in golden_part("bradley_terry") {
        let name = it["name"].as_str().unwrap();
        let outcomes = Outcomes { wins: table(&it["wins"]), ties: table(&it["ties"]) };
        let ours = fit(&outcomes).unwrap();
        for (side, theirs) in it["theta"].as_array().unwrap().iter().enumerate() {
            near(ours.log_strengths[side], theirs, 1e-6, name);
            // Theirs come from differences of the likelihood.
            let interval = ours.interval(side, 0.95);
            near((interval.high - interval.low) / 2.0 / 1.959_963_984_540_054, &it["errors"][side], 1e-5, name);
        }
        near(ours.tie, &it["nu"], 1e-6, name);
        near(ours.log_likelihood, &it["log_likelihood"], 1e-9, name);
        assert!(ours.log_strengths.iter().sum::<f64>().abs() < 1e-12);
    }
}

#[test]
fn two_sides_without_ties_have_the_odds_of_their_wins() {
    let mut outcomes = Outcomes::new(2);
    (0..30).for_each(|_| outcomes.win(0, 1));
    (0..10).for_each(|_| outcomes.win(1, 0));
    let ours = fit(&outcomes).unwrap();
    assert!((ours.log_strengths[0] - ours.log_strengths[1] - 3.0_f64.ln()).abs() < 1e-12);
    assert!((ours.chances(0, 1)[0] - 0.75).abs() < 1e-12);
    // The standard error of a log odds ratio.
    assert!((ours.standard_error(0, 1) - (1.0_f64 / 30.0 + 0.1).sqrt()).abs() < 1e-12);
    (0..20).for_each(|_| outcomes.tie(0, 1));
    let [win, tie, loss] = fit(&outcomes).unwrap().chances(0, 1);
    assert!((win - 0.5).abs() < 1e-9 && (tie - 1.0 / 3.0).abs() < 1e-9 && (loss - 1.0 / 6.0).abs() < 1e-9);
}

#[test]
fn strengths_that_have_no_finite_estimate_say_so() {
    let with = |wins: &[(usize, usize)], ties: &[(usize, usize)]| {
        let mut outcomes = Outcomes::new(3);
        wins.iter().for_each(|it| outcomes.win(it.0, it.1));
        ties.iter().for_each(|it| outcomes.tie(it.0, it.1));
        fit(&outcomes).map(|_| ())
    };
    assert_eq!(with(&[], &[]), Err(Undefined::TooFew));
    assert_eq!(with(&[], &[(0, 1), (1, 2)]), Err(Undefined::Separated));
    assert_eq!(with(&[(0, 1), (0, 2), (1, 2), (2, 1)], &[]), Err(Undefined::Separated), "0 always wins");
    assert_eq!(with(&[(0, 1), (1, 0)], &[]), Err(Undefined::Separated), "2 was never compared");
    assert_eq!(with(&[(0, 1), (1, 0), (1, 2), (1, 2)], &[]), Err(Undefined::Separated), "2 never wins");
    assert_eq!(with(&[(0, 1), (1, 0), (1, 2), (2, 1)], &[]), Ok(()));
}

#[test]
fn careless_raters_are_found_and_strict_ones_are_not() {
    let mut votes = Vec::new();
    for presentation in 0..60 {
        let quality = (presentation % 5) as f64;
        for rater in 0..14 {
            let noise = [-0.5, 0.0, 0.5, 0.2, -0.2, 0.4, -0.4, 0.1][(presentation * 7 + rater * 3) % 8];
            votes.push(Vote { presentation, rater, value: quality + noise });
        }
        // One answers at random, above and below.
        let random = if presentation % 2 == 0 { 1.0 } else { -1.0 };
        votes.push(Vote { presentation, rater: 14, value: quality + random });
    }
    let found = screen(&votes);
    let rejected: Vec<usize> = found.iter().filter(|it| it.rejected).map(|it| it.rater).collect();
    assert_eq!(rejected, [14], "{found:?}");
    let one_sided = |it: &Vote| Vote { value: (it.presentation % 5) as f64 - 1.0, ..*it };
    let strict: Vec<Vote> = votes.iter().map(|it| if it.rater == 14 { one_sided(it) } else { *it }).collect();
    let found = screen(&strict);
    assert!(found.iter().all(|it| !it.rejected) && found[14].n_below > 30, "{found:?}");
    assert!(screen(&[Vote { presentation: 0, rater: 0, value: 1.0 }]).iter().all(|it| it.n == 0 && !it.rejected));
}
