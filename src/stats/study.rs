//! A metric against opinions: SRCC, PLCC raw and after the logistic fit, KRCC, each with its interval and p-value.

use serde::{Serialize, Serializer};

use super::bootstrap::Bootstrap;
use super::columns::{Columns, fitted_pearson};
use super::correlation::{fisher_interval, kendall, pearson, spearman};
use super::dependent::{bootstrap_difference, meng_rosenthal_rubin};
use super::pooled::{Spread, pooled, pooled_interval, pooled_p};
use super::significance::{kendall_p, pearson_p, spearman_p};
use super::{Defined, Interval, Undefined};

/// A coefficient with its interval and its p-value. As JSON `{"value", "low", "high", "p"}`, null where there is none,
/// and then `"why"`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// The coefficient.
    pub value: Defined,
    /// Its interval.
    pub interval: Option<Interval>,
    /// Two-sided, that there is no relation, or no difference.
    pub p: Option<f64>,
}

impl Serialize for Estimate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plain {
            value: Option<f64>,
            low: Option<f64>,
            high: Option<f64>,
            p: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<String>,
        }
        let (low, high) = self.interval.map(|it| (it.low, it.high)).unzip();
        let why = self.value.err().map(|it| it.to_string());
        Plain { value: self.value.ok(), low, high, p: self.p, why }.serialize(serializer)
    }
}

/// The four coefficients of a metric and opinions.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Coefficients {
    /// Spearman's ρ; percentile bootstrap.
    pub srcc: Estimate,
    /// Pearson's r of the raw values; Fisher's z.
    pub plcc: Estimate,
    /// Pearson's r after the logistic fit; percentile bootstrap with the fit made anew for each resample. Its p-value takes
    /// the fitted curve as given.
    pub plcc_fit: Estimate,
    /// Kendall's τ-b; percentile bootstrap.
    pub krcc: Estimate,
}

/// Rows that are judged together: a metric's scores, the opinions, and which rows belong to one cluster.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The metric's scores.
    pub x: Vec<f64>,
    /// The opinions.
    pub y: Vec<f64>,
    /// Lists of rows that are drawn together; none: each by itself.
    pub clusters: Option<Vec<Vec<usize>>>,
}

impl Rows {
    /// How many units resamples draw.
    fn n_units(&self) -> usize {
        self.clusters.as_ref().map_or(self.x.len(), Vec::len)
    }

    /// How often each row is drawn, when these units are; the first unit's number is `first`.
    fn counts(&self, columns: &Columns, drawn: &[usize], first: usize) -> Vec<u32> {
        match &self.clusters {
            None => columns.counts(drawn.iter().map(|it| it - first)),
            Some(clusters) => columns.counts(drawn.iter().flat_map(|it| clusters[it - first].iter().copied())),
        }
    }
}

/// SRCC, PLCC, fitted PLCC and KRCC of a resample.
type Four = [Option<f64>; 4];

fn of_resample(columns: &Columns, counts: &[u32]) -> Four {
    [columns.spearman(counts), columns.pearson(counts), columns.fitted_pearson(counts), columns.kendall(counts)]
}

fn values(rows: &Rows) -> [Defined; 4] {
    let (x, y) = (&rows.x, &rows.y);
    [spearman(x, y), pearson(x, y), fitted_pearson(x, y), kendall(x, y)]
}

/// The interval and the p-value that the resamples of one coefficient give.
fn resampled(bootstrap: &Bootstrap, replicates: &[Four], which: usize) -> Option<(Interval, f64)> {
    bootstrap_difference(bootstrap, replicates.iter().map(|it| it[which]).collect())
}

/// The coefficients over `rows`. With clusters, all intervals and p-values come from resamples of whole clusters.
pub fn coefficients(rows: &Rows, bootstrap: &Bootstrap) -> Coefficients {
    let n = rows.x.len();
    let values = values(rows);
    let replicates = match Columns::new(&rows.x, &rows.y) {
        Ok(columns) if rows.n_units() >= super::bootstrap::MIN_UNITS => {
            bootstrap.replicates(&[rows.n_units()], |drawn| of_resample(&columns, &rows.counts(&columns, drawn, 0)))
        }
        _ => Vec::new(),
    };
    let of = |which: usize, interval: Option<Interval>, p: Defined| {
        let drawn = if values[which].is_ok() && !replicates.is_empty() {
            resampled(bootstrap, &replicates, which)
        } else {
            None
        };
        let (interval, p) = if rows.clusters.is_some() {
            drawn.unzip()
        } else {
            (interval.or(drawn.map(|it| it.0)), values[which].and(p).ok())
        };
        Estimate { value: values[which], interval, p }
    };
    let fisher = values[1].and_then(|r| fisher_interval(r, n, bootstrap.level)).ok();
    // Where Fisher's z has no interval, resamples of so few rows have none that is worth more.
    let plcc = of(1, fisher, values[1].and_then(|r| pearson_p(r, n)));
    let plcc = if rows.clusters.is_none() { Estimate { interval: fisher, ..plcc } } else { plcc };
    Coefficients {
        srcc: of(0, None, values[0].and_then(|rho| spearman_p(rho, n))),
        plcc,
        plcc_fit: of(2, None, values[2].and_then(|r| pearson_p(r, n))),
        krcc: of(3, None, kendall_p(&rows.x, &rows.y)),
    }
}

/// The coefficients pooled over groups, tanh of the mean of arctanh r; a coefficient is pooled over those groups where it
/// is defined, and is undefined where none has it. Intervals come from resamples within groups, Pearson's from
/// Fisher's z; p-values from the normal distribution of the mean of arctanh r, or from resamples with clusters.
pub fn pooled_coefficients(groups: &[Rows], bootstrap: &Bootstrap) -> Coefficients {
    let of_groups: Vec<[Defined; 4]> = groups.iter().map(values).collect();
    let columns: Vec<Option<Columns>> = groups.iter().map(|it| Columns::new(&it.x, &it.y).ok()).collect();
    let strata: Vec<usize> = groups.iter().map(Rows::n_units).collect();
    let has_clusters = groups.iter().any(|it| it.clusters.is_some());
    let replicates: Vec<Four> = bootstrap.replicates(&strata, |drawn| {
        let mut drawn_of: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::with_capacity(groups.len()));
        let mut first = 0;
        for (idx, group) in groups.iter().enumerate() {
            let units = &drawn[first..first + strata[idx]];
            if let Some(columns) = &columns[idx] {
                let four = of_resample(columns, &group.counts(columns, units, first));
                for which in 0..4 {
                    if of_groups[idx][which].is_ok() {
                        drawn_of[which].push(four[which].unwrap_or(f64::NAN));
                    }
                }
            }
            first += strata[idx];
        }
        drawn_of.map(|it| pooled(&it).ok())
    });
    let of = |which: usize, spread: Spread, by_fisher: bool| {
        let defined: Vec<(f64, usize)> =
            of_groups.iter().zip(groups).filter_map(|(it, rows)| Some((it[which].ok()?, rows.x.len()))).collect();
        let (coefficients, sizes): (Vec<f64>, Vec<usize>) = defined.into_iter().unzip();
        let none_why = of_groups.iter().find_map(|it| it[which].err()).unwrap_or(Undefined::TooFew);
        let value = if coefficients.is_empty() { Err(none_why) } else { pooled(&coefficients) };
        let Ok(pooled) = value else { return Estimate { value, interval: None, p: None } };
        let drawn = resampled(bootstrap, &replicates, which);
        if has_clusters {
            let (interval, p) = drawn.unzip();
            return Estimate { value, interval, p };
        }
        let interval = if by_fisher {
            pooled_interval(pooled, &sizes, spread, bootstrap.level).ok()
        } else {
            drawn.map(|it| it.0)
        };
        Estimate { value, interval, p: pooled_p(pooled, &sizes, spread).ok() }
    };
    Coefficients {
        srcc: of(0, Spread::SPEARMAN, false),
        plcc: of(1, Spread::PEARSON, true),
        plcc_fit: of(2, Spread::PEARSON, false),
        krcc: of(3, Spread::KENDALL, false),
    }
}

/// How much better one metric goes with opinions than another, over the same rows: the first's coefficients less the
/// second's, with intervals and p-values of a paired bootstrap, and beside them the test of Meng, Rosenthal and Rubin.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Differences {
    /// The four differences.
    #[serde(flatten)]
    pub by_bootstrap: Coefficients,
    /// The p-value of the test for Pearson's r; null with clusters, whose rows are not independent.
    pub plcc_meng_p: Option<f64>,
    /// The same test of Spearman's ρ (after Myers and Sirois 2006, an approximation).
    pub srcc_meng_p: Option<f64>,
}

/// Compares two metrics over the same rows; `second` are the other metric's scores.
pub fn differences(rows: &Rows, second: &[f64], bootstrap: &Bootstrap) -> Differences {
    let other = Rows { x: second.to_vec(), ..rows.clone() };
    let (ours, theirs) = (values(rows), values(&other));
    let replicates: Vec<Four> = match (Columns::new(&rows.x, &rows.y), Columns::new(second, &rows.y)) {
        (Ok(a), Ok(b)) if rows.n_units() >= super::bootstrap::MIN_UNITS => {
            bootstrap.replicates(&[rows.n_units()], |drawn| {
                let counts = rows.counts(&a, drawn, 0);
                let (a, b) = (of_resample(&a, &counts), of_resample(&b, &counts));
                std::array::from_fn(|it| Some(a[it]? - b[it]?))
            })
        }
        _ => Vec::new(),
    };
    let of = |which: usize| {
        let value = ours[which].and_then(|it| Ok(it - theirs[which]?));
        let drawn =
            if value.is_ok() && !replicates.is_empty() { resampled(bootstrap, &replicates, which) } else { None };
        let (interval, p) = drawn.unzip();
        Estimate { value, interval, p }
    };
    let meng = |which: usize, between: Defined| -> Option<f64> {
        let test =
            meng_rosenthal_rubin(ours[which].ok()?, theirs[which].ok()?, between.ok()?, rows.x.len(), bootstrap.level);
        Some(test.ok().filter(|_| rows.clusters.is_none())?.p)
    };
    Differences {
        by_bootstrap: Coefficients { srcc: of(0), plcc: of(1), plcc_fit: of(2), krcc: of(3) },
        plcc_meng_p: meng(1, pearson(&rows.x, second)),
        srcc_meng_p: meng(0, spearman(&rows.x, second)),
    }
}
