//! Patches from the highest GLCM score to the lowest, each with what people said of it: the pictures of the paper's Figure 2.

use std::collections::HashMap;

use super::shelf::Shelf;
use super::{Detail, WHOLE_QUALITY, data_uri, scores};
use crate::image::{jpeg, thumbnail};
use crate::job::Hash;
use crate::labels::{Area, JudgeKind};
use crate::report::format::Digits;
use crate::report::opinions::patch;
use crate::report::view::{Basis, Report};
use crate::report::{Files, Options};
use crate::store::findings::Findings;

/// So many are shown, at equal steps of rank.
const MOST: usize = 8;

/// The patches, and which aspect the opinions are of; none where fewer than two patches have a GLCM score.
pub(super) fn patches(report: &Report, findings: &Findings, options: &Options, files: &dyn Files) -> Vec<Detail> {
    let Some(metric) = report.metrics.iter().position(|it| it.main && it.id.metric == "glcm_score") else {
        return Vec::new();
    };
    let mut ranked: Vec<(usize, (Hash, Area), f64)> = (0..findings.images.len())
        .filter_map(|idx| Some((idx, patch(&findings.images[idx].picture)?, report.images[idx].scores[metric]?)))
        .collect();
    ranked.sort_by(|a, b| b.2.total_cmp(&a.2));
    if ranked.len() < 2 {
        return Vec::new();
    }
    let n = ranked.len().min(MOST);
    let chosen: Vec<_> = (0..n).map(|nth| ranked[nth * (ranked.len() - 1) / (n - 1)]).collect();
    let opinions = opinions(report, findings);
    let mut shelf = Shelf::new(findings, files, options.max_pixels);
    chosen
        .into_iter()
        .filter_map(|(idx, place, _)| {
            let small = thumbnail(&shelf.picture(idx)?, options.detail);
            let image = &report.images[idx];
            let mut scores = scores(image, report);
            if let Some((aspect, of_patches)) = &opinions
                && let Some((sum, n)) = of_patches.get(&place)
            {
                scores.push((format!("{aspect}, {n} raters"), Digits::two().number(sum / *n as f64)));
            }
            Some(Detail {
                label: image.sample.clone(),
                source: report.sources[image.source].name.clone(),
                uri: data_uri(&jpeg::encode(&small, WHOLE_QUALITY).ok()?),
                width: small.width,
                height: small.height,
                scores,
            })
        })
        .collect()
}

/// What people said of patches: the aspect, and of each patch the sum and the number of its ratings.
type Said = (String, HashMap<(Hash, Area), (f64, usize)>);

/// Of the first aspect on which people rated patches.
fn opinions(report: &Report, findings: &Findings) -> Option<Said> {
    let tables = &report.opinions.as_ref()?.correlations;
    let table = tables.iter().find(|it| it.patches && it.basis == Basis::Ratings && it.by.kind == JudgeKind::Human)?;
    let mut of_patches: HashMap<(Hash, Area), (f64, usize)> = HashMap::new();
    for it in findings.ratings.iter().filter(|it| it.aspect == table.aspect && it.attention.is_none()) {
        if let (Some(area), JudgeKind::Human) = (it.area, it.judge.kind) {
            let (sum, n) = of_patches.entry((it.picture, area)).or_default();
            (*sum, *n) = (*sum + it.value, *n + 1);
        }
    }
    Some((table.aspect.clone(), of_patches))
}
