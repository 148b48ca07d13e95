//! Reads `networks` tables: which weights the metrics of a block look through.

use toml::de::DeValue;

use super::super::block::{Block, listed, meant};
use super::super::networks::Named;
use crate::metrics::{self, Metric};

/// The networks of `wanted`, metrics of a block: those that its `networks` names, and for the rest those of the published
/// definitions. `missing` says what the block would have to ask for.
pub(super) fn networks(block: &Block, wanted: &[&'static Metric], missing: &dyn Fn(&str) -> String) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    for network in wanted.iter().filter_map(|it| metrics::network(it)) {
        if named.iter().all(|it| it.network.metric != network.metric) {
            let place = block.key_span("metrics");
            named.push(Named { network, package: network.default.to_owned(), place });
        }
    }
    let Some(value) = block.get("networks") else { return named };
    let DeValue::Table(table) = value.get_ref() else {
        let help = "write `networks = { METRIC = \"PACKAGE\" }`".to_owned();
        block.wrong_type("networks", value, "a table", help);
        return named;
    };
    let inner = Block { title: "`networks`", table, span: value.span(), faults: block.faults };
    for key in table.keys().map(|it| it.get_ref().as_ref()) {
        if let Some(it) = named.iter_mut().find(|it| it.network.metric == key) {
            if let Some(package) = inner.text(key) {
                (it.package, it.place) = (package.value, package.span);
            }
            continue;
        }
        let all = metrics::TABLE.iter().filter_map(metrics::network).map(|it| it.metric);
        let (message, help) = if all.clone().any(|it| it == key) {
            (format!("`networks` names one for {key}, for which nothing asks"), missing(key))
        } else {
            let help = meant(key, all.clone()).unwrap_or_else(|| format!("there is {}", listed(all)));
            (format!("no metric `{key}` looks through a network"), help)
        };
        block.faults.at(&inner.key_span(key), message, help);
    }
    named
}
