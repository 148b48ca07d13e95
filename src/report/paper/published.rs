//! The published numbers, from `reports/published.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

static PUBLISHED: LazyLock<File> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../reports/published.toml")).expect("a test reads this very file")
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    table: Vec<Table>,
}

/// One table of the paper.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::report) struct Table {
    pub(in crate::report) number: u8,
    pub(in crate::report) title: String,
    /// The names of its numbers, in the paper's order.
    pub(in crate::report) columns: Vec<String>,
    #[serde(rename = "row")]
    pub(in crate::report) rows: Vec<Row>,
}

/// One method and what was published of it.
#[derive(Deserialize)]
pub(in crate::report) struct Row {
    pub(in crate::report) method: String,
    /// The name by which it is found among ours; see [`key`].
    pub(in crate::report) key: String,
    /// Who published it, if not the paper.
    pub(in crate::report) origin: Option<String>,
    #[serde(flatten)]
    pub(in crate::report) numbers: BTreeMap<String, f64>,
}

/// A table by its number in the paper; none for tables without numbers.
pub(in crate::report) fn table(number: u8) -> Option<&'static Table> {
    PUBLISHED.table.iter().find(|it| it.number == number)
}

/// What of a name is compared with published keys: small letters, the last part of a path, nothing after an `@` or a
/// setting, one dash for every gap.
pub(in crate::report) fn key(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    let mut key = String::new();
    for word in last.split(['@', '=']).next().unwrap_or_default().split([' ', '_', '-']).filter(|it| !it.is_empty()) {
        key += if key.is_empty() { "" } else { "-" };
        key += &word.to_lowercase().replace(['σ', 'ς'], "sigma");
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_row_has_its_columns_and_a_key_of_its_own() {
        assert_eq!(PUBLISHED.table.iter().map(|it| it.number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        for table in &PUBLISHED.table {
            let mut keys: Vec<&str> = table.rows.iter().map(|it| it.key.as_str()).collect();
            for row in &table.rows {
                let names: Vec<&String> = row.numbers.keys().collect();
                let mut columns: Vec<&String> = table.columns.iter().collect();
                columns.sort();
                let ran_out = names.is_empty() && row.method.ends_with("(out of memory)");
                assert!(ran_out || names == columns, "table {}, {}", table.number, row.method);
            }
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), table.rows.len(), "table {}", table.number);
        }
    }

    #[test]
    fn names_of_one_model_have_one_key() {
        let check = |names: &[&str], expected: &str| names.iter().for_each(|it| assert_eq!(key(it), expected, "{it}"));
        check(&["SD3-F16-WLF@4096", "models/sd3-f16-wlf", "owner/SD3_F16 WLF"], "sd3-f16-wlf");
        check(&["PixArt-Σ", "pixart-sigma", "PixArt-Sigma@2048"], "pixart-sigma");
    }
}
