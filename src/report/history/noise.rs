//! Whether a change is more than noise: paired, unpaired, or against the nights before.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::stats::Interval;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::describe::{mean, sd};
use crate::stats::family;
use crate::stats::permutation::paired_permutation;

/// Up to so many pairs all choices of signs are tried; drawing some of more would give no p small enough for Holm.
const MOST_EXACT: usize = 20;
/// Fewer nights than this say nothing about how much a number wanders.
const FEWEST_NIGHTS: usize = 4;

/// A difference, how sure it is, and how probable one as large is by chance alone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Tested {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
    pub(super) p: Option<f64>,
}

/// The mean of paired differences: its interval by bootstrap (BCa), and the probability by trying all signs where there
/// are few pairs, else by Student's t.
pub(super) fn paired(differences: &[f64], bootstrap: &Bootstrap) -> Option<Tested> {
    let value = mean(differences).ok()?;
    let interval = bootstrap.bca_of_mean(differences);
    let p = if differences.len() < 2 {
        None
    } else if differences.len() <= MOST_EXACT {
        paired_permutation(differences, bootstrap.n_resamples, bootstrap.seed).ok().map(|it| it.p)
    } else {
        by_t(differences)
    };
    Some(Tested { value, interval, p })
}

fn by_t(differences: &[f64]) -> Option<f64> {
    let (n, spread) = (differences.len() as f64, sd(differences).ok()?);
    let centre = mean(differences).ok()?;
    if spread == 0.0 {
        return Some(if centre == 0.0 { 1.0 } else { 0.0 });
    }
    two_sided(centre / (spread / n.sqrt()), n - 1.0)
}

fn two_sided(t: f64, freedom: f64) -> Option<f64> {
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some((2.0 * student.sf(t.abs())).min(1.0))
}

/// How many values, their mean and standard deviation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Summary {
    pub(super) n: usize,
    pub(super) mean: f64,
    pub(super) sd: f64,
}

/// The difference of two means of independent values, by Welch's t.
pub(super) fn unpaired(before: Summary, after: Summary, level: f64) -> Tested {
    let value = after.mean - before.mean;
    let part = |it: Summary| it.sd * it.sd / it.n as f64;
    let (a, b) = (part(before), part(after));
    if before.n < 2 || after.n < 2 || a + b <= 0.0 {
        return Tested { value, interval: None, p: None };
    }
    let freedom = (a + b).powi(2) / (a * a / (before.n as f64 - 1.0) + b * b / (after.n as f64 - 1.0));
    let error = (a + b).sqrt();
    let interval = StudentsT::new(0.0, 1.0, freedom).ok().map(|it| {
        let reach = it.inverse_cdf(0.5 + level / 2.0) * error;
        Interval { low: value - reach, high: value + reach }
    });
    Tested { value, interval, p: two_sided(value / error, freedom) }
}

/// Tonight's single number against those of the nights before: the interval is that of prediction.
pub(super) fn among_nights(past: &[f64], tonight: f64, level: f64) -> Option<Tested> {
    if past.len() < FEWEST_NIGHTS {
        return None;
    }
    let (n, centre, spread) = (past.len() as f64, mean(past).ok()?, sd(past).ok()?);
    let value = tonight - centre;
    let error = spread * (1.0 + 1.0 / n).sqrt();
    if error == 0.0 {
        // It has never moved: any move is one.
        let p = if value == 0.0 { 1.0 } else { 0.0 };
        return Some(Tested { value, interval: Some(Interval { low: value, high: value }), p: Some(p) });
    }
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let reach = student.inverse_cdf(0.5 + level / 2.0) * error;
    let interval = Some(Interval { low: value - reach, high: value + reach });
    Some(Tested { value, interval, p: two_sided(value / error, n - 1.0) })
}

/// Holm's correction (1979): what is below 1 − level afterwards is false with no more than that chance over all of them
/// together. Those without a probability stay so.
pub(super) fn holm(ps: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut corrected = family::holm(&ps.iter().flatten().copied().collect::<Vec<f64>>()).into_iter();
    ps.iter().map(|p| p.and_then(|_| corrected.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn welch_agrees_with_scipy() {
        // scipy.stats.ttest_ind_from_stats(10.2, 1.5, 30, 9.1, 2.2, 25, equal_var=False): tests/golden/change.py.
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/golden/change.json")).unwrap();
        for case in golden["welch"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let of = |which: &str| Summary {
                n: case[format!("n_{which}")].as_u64().unwrap() as usize,
                mean: number(&format!("mean_{which}")),
                sd: number(&format!("sd_{which}")),
            };
            let got = unpaired(of("before"), of("after"), 0.95);
            let interval = got.interval.unwrap();
            assert!(near(got.p.unwrap(), number("p")), "{got:?} {case}");
            assert!(near(interval.low, number("low")) && near(interval.high, number("high")), "{got:?} {case}");
        }
        for case in golden["paired"].as_array().unwrap() {
            let values: Vec<f64> =
                case["differences"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
            let got = paired(&values, &Bootstrap::default()).unwrap();
            assert!(near(got.p.unwrap(), case["p"].as_f64().unwrap()), "{got:?} {case}");
        }
        let ps: Vec<Option<f64>> =
            golden["holm"]["p"].as_array().unwrap().iter().map(serde_json::Value::as_f64).collect();
        let expected = golden["holm"]["corrected"].as_array().unwrap();
        for (got, expected) in holm(&ps).into_iter().zip(expected) {
            assert!(near(got.unwrap(), expected.as_f64().unwrap()), "{got:?} {expected}");
        }
        for case in golden["nights"].as_array().unwrap() {
            let past: Vec<f64> = case["past"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
            let got = among_nights(&past, case["tonight"].as_f64().unwrap(), 0.95).unwrap();
            let interval = got.interval.unwrap();
            assert!(near(got.p.unwrap(), case["p"].as_f64().unwrap()), "{got:?} {case}");
            assert!(near(interval.low, case["low"].as_f64().unwrap()), "{got:?} {case}");
        }
    }

    #[test]
    fn what_has_no_spread_or_too_little_is_said_as_such() {
        assert_eq!(paired(&[], &Bootstrap::default()), None);
        assert_eq!(paired(&[1.0], &Bootstrap::default()).unwrap().p, None);
        let still = paired(&[0.0; 40], &Bootstrap::default()).unwrap();
        assert_eq!((still.value, still.p), (0.0, Some(1.0)));
        assert_eq!(still.interval, Some(Interval { low: 0.0, high: 0.0 }));
        // Three pairs cannot be told from chance, however alike they are.
        assert_eq!(paired(&[1.0; 3], &Bootstrap::default()).unwrap().p, Some(0.25));
        assert_eq!(among_nights(&[1.0, 2.0, 3.0], 9.0, 0.95), None);
        let alone = Summary { n: 1, mean: 1.0, sd: 0.0 };
        assert_eq!(unpaired(alone, alone, 0.95).p, None);
        assert_eq!(holm(&[None, Some(0.04), None]), [None, Some(0.04), None]);
    }
}
