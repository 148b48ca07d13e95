//! A strict reader of Prometheus' text format, 0.0.4: what it takes, Prometheus takes.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by name and labels (sorted, as written).
pub struct Exposition(BTreeMap<(String, BTreeMap<String, String>), f64>);

impl Exposition {
    /// Reads an answer of `/metrics`.
    ///
    /// # Panics
    /// When a line is wrong, a family lacks help or type or stands in two places, a sample comes twice, or a histogram
    /// does not add up.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut samples = BTreeMap::new();
        let (mut helped, mut kinds) = (BTreeSet::new(), BTreeMap::new());
        let (mut family, mut over) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(!help.trim().is_empty() && helped.insert(name.to_owned()), "{line}");
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name), "{name} has a type and no help");
                assert!(over.insert(name.to_owned()), "{name} stands in two places");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none());
                family = name.to_owned();
                continue;
            }
            let (name, labels, value) = sample(line);
            let kind = kinds.get(&family).unwrap_or_else(|| panic!("a sample before its type: {line}"));
            let of_family = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|it| name == format!("{family}{it}")),
                _ => name == family,
            };
            assert!(of_family, "{name} stands among {family}");
            assert!(kind != "counter" || (name.ends_with("_total") && value >= 0.0), "{line}");
            assert!(samples.insert((name, labels), value).is_none(), "twice: {line}");
        }
        let read = Self(samples);
        for (name, _) in kinds.iter().filter(|it| it.1 == "histogram") {
            read.check_histogram(name);
        }
        read
    }

    fn check_histogram(&self, name: &str) {
        let mut last: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for ((_, labels), value) in self.0.iter().filter(|it| it.0.0 == format!("{name}_bucket")) {
            let mut others = labels.clone();
            let bound = others.remove("le").unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            last.entry(others).or_default().push((bound, *value));
        }
        for (labels, mut buckets) in last {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|it| it[0].1 <= it[1].1), "{name} falls: {buckets:?}");
            let (bound, n) = *buckets.last().unwrap();
            assert!(bound.is_infinite(), "{name} has no last bucket");
            assert_eq!(self.0[&(format!("{name}_count"), labels.clone())], n, "{name}");
            assert!(self.0[&(format!("{name}_sum"), labels)] >= 0.0);
        }
    }

    /// The value of the one sample of that name with these labels.
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect();
        *self.0.get(&(name.to_owned(), labels)).unwrap_or_else(|| panic!("no {name}; there are {:?}", self.0.keys()))
    }

    /// The sum of all samples of that name; 0 where there are none.
    pub fn sum(&self, name: &str) -> f64 {
        self.0.iter().filter(|it| it.0.0 == name).map(|it| it.1).sum()
    }

    /// The names of all samples.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(|it| it.0.as_str()).collect()
    }
}

/// `name{label="value",…} value`.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let is_name = |it: &str| {
        !it.is_empty()
            && !it.starts_with(|c: char| c.is_ascii_digit())
            && it.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
        None => (series, ""),
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label), "{line}");
        let mut text = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("a label without an end: {line}")) {
                (at, '"') => break at,
                (_, '\\') => text.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    it @ ('"' | '\\') => it,
                    it => panic!("\\{it} in {line}"),
                }),
                (_, it) => text.push(it),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
        rest = &after[end + 1..];
        rest = if rest.is_empty() { rest } else { rest.strip_prefix(',').unwrap_or_else(|| panic!("{line}")) };
    }
    let value = match value {
        "+Inf" => f64::INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().unwrap_or_else(|_| panic!("no number: {line}")),
    };
    (name.to_owned(), labels, value)
}
