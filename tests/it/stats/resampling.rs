//! Coefficients of resamples, the logistic fit, and intervals that do not depend on threads.

use jobctl::stats::Undefined;
use jobctl::stats::bootstrap::Bootstrap;
use jobctl::stats::columns::{Columns, fitted_pearson};
use jobctl::stats::correlation::{kendall, pearson, spearman};
use jobctl::stats::coverage::Study;
use jobctl::stats::logistic::Logistic;
use proptest::prelude::*;

use super::{golden_part, near, numbers};

#[test]
fn the_logistic_fit_is_that_of_scipy() {
    for it in golden_part("fits") {
        let (x, y) = (numbers(&it["x"]), numbers(&it["y"]));
        let name = it["name"].as_str().unwrap();
        let ours = Logistic::fit(&x, &y).unwrap();
        for (ours, theirs) in
            [ours.upper, ours.lower, ours.middle, ours.width].into_iter().zip(numbers(&it["parameters"]))
        {
            // The bottom is flat: parameters are known to the root of what the sum of squares is.
            assert!((ours - theirs).abs() <= 1e-5 * theirs.abs().max(1.0), "{name}: {ours} is not {theirs}");
        }
        near(fitted_pearson(&x, &y).unwrap(), &it["plcc"], 1e-9, name);
    }
}

#[test]
fn a_fit_needs_five_pairs_that_vary() {
    assert_eq!(fitted_pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 5.0]), Err(Undefined::TooFew));
    assert_eq!(fitted_pearson(&[1.0; 6], &[1.0, 2.0, 3.0, 5.0, 4.0, 6.0]), Err(Undefined::Constant));
    assert_eq!(fitted_pearson(&[1.0, 2.0, 3.0, 5.0, 4.0, 6.0], &[1.0; 6]), Err(Undefined::Constant));
    assert_eq!(fitted_pearson(&[1.0, 2.0, 3.0, 5.0, 4.0, f64::INFINITY], &[1.0; 6]), Err(Undefined::NotFinite));
}

#[test]
fn a_line_and_a_step_are_fitted_as_well_as_a_logistic_can() {
    let x: Vec<f64> = (0..40).map(f64::from).collect();
    let line: Vec<f64> = x.iter().map(|it| 3.0 * it - 7.0).collect();
    assert!(fitted_pearson(&x, &line).unwrap() > 0.999_99);
    let step: Vec<f64> = x.iter().map(|it| if *it < 17.5 { 1.0 } else { 5.0 }).collect();
    assert!(fitted_pearson(&x, &step).unwrap() > 0.999_999);
    let falling: Vec<f64> = line.iter().map(|it| -it).collect();
    assert!(fitted_pearson(&x, &falling).unwrap() > 0.999_99, "the fit turns what falls");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn coefficients_of_resamples_are_those_of_the_drawn_pairs(
        rows in prop::collection::vec((-5_i8..5, -5_i8..5, 0..40_usize), 5..40),
    ) {
        let x: Vec<f64> = rows.iter().map(|it| f64::from(it.0)).collect();
        let y: Vec<f64> = rows.iter().map(|it| f64::from(it.1)).collect();
        let drawn: Vec<usize> = rows.iter().map(|it| it.2 % rows.len()).collect();
        let (drawn_x, drawn_y): (Vec<f64>, Vec<f64>) = drawn.iter().map(|it| (x[*it], y[*it])).unzip();
        let columns = Columns::new(&x, &y).unwrap();
        let counts = columns.counts(drawn.iter().copied());
        for (quick, plain) in [
            (columns.pearson(&counts), pearson(&drawn_x, &drawn_y)),
            (columns.spearman(&counts), spearman(&drawn_x, &drawn_y)),
            (columns.kendall(&counts), kendall(&drawn_x, &drawn_y)),
        ] {
            match (quick, plain) {
                (Some(quick), Ok(plain)) => prop_assert!((quick - plain).abs() < 1e-12, "{} is not {}", quick, plain),
                (quick, plain) => prop_assert!(quick.is_none() && plain.is_err(), "{:?} is not {:?}", quick, plain),
            }
        }
    }
}

#[test]
fn the_fit_of_a_resample_is_that_of_the_drawn_pairs() {
    let it = &golden_part("fits")[2];
    let (x, y) = (numbers(&it["x"]), numbers(&it["y"]));
    let columns = Columns::new(&x, &y).unwrap();
    let drawn: Vec<usize> = (0..x.len()).map(|it| it * 7 % 101).collect();
    let (drawn_x, drawn_y): (Vec<f64>, Vec<f64>) = drawn.iter().map(|it| (x[*it], y[*it])).unzip();
    let quick = columns.fitted_pearson(&columns.counts(drawn.iter().copied())).unwrap();
    assert!((quick - fitted_pearson(&drawn_x, &drawn_y).unwrap()).abs() < 1e-5);
    let all = columns.fitted_pearson(&columns.all()).unwrap();
    assert!((all - it["plcc"].as_f64().unwrap()).abs() < 1e-9);
}

#[test]
fn intervals_do_not_depend_on_how_many_threads_there_are() {
    let values: Vec<f64> = (0..500).map(|it| f64::from(it * 37 % 101) / 10.0).collect();
    let bootstrap = Bootstrap { n_resamples: 777, seed: 3, level: 0.9 };
    let with = |n_threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| bootstrap.bca_of_mean(&values)).unwrap()
    };
    assert_eq!(with(1), with(2));
    assert_eq!(with(1), with(7));
}

#[test]
fn means_that_share_their_draws_have_the_intervals_that_each_has_alone() {
    let bootstrap = Bootstrap { n_resamples: 333, seed: 11, level: 0.9 };
    let column =
        |n: usize, seed: usize| (0..n).map(|it| ((it * 37 + seed * 91) % 101) as f64 / 7.0).collect::<Vec<_>>();
    // More than are summed at a time, of several lengths, and some of which no mean is drawn.
    let mut columns: Vec<Vec<f64>> = (0..21).map(|it| column(if it % 4 == 1 { 40 } else { 57 }, it)).collect();
    columns.extend([vec![], vec![1.0, 2.0], vec![3.0; 57], vec![f64::NAN; 57], column(3, 5)]);
    let all: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let mean = |values: &[f64], drawn: &[usize]| drawn.iter().map(|it| values[*it]).sum::<f64>() / drawn.len() as f64;
    let alone: Vec<_> = all.iter().map(|it| bootstrap.bca_of_mean(it)).collect();
    assert_eq!(bootstrap.bca_of_means(&all), alone);
    assert_eq!(alone.iter().flatten().count(), 23);
    let alone: Vec<_> = all.iter().map(|it| bootstrap.percentile(it.len(), |drawn| Some(mean(it, drawn)))).collect();
    assert_eq!(bootstrap.percentile_of_means(&all), alone);
    assert_eq!(alone.iter().flatten().count(), 23);
}

#[test]
fn strata_are_drawn_each_for_itself() {
    let bootstrap = Bootstrap { n_resamples: 50, ..Bootstrap::default() };
    for drawn in bootstrap.replicates(&[3, 5, 1], <[usize]>::to_vec) {
        assert_eq!(drawn.len(), 9);
        assert!(drawn[..3].iter().all(|it| *it < 3), "{drawn:?}");
        assert!(drawn[3..8].iter().all(|it| (3..8).contains(it)), "{drawn:?}");
        assert_eq!(drawn[8], 8);
    }
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    let bootstrap = Bootstrap { n_resamples: 200, ..Bootstrap::default() };
    let study = Study { n: 60, rho: 0.75, n_studies: 150, seed: 9 };
    let held = study.run(&bootstrap);
    for (name, share) in [
        ("srcc", held.srcc),
        ("plcc", held.plcc),
        ("plcc_fit", held.plcc_fit),
        ("krcc", held.krcc),
        ("mean", held.mean),
    ] {
        assert!((0.86..=1.0).contains(&share), "{name} {share}");
    }
    let same = study.run(&bootstrap);
    assert_eq!((held.srcc, held.krcc), (same.srcc, same.krcc));
}
