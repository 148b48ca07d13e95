//! Which sources a judge compares, and at which places their pictures are cropped.

use super::Source;
use crate::job::task::asking::Crop;

/// The side of a crop in pixels, where the pictures are as large.
const CROP_SIDE: u32 = 1024;

/// Every two sources of these blocks, in the plan's order, but for those that differ in their seed: pictures are compared
/// that started from the same noise.
pub(super) fn sources<'a>(all: &'a [Source], blocks: &[String]) -> Vec<(&'a Source, &'a Source)> {
    let among: Vec<&Source> = all.iter().filter(|it| blocks.contains(&it.block)).collect();
    let mut pairs = Vec::new();
    for (idx, one) in among.iter().enumerate() {
        let others = among[idx + 1..].iter();
        let fits = |it: &&&Source| one.seed.is_none() || it.seed.is_none() || one.seed == it.seed;
        pairs.extend(others.filter(fits).map(|other| (*one, *other)));
    }
    pairs
}

/// `n` squares spread evenly over a picture of this size, row by row: fewer where it has no room for so many places.
pub(super) fn crops(n: u32, (width, height): (u32, u32)) -> Vec<Crop> {
    let side = CROP_SIDE.min(width).min(height);
    let columns = f64::from(n).sqrt().ceil() as u32;
    let rows = n.div_ceil(columns.max(1));
    let start = |place: u32, of: u32, length: u32| {
        let middle = (f64::from(place) + 0.5) * f64::from(length) / f64::from(of);
        ((middle - f64::from(side) / 2.0).round().max(0.0) as u32).min(length - side)
    };
    let crop = |idx: u32| Crop {
        x: start(idx % columns, columns, width),
        y: start(idx / columns, rows, height),
        width: side,
        height: side,
    };
    let mut crops: Vec<Crop> = Vec::new();
    for it in (0..n).map(crop) {
        if !crops.contains(&it) {
            crops.push(it);
        }
    }
    crops
}

#[cfg(test)]
mod tests {
    use super::crops;

    #[test]
    fn crops_are_spread_evenly_and_lie_within() {
        let at = |n, size| crops(n, size).iter().map(|it| (it.x, it.y)).collect::<Vec<_>>();
        assert_eq!(at(4, (4096, 4096)), [(512, 512), (2560, 512), (512, 2560), (2560, 2560)]);
        assert_eq!(at(1, (4096, 2048)), [(1536, 512)]);
        assert_eq!(crops(1, (300, 200))[0].width, 200);
        assert_eq!(at(4, (300, 200)), [(0, 0), (100, 0)], "two rows are one");
        for n in 1..=64 {
            for it in crops(n, (2048, 1100)) {
                assert!(it.x + it.width <= 2048 && it.y + it.height <= 1100, "{it:?}");
            }
        }
    }
}
