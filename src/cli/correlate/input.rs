//! What `jobctl correlate` reads: the columns that the arguments name, group by group.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::Args;
use crate::labels::table::Table;
use crate::stats::study::Rows;

/// The columns as numbers.
pub(super) struct Input {
    /// The column of opinions, or the columns.
    pub(super) human: String,
    opinions: Vec<Option<f64>>,
    /// One for each metric, then the one that they are compared with, if any.
    metrics: Vec<Vec<Option<f64>>>,
    /// Which group each row is in, and the groups' names in the order of the table.
    groups: Vec<usize>,
    names: Vec<Option<String>>,
    clusters: Option<Vec<String>>,
}

/// The rows of one group.
pub(super) struct Group {
    /// Its name; none where there are no groups.
    pub(super) name: Option<String>,
    pub(super) rows: Rows,
}

impl Input {
    /// Reads the table and says on standard error how many rows lack a number.
    ///
    /// # Errors
    /// It is no table, lacks a column, or holds something else where a number should be.
    pub(super) fn read(args: &Args) -> anyhow::Result<Self> {
        let table = Table::read(&args.table)?;
        let n = table.rows.len();
        let numbers = |name: &str| -> anyhow::Result<Vec<Option<f64>>> {
            let column = table.column(name)?;
            (0..n).map(|row| table.number(row, column)).collect()
        };
        let texts = |name: &String| -> anyhow::Result<Vec<String>> {
            let column = table.column(name)?;
            Ok((0..n).map(|row| table.text(row, column).unwrap_or_default().to_owned()).collect())
        };
        let metrics =
            args.metric.iter().chain(&args.against).map(|it| numbers(it)).collect::<anyhow::Result<Vec<_>>>()?;
        let of_raters = args.human.iter().map(|it| numbers(it)).collect::<anyhow::Result<Vec<_>>>()?;
        let mean = |row: usize| {
            let of_row: Vec<f64> = of_raters.iter().filter_map(|it| it[row]).collect();
            (!of_row.is_empty()).then(|| of_row.iter().sum::<f64>() / of_row.len() as f64)
        };
        let opinions: Vec<Option<f64>> = (0..n).map(mean).collect();
        ensure!(opinions.iter().any(Option::is_some), "column `{}` holds no number", args.human.join(","));
        for (name, values) in args.metric.iter().chain(&args.against).zip(&metrics) {
            ensure!(values.iter().any(Option::is_some), "column `{name}` holds no number");
            let n_left_out = values.iter().zip(&opinions).filter(|it| it.0.is_none() || it.1.is_none()).count();
            if n_left_out > 0 {
                eprintln!(
                    "{name}: {n_left_out} of {n} rows left out: no finite number in `{name}` ({}) or in `{}` ({})",
                    values.iter().filter(|it| it.is_none()).count(),
                    args.human.join(","),
                    opinions.iter().filter(|it| it.is_none()).count(),
                );
            }
        }
        let (mut groups, mut names) = (vec![0; n], vec![None]);
        if let Some(column) = &args.group {
            names.clear();
            let mut place: BTreeMap<String, usize> = BTreeMap::new();
            for (row, name) in texts(column)?.into_iter().enumerate() {
                groups[row] = *place.entry(name.clone()).or_insert_with(|| {
                    names.push(Some(name));
                    names.len() - 1
                });
            }
        }
        let clusters = args.cluster.as_ref().map(texts).transpose()?;
        Ok(Self { human: args.human.join(","), opinions, metrics, groups, names, clusters })
    }

    /// The rows that have an opinion and a score, group by group. A group without any is not there.
    pub(super) fn groups(&self, metric: usize) -> Vec<Group> {
        self.select(metric, |_| true)
    }

    /// The same of rows that have the other metric's score too, and those.
    pub(super) fn pairs(&self, metric: usize) -> Vec<(Group, Vec<f64>)> {
        let other = &self.metrics[self.metrics.len() - 1];
        let groups = self.select(metric, |row| other[row].is_some());
        let in_group = |name: &Option<String>| self.names.iter().position(|it| it == name);
        groups
            .into_iter()
            .map(|group| {
                let own = in_group(&group.name);
                let rows = (0..self.opinions.len()).filter(|row| {
                    Some(self.groups[*row]) == own
                        && self.opinions[*row].is_some()
                        && self.metrics[metric][*row].is_some()
                });
                let second = rows.filter_map(|row| other[row]).collect();
                (group, second)
            })
            .collect()
    }

    fn select(&self, metric: usize, also: impl Fn(usize) -> bool) -> Vec<Group> {
        let mut groups: Vec<Group> =
            self.names.iter().map(|name| Group { name: name.clone(), rows: Rows::default() }).collect();
        let mut clusters: Vec<BTreeMap<&str, Vec<usize>>> = vec![BTreeMap::new(); groups.len()];
        for row in 0..self.opinions.len() {
            let (Some(x), Some(y), true) = (self.metrics[metric][row], self.opinions[row], also(row)) else { continue };
            let group = self.groups[row];
            let rows = &mut groups[group].rows;
            if let Some(names) = &self.clusters {
                clusters[group].entry(&names[row]).or_default().push(rows.x.len());
            }
            rows.x.push(x);
            rows.y.push(y);
        }
        if self.clusters.is_some() {
            for (group, clusters) in groups.iter_mut().zip(clusters) {
                group.rows.clusters = Some(clusters.into_values().collect());
            }
        }
        groups.retain(|it| !it.rows.x.is_empty());
        groups
    }
}
