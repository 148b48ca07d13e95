//! How large the pictures of data sets are: the paper's Table 9 and Figure 13.

use super::view::{ImageRow, SizeRow, Sizes, SourceRow};
use crate::stats::describe::{mean, quantile};
use crate::store::findings::Findings;

/// Width of the histogram's bins in pixels.
const BIN: u32 = 512;

/// The sizes of pictures that exist and are taken as they are, of no model's; none where there are none.
pub(super) fn sizes(findings: &Findings, sources: &[SourceRow], images: &[ImageRow]) -> Option<Sizes> {
    let mut of_source: Vec<Vec<(u32, u32)>> = vec![Vec::new(); sources.len()];
    for (image, row) in findings.images.iter().zip(images) {
        let source = &sources[row.source];
        let is_as_it_is = source.rung.is_none() && source.making.is_none() && source.model.is_none();
        if is_as_it_is && image.picture.steps.is_empty() {
            of_source[row.source].extend(row.size);
        }
    }
    let rows: Vec<SizeRow> = of_source.iter().enumerate().filter_map(|(source, sizes)| row(source, sizes)).collect();
    (!rows.is_empty()).then_some(Sizes { bin: BIN, rows })
}

fn row(source: usize, sizes: &[(u32, u32)]) -> Option<SizeRow> {
    let heights: Vec<f64> = sizes.iter().map(|it| f64::from(it.1)).collect();
    let widths: Vec<f64> = sizes.iter().map(|it| f64::from(it.0)).collect();
    let middle = |values: &[f64]| quantile(values, 0.5).ok();
    let centre = [middle(&heights)?, middle(&widths)?, mean(&heights).ok()?, mean(&widths).ok()?];
    Some(SizeRow { source, n: sizes.len(), centre, heights: bins(&heights), widths: bins(&widths) })
}

fn bins(values: &[f64]) -> Vec<usize> {
    let mut bins = Vec::new();
    for value in values {
        let bin = *value as usize / BIN as usize;
        bins.resize(bins.len().max(bin + 1), 0);
        bins[bin] += 1;
    }
    bins
}
