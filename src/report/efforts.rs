//! What making pictures took: the time of a step and the most memory, by model and device.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{EffortRow, Entrant, SourceRow};
use crate::stats::describe::quantile;
use crate::store::findings::{Effort, Findings, Making};

/// Every entrant whose pictures were generated, a row for each device; one without numbers where all that is known is that
/// memory ran out.
pub(super) fn efforts(findings: &Findings, entrants: &[Entrant], sources: &[SourceRow]) -> Vec<EffortRow> {
    let mut rows = Vec::new();
    for (idx, entrant) in entrants.iter().enumerate() {
        let is_generated = |it: &usize| matches!(sources[*it].making, Some(Making::Generated { .. }));
        if !entrant.sources.iter().all(is_generated) {
            continue;
        }
        let mut by_device: BTreeMap<Option<&str>, Vec<&Effort>> = BTreeMap::new();
        for it in &findings.efforts {
            let source = findings.images.get(it.image).map(|it| it.source);
            if source.is_some_and(|it| entrant.sources.contains(&it)) {
                by_device.entry(it.device.as_deref()).or_default().push(it);
            }
        }
        let lost = findings.failures.iter().filter(|it| it.out_of_memory);
        let lost = lost.filter(|it| it.source.is_some_and(|it| entrant.sources.contains(&it)));
        let lost: BTreeSet<_> = lost.map(|it| (it.source, it.sample.as_deref())).collect();
        let mut of_entrant: Vec<EffortRow> =
            by_device.into_iter().map(|(device, measured)| row(idx, device, &measured)).collect();
        if of_entrant.is_empty() && !lost.is_empty() {
            of_entrant.push(row(idx, None, &[]));
        }
        if let Some(first) = of_entrant.first_mut() {
            first.n_out_of_memory = lost.len();
        }
        rows.extend(of_entrant);
    }
    rows
}

fn row(entrant: usize, device: Option<&str>, measured: &[&Effort]) -> EffortRow {
    let steps: Vec<f64> = measured.iter().filter_map(|it| it.step_s).collect();
    let most = |of: fn(&Effort) -> Option<f64>| measured.iter().filter_map(|it| of(it)).reduce(f64::max);
    EffortRow {
        entrant,
        device: device.map(str::to_owned),
        n: measured.len(),
        step_s: quantile(&steps, 0.5).ok(),
        denoise_gib: most(|it| it.denoise_gib),
        decode_gib: most(|it| it.decode_gib),
        n_out_of_memory: 0,
    }
}
