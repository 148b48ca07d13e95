//! p-values, tests, proportions and power against scipy and statsmodels.

use jobctl::stats::Undefined;
use jobctl::stats::bootstrap::Bootstrap;
use jobctl::stats::crossed::crossed;
use jobctl::stats::dependent::{bootstrap_difference, meng_rosenthal_rubin};
use jobctl::stats::effect::{cohens_dz, smallest_detectable_dz};
use jobctl::stats::family::holm;
use jobctl::stats::paired::compare;
use jobctl::stats::permutation::paired_permutation;
use jobctl::stats::pooled::{Spread, pooled, pooled_interval, pooled_p};
use jobctl::stats::preference::{Tally, position_bias, sign_test, two_way_accuracy, wilson};
use jobctl::stats::significance::{kendall_p, pearson_p, spearman_p};
use jobctl::stats::wilcoxon::signed_rank;
use serde_json::Value;

use super::{golden_part, near, numbers};

#[test]
fn p_values_of_correlations_are_those_of_scipy() {
    use jobctl::stats::correlation::{pearson, spearman};
    for it in golden_part("p_values") {
        let (x, y) = (numbers(&it["x"]), numbers(&it["y"]));
        let name = it["name"].as_str().unwrap();
        near(pearson_p(pearson(&x, &y).unwrap(), x.len()).unwrap(), &it["pearson"], 1e-9, name);
        near(kendall_p(&x, &y).unwrap(), &it["kendall"], 1e-9, name);
        match &it["spearman"] {
            Value::Null => assert_eq!(spearman_p(1.0, x.len()), Err(Undefined::TooFew)),
            theirs => near(spearman_p(spearman(&x, &y).unwrap(), x.len()).unwrap(), theirs, 1e-9, name),
        }
    }
    assert_eq!(kendall_p(&[1.0, 1.0], &[1.0, 2.0]), Err(Undefined::Constant));
    assert_eq!(kendall_p(&[1.0, f64::NAN], &[1.0, 2.0]), Err(Undefined::NotFinite));
    assert_eq!(pearson_p(0.5, 1), Err(Undefined::TooFew));
}

#[test]
fn signed_ranks_are_those_of_scipy() {
    for it in golden_part("wilcoxon") {
        let name = it["name"].as_str().unwrap();
        let ours = signed_rank(&numbers(&it["differences"])).unwrap();
        near(ours.positive.min(ours.negative), &it["statistic"], 1e-12, name);
        near(ours.p, &it["p"], 1e-9, name);
    }
    assert_eq!(signed_rank(&[]), Err(Undefined::TooFew));
    assert_eq!(signed_rank(&[0.0, 0.0]), Err(Undefined::Constant));
    let ours = signed_rank(&[3.0, 1.0, -2.0]).unwrap();
    assert!((ours.rank_biserial() - 2.0 / 6.0).abs() < 1e-15);
}

#[test]
fn exact_permutations_are_those_of_scipy() {
    for it in golden_part("permutation") {
        let ours = paired_permutation(&numbers(&it["differences"]), 0, 0).unwrap();
        assert!(ours.exact);
        near(ours.p, &it["p"], 1e-12, it["name"].as_str().unwrap());
    }
}

#[test]
fn drawn_permutations_come_near_all_of_them_and_stay_the_same() {
    let differences: Vec<f64> = (0..20).map(|it| f64::from(it) * 0.37 % 1.9 - 0.7).collect();
    let all = paired_permutation(&differences, 0, 0).unwrap();
    // A twenty-first pair that differs by next to nothing: too many to try all.
    let more: Vec<f64> = differences.iter().copied().chain([1e-9]).collect();
    let drawn = paired_permutation(&more, 20_000, 5).unwrap();
    assert!(all.exact && !drawn.exact);
    let error = (all.p * (1.0 - all.p) / 20_000.0).sqrt();
    assert!((all.p - drawn.p).abs() < 4.0 * error, "{} {}", all.p, drawn.p);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| paired_permutation(&more, 20_000, 5)).unwrap(), drawn);
}

#[test]
fn proportions_are_those_of_statsmodels() {
    for it in golden_part("proportions") {
        let (successes, n) = (it["successes"].as_f64().unwrap(), it["n"].as_f64().unwrap());
        let ours = wilson(successes, n, 0.95).unwrap();
        near(ours.low, &it["low"], 1e-9, "low");
        near(ours.high, &it["high"], 1e-9, "high");
        if !it["p"].is_null() {
            near(sign_test(successes as u64, (n - successes) as u64).unwrap(), &it["p"], 1e-9, "p");
        }
    }
    assert_eq!(wilson(0.0, 0.0, 0.95), Err(Undefined::TooFew));
    assert_eq!(sign_test(0, 0), Err(Undefined::TooFew));
    assert!(sign_test(60_000, 40_000).unwrap() < 1e-300);
}

#[test]
fn holm_is_that_of_statsmodels() {
    for it in golden_part("holm") {
        let ours = holm(&numbers(&it["p"]));
        for (ours, theirs) in ours.iter().zip(it["adjusted"].as_array().unwrap()) {
            near(*ours, theirs, 1e-15, "holm");
        }
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn the_smallest_detectable_difference_is_that_of_an_exact_integral() {
    for it in golden_part("power") {
        let n = it["n"].as_u64().unwrap() as usize;
        near(smallest_detectable_dz(n, 0.05, 0.8).unwrap(), &it["dz"], 1e-9, &format!("{n} pairs"));
    }
    assert_eq!(smallest_detectable_dz(1, 0.05, 0.8), Err(Undefined::TooFew));
    assert_eq!(cohens_dz(&[0.3, 0.3, 0.3]), Err(Undefined::Constant));
    assert!((cohens_dz(&[1.0, 2.0, 3.0]).unwrap() - 2.0).abs() < 1e-15);
}

#[test]
fn the_test_of_two_correlations_is_the_published_one() {
    for it in golden_part("meng") {
        let of = |key: &str| it[key].as_f64().unwrap();
        let n = it["n"].as_u64().unwrap() as usize;
        let ours = meng_rosenthal_rubin(of("first"), of("second"), of("between"), n, 0.95).unwrap();
        near(ours.z, &it["z"], 1e-12, "z");
        near(ours.p, &it["p"], 1e-9, "p");
        assert_eq!(ours.interval.holds(0.0), ours.p > 0.05);
    }
    assert_eq!(meng_rosenthal_rubin(1.0, 0.5, 0.2, 20, 0.95), Err(Undefined::Perfect));
    assert_eq!(meng_rosenthal_rubin(0.1, 0.5, 0.2, 3, 0.95), Err(Undefined::TooFew));
}

#[test]
fn pooling_is_the_mean_of_fishers_z() {
    let value = pooled(&[0.5, 0.7]).unwrap();
    assert!((value - ((0.5_f64.atanh() + 0.7_f64.atanh()) / 2.0).tanh()).abs() < 1e-15);
    assert_eq!(pooled(&[]), Err(Undefined::TooFew));
    assert_eq!(pooled(&[0.3, 1.0]), Err(Undefined::Perfect));
    assert_eq!(pooled(&[0.3, f64::NAN]), Err(Undefined::NotFinite));
    // Of one group it is that group's own interval.
    let alone = pooled_interval(0.5, &[50], Spread::PEARSON, 0.95).unwrap();
    assert_eq!(alone, jobctl::stats::correlation::fisher_interval(0.5, 50, 0.95).unwrap());
    assert!(pooled_p(0.5, &[50, 50], Spread::PEARSON).unwrap() < pooled_p(0.5, &[50], Spread::PEARSON).unwrap());
    assert_eq!(pooled_p(0.5, &[50, 3], Spread::PEARSON), Err(Undefined::TooFew));
}

#[test]
fn a_paired_bootstrap_counts_how_often_the_sign_turns() {
    let bootstrap = Bootstrap { n_resamples: 99, ..Bootstrap::default() };
    let replicates: Vec<Option<f64>> = (0..99).map(|it| Some(f64::from(it) - 9.5)).collect();
    let (interval, p) = bootstrap_difference(&bootstrap, replicates).unwrap();
    assert!((p - 2.0 * 11.0 / 100.0).abs() < 1e-15);
    assert!(interval.holds(0.0));
    assert!(bootstrap_difference(&bootstrap, vec![None; 99]).is_none());
}

#[test]
fn a_tally_counts_ties_for_one_half() {
    let tally = Tally { wins: 6, ties: 2, losses: 2 };
    assert_eq!(tally.win_rate(), Ok(0.7));
    assert_eq!(tally.turned().win_rate(), Ok(0.3));
    assert_eq!(tally.sign_test(), sign_test(6, 2));
    assert_eq!(tally.interval(0.95), wilson(7.0, 10.0, 0.95));
    assert_eq!(Tally::default().win_rate(), Err(Undefined::TooFew));
}

#[test]
fn bias_and_accuracy_are_shares_with_intervals() {
    let bias = position_bias(60, 100, 0.95);
    assert_eq!((bias.rate, bias.interval, bias.p), (Ok(0.6), wilson(60.0, 100.0, 0.95), sign_test(60, 40)));
    assert_eq!(position_bias(0, 0, 0.95).rate, Err(Undefined::TooFew));
    let metric = two_way_accuracy(&[(0.2, true), (-0.1, true), (0.0, false), (-3.0, false)], 0.95);
    assert_eq!((metric.accuracy, metric.n), (Ok(0.625), 4));
    assert_eq!(two_way_accuracy(&[], 0.95).accuracy, Err(Undefined::TooFew));
}

#[test]
fn a_comparison_says_what_it_cannot() {
    let bootstrap = Bootstrap { n_resamples: 400, ..Bootstrap::default() };
    let one = compare(&[0.5], &[vec![0]], &bootstrap);
    assert_eq!((one.mean, one.interval, one.sd), (Ok(0.5), None, Err(Undefined::TooFew)));
    assert_eq!(one.smallest_detectable, Err(Undefined::TooFew));
    let alike = compare(&[0.5; 6], &[], &bootstrap);
    assert_eq!(alike.cohens_dz, Err(Undefined::Constant));
    assert_eq!(alike.wilcoxon.unwrap().p, 2.0 / 64.0);
    let none = compare(&[], &[], &bootstrap);
    assert_eq!((none.mean, none.permutation), (Err(Undefined::TooFew), Err(Undefined::TooFew)));
}

#[test]
fn pairs_of_one_cluster_are_no_independent_witnesses() {
    let bootstrap = Bootstrap { n_resamples: 1_000, ..Bootstrap::default() };
    // Eight prompts, ten seeds each that differ little.
    let differences: Vec<f64> = (0..80).map(|it| f64::from(it / 10 % 4) - 0.9 + f64::from(it % 10) * 0.01).collect();
    let clusters: Vec<Vec<usize>> = (0..8).map(|it| (it * 10..it * 10 + 10).collect()).collect();
    let lone: Vec<Vec<usize>> = (0..80).map(|it| vec![it]).collect();
    let (clustered, naive) = (compare(&differences, &clusters, &bootstrap), compare(&differences, &lone, &bootstrap));
    let width = |it: &jobctl::stats::paired::Comparison| it.interval.map(|it| it.high - it.low).unwrap();
    assert!(width(&clustered) > 2.0 * width(&naive));
    assert!(clustered.wilcoxon.unwrap().p > naive.wilcoxon.unwrap().p);
}

#[test]
fn the_mean_of_a_crossed_table_has_the_error_that_reml_gives() {
    for it in golden_part("crossed") {
        let table: Vec<Vec<f64>> = it["table"].as_array().unwrap().iter().map(numbers).collect();
        let ours = crossed(&table).unwrap();
        near(ours.mean, &it["mean"], 1e-4, "mean");
        // Its search for the best variances ends a little off.
        near(ours.error, &it["error"], 2e-3, "error");
        assert!((ours.n_rows, ours.n_columns) == (table.len(), table[0].len()) && ours.degrees >= 2.0);
        assert!(ours.interval.holds(ours.mean) && (ours.p < 0.05) != ours.interval.holds(0.0));
    }
    assert_eq!(crossed(&[vec![1.0]]), Err(Undefined::TooFew));
    assert_eq!(crossed(&[vec![0.5, 0.5], vec![0.5, 0.5]]), Err(Undefined::Constant));
    assert_eq!(crossed(&[vec![0.5, f64::NAN]]), Err(Undefined::NotFinite));
    // One seed: Student's interval of four differences.
    let one = crossed(&[vec![1.0, 2.0, 3.0, 4.0]]).unwrap();
    assert!((one.degrees, one.mean) == (3.0, 2.5) && (one.error - (5.0_f64 / 12.0).sqrt()).abs() < 1e-12);
}

#[test]
fn intervals_of_crossed_tables_hold_the_mean_as_often_as_they_say() {
    // Where each cell counted as independent, intervals would hold it far less often.
    let (mut n_held, n_tables) = (0, 2_000);
    for seed in 0..n_tables {
        let mut random = jobctl::train::random::Stream::new(seed, jobctl::train::random::Purpose::HeldOut, 0, 0);
        let columns: Vec<f64> = (0..8).map(|_| random.normal()).collect();
        let mut row = || {
            let of_row = random.normal();
            columns.iter().map(|it| of_row + it + 0.5 * random.normal()).collect::<Vec<f64>>()
        };
        let table: Vec<Vec<f64>> = (0..4).map(|_| row()).collect();
        n_held += usize::from(crossed(&table).unwrap().interval.holds(0.0));
    }
    let share = n_held as f64 / n_tables as f64;
    assert!((0.93..0.98).contains(&share), "{share}");
}
