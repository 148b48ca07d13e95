//! Pictures that were made while a model was trained, beside each other as thumbnails.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::image::{self, MAX_PIXELS, jpeg, thumbnail};
use crate::report::format;
use crate::report::view::Report;

/// The longer side of a thumbnail.
const SIDE: u32 = 160;
/// libjpeg's quality.
const QUALITY: u8 = 80;
/// A page has so many strips at most: of each model the first, then the second, and so on.
const MOST_STRIPS: usize = 24;

/// One prompt of one model.
pub(in crate::report) struct Strip {
    pub(in crate::report) title: String,
    pub(in crate::report) frames: Vec<Frame>,
}

/// A thumbnail.
pub(in crate::report) struct Frame {
    pub(in crate::report) step: String,
    /// Empty where the picture is gone.
    pub(in crate::report) uri: String,
    pub(in crate::report) alt: String,
}

/// The strips, and how many are not shown.
pub(super) fn strips(report: &Report) -> (Vec<Strip>, usize) {
    let all = &report.tuning.strips;
    let mut places: Vec<usize> = (0..all.len()).collect();
    // The place among the strips of the same model.
    places.sort_by_key(|idx| (all[..*idx].iter().filter(|it| it.model == all[*idx].model).count(), *idx));
    places.truncate(MOST_STRIPS);
    places.sort_unstable();
    let strip = |idx: usize| {
        let it = &all[idx];
        let frame = |(step, path): &(u64, std::path::PathBuf)| Frame {
            step: format::thousands(*step),
            uri: uri(path).unwrap_or_default(),
            alt: format!("{} after {step} steps: {}", it.model, it.prompt),
        };
        Strip { title: format!("{}: {}", it.model, it.prompt), frames: it.frames.iter().map(frame).collect() }
    };
    let n_left = all.len() - places.len();
    (places.into_iter().map(strip).collect(), n_left)
}

fn uri(path: &Path) -> Option<String> {
    let picture = image::decode(&std::fs::read(path).ok()?, MAX_PIXELS).ok()?;
    let bytes = jpeg::encode(&thumbnail(&picture, SIDE), QUALITY).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
