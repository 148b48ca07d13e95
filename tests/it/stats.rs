//! Coefficients against scipy, intervals against scipy and against the truth of simulations.

mod agreement;
mod inference;
mod resampling;

use jobctl::stats::bootstrap::Bootstrap;
use jobctl::stats::correlation::{fisher_interval, kendall, pearson, ranks, spearman};
use jobctl::stats::describe::{mean, quantile, sd};
use jobctl::stats::{Interval, Undefined};
use proptest::prelude::*;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    correlations: Vec<Pair>,
    bca: Vec<Bca>,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    ranks: Vec<f64>,
    pearson: f64,
    fisher: Option<(f64, f64)>,
    spearman: f64,
    kendall: f64,
    mean: f64,
    sd: f64,
    quartiles: Vec<f64>,
}

#[derive(Deserialize)]
struct Bca {
    name: String,
    values: Vec<f64>,
    distribution: Vec<f64>,
    bca: (f64, f64),
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/stats.json")).unwrap()
}

/// One part of what other libraries say of tests, fits and agreement.
fn golden_part(name: &str) -> Vec<serde_json::Value> {
    let all: serde_json::Value = serde_json::from_str(include_str!("../golden/statistics.json")).unwrap();
    all[name].as_array().unwrap_or_else(|| panic!("{name}")).clone()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
}

/// Whether a value is another library's, to `tolerance` of it or of 1.
#[track_caller]
fn near(ours: f64, theirs: &serde_json::Value, tolerance: f64, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= tolerance * theirs.abs().max(1.0), "{what}: {ours} is not {theirs}");
}

#[track_caller]
fn equal(ours: f64, theirs: f64, what: &str) {
    near(ours, &theirs.into(), 1e-12, what);
}

#[test]
fn coefficients_are_those_of_scipy() {
    for it in golden().correlations {
        equal(pearson(&it.x, &it.y).unwrap(), it.pearson, &it.name);
        equal(spearman(&it.x, &it.y).unwrap(), it.spearman, &it.name);
        equal(kendall(&it.x, &it.y).unwrap(), it.kendall, &it.name);
        assert_eq!(ranks(&it.x), it.ranks, "{}", it.name);
    }
}

#[test]
fn descriptions_are_those_of_numpy() {
    for it in golden().correlations {
        equal(mean(&it.x).unwrap(), it.mean, &it.name);
        equal(sd(&it.x).unwrap(), it.sd, &it.name);
        for (p, theirs) in [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().zip(it.quartiles) {
            equal(quantile(&it.x, p).unwrap(), theirs, &it.name);
        }
    }
}

#[test]
fn the_interval_of_pearson_is_that_of_scipy() {
    for it in golden().correlations {
        let ours = fisher_interval(it.pearson, it.x.len(), 0.95);
        match it.fisher {
            Some((low, high)) => {
                equal(ours.unwrap().low, low, &it.name);
                equal(ours.unwrap().high, high, &it.name);
            }
            None => assert_eq!(ours, Err(Undefined::TooFew)),
        }
    }
}

#[test]
fn bca_of_a_given_distribution_is_that_of_scipy() {
    for it in golden().bca {
        let n = it.values.len() as f64;
        let total: f64 = it.values.iter().sum();
        let left_out: Vec<f64> = it.values.iter().map(|value| (total - value) / (n - 1.0)).collect();
        let ours = Bootstrap::default().bca_between(&it.distribution, total / n, &left_out).unwrap();
        // The quantiles lie where the normal distribution says, which statrs knows to about 1e-11.
        for (ours, theirs) in [(ours.low, it.bca.0), (ours.high, it.bca.1)] {
            assert!((ours - theirs).abs() <= 1e-9 * theirs.abs(), "{}: {ours} is not {theirs}", it.name);
        }
    }
}

#[test]
fn what_has_no_value_says_why() {
    assert_eq!(pearson(&[1.0], &[1.0]), Err(Undefined::TooFew));
    assert_eq!(spearman(&[], &[]), Err(Undefined::TooFew));
    assert_eq!(pearson(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]), Err(Undefined::Constant));
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[7.0, 7.0, 7.0]), Err(Undefined::Constant));
    assert_eq!(kendall(&[1.0, 2.0, 3.0], &[7.0, 7.0, 7.0]), Err(Undefined::Constant));
    assert_eq!(kendall(&[0.0, -0.0], &[1.0, 2.0]), Err(Undefined::Constant));
    assert_eq!(pearson(&[1.0, f64::NAN], &[1.0, 2.0]), Err(Undefined::NotFinite));
    assert_eq!(spearman(&[1.0, f64::INFINITY], &[1.0, 2.0]), Err(Undefined::NotFinite));
    assert_eq!(mean(&[]), Err(Undefined::TooFew));
    assert_eq!(sd(&[1.0]), Err(Undefined::TooFew));
    assert_eq!(quantile(&[f64::NAN], 0.5), Err(Undefined::NotFinite));
    assert_eq!(Bootstrap::default().bca_of_mean(&[1.0, 2.0]), None);
    assert_eq!(Bootstrap::default().percentile(50, |_| None), None);
}

#[test]
fn pearson_does_not_overflow() {
    let (x, y) = ([1e200, 2e200, 4e200], [1e-200, 2e-200, 3e-200]);
    equal(pearson(&x, &y).unwrap(), pearson(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0]).unwrap(), "extremes");
}

#[test]
fn equal_seeds_give_equal_intervals_for_ever() {
    let values = [3.1, 2.7, 4.4, 3.3, 9.8, 2.2, 3.0, 4.1];
    let rounded = |it: Option<Interval>| it.map(|it| ((it.low * 1e9).round(), (it.high * 1e9).round()));
    let bootstrap = Bootstrap { n_resamples: 500, seed: 7, level: 0.9 };
    let mean_of = |drawn: &[usize]| Some(drawn.iter().map(|&it| values[it]).sum::<f64>() / drawn.len() as f64);
    let clusters = [vec![0, 1], vec![2, 3, 4], vec![5], vec![6, 7]];
    insta::assert_debug_snapshot!([
        rounded(bootstrap.percentile(8, mean_of)),
        rounded(bootstrap.bca(8, mean_of)),
        rounded(bootstrap.clustered(&clusters, mean_of)),
    ]);
    assert_eq!(rounded(bootstrap.bca(8, mean_of)), rounded(bootstrap.bca_of_mean(&values)));
    assert_ne!(bootstrap.bca(8, mean_of), Bootstrap { seed: 8, ..bootstrap }.bca(8, mean_of));
}

#[test]
fn an_interval_of_equal_values_is_that_value() {
    let interval = Bootstrap::default().bca_of_mean(&[0.1; 10]);
    assert_eq!(interval, Some(Interval { low: 0.1, high: 0.1 }));
}

/// How often intervals over data of which `draw` makes the values hold `truth`.
fn coverage(n_trials: u64, truth: f64, interval: impl Fn(&mut Pcg64, &Bootstrap) -> Interval) -> f64 {
    let bootstrap = Bootstrap { n_resamples: 600, ..Bootstrap::default() };
    let n_held = (0..n_trials)
        .filter(|&it| interval(&mut Pcg64::seed_from_u64(it), &Bootstrap { seed: it + 1, ..bootstrap }).holds(truth))
        .count();
    n_held as f64 / n_trials as f64
}

fn uniform(rng: &mut Pcg64) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn exponential(rng: &mut Pcg64) -> f64 {
    -(1.0 - uniform(rng)).ln()
}

#[test]
fn intervals_of_a_skewed_mean_hold_the_truth_about_as_often_as_they_say() {
    let covered = coverage(600, 1.0, |rng, bootstrap| {
        let values: Vec<f64> = (0..40).map(|_| exponential(rng)).collect();
        bootstrap.bca_of_mean(&values).unwrap()
    });
    assert!((0.90..0.98).contains(&covered), "{covered}");
}

/// Ten clusters of six values that share most of what they are.
fn clustered_values(rng: &mut Pcg64) -> Vec<f64> {
    (0..10)
        .flat_map(|_| [exponential(rng); 6])
        .collect::<Vec<_>>()
        .into_iter()
        .map(|it| it + uniform(rng) - 0.5)
        .collect()
}

#[test]
fn clusters_widen_the_interval_as_they_must() {
    let clusters: Vec<Vec<usize>> = (0..10).map(|it| (6 * it..6 * it + 6).collect()).collect();
    let mean_of =
        |values: &[f64], drawn: &[usize]| Some(drawn.iter().map(|&it| values[it]).sum::<f64>() / drawn.len() as f64);
    let by_cluster = coverage(400, 1.0, |rng, bootstrap| {
        let values = clustered_values(rng);
        bootstrap.clustered(&clusters, |drawn| mean_of(&values, drawn)).unwrap()
    });
    let by_value = coverage(400, 1.0, |rng, bootstrap| {
        let values = clustered_values(rng);
        bootstrap.percentile(60, |drawn| mean_of(&values, drawn)).unwrap()
    });
    assert!(by_cluster > 0.80, "{by_cluster}");
    assert!(by_value < 0.65, "{by_value}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn coefficients_stay_between_minus_one_and_one(pairs in prop::collection::vec((-5_i8..5, -5_i8..5), 2..60)) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|it| (f64::from(it.0), f64::from(it.1))).unzip();
        for coefficient in [pearson(&x, &y), spearman(&x, &y), kendall(&x, &y)] {
            prop_assert!(coefficient.is_err() || coefficient.unwrap().abs() <= 1.0);
        }
    }

    #[test]
    fn ranks_only_depend_on_order(x in prop::collection::vec(-100.0..100.0_f64, 2..40)) {
        let y: Vec<f64> = x.iter().map(|it| it.atan()).collect();
        let reversed: Vec<f64> = x.iter().map(|it| -it).collect();
        prop_assume!(ranks(&x) == ranks(&y));
        prop_assert!((spearman(&x, &reversed).unwrap_or(-1.0) + 1.0).abs() < 1e-12);
        prop_assert!((kendall(&x, &y).unwrap_or(1.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn kendall_counts_as_its_definition_does(pairs in prop::collection::vec((-4_i8..4, -4_i8..4), 2..50)) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|it| (f64::from(it.0), f64::from(it.1))).unzip();
        let sign = |a: f64, b: f64| if a > b { 1.0 } else if a < b { -1.0 } else { 0.0 };
        let (mut both, mut of_x, mut of_y) = (0.0, 0.0, 0.0);
        for i in 0..x.len() {
            for j in 0..i {
                let (dx, dy) = (sign(x[i], x[j]), sign(y[i], y[j]));
                (both, of_x, of_y) = (both + dx * dy, of_x + dx * dx, of_y + dy * dy);
            }
        }
        match kendall(&x, &y) {
            Ok(tau) => prop_assert!((tau - both / f64::sqrt(of_x * of_y)).abs() < 1e-12),
            Err(_) => prop_assert_eq!(of_x * of_y, 0.0),
        }
    }
}
