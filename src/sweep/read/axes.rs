//! What holds for the axes of a block that makes pictures: no value twice, lists of one length in a zip.

use std::collections::HashMap;
use std::ops::Range;

use super::super::block::{Block, Placed};
use super::super::{Axis, Expand};

/// An axis as far as these rules look at it.
#[derive(Clone)]
pub(super) struct Drawn {
    key: &'static str,
    varies: bool,
    values: Vec<(String, Range<usize>)>,
}

/// An axis, by its key; `show` tells its values apart.
pub(super) fn drawn<T>(key: &'static str, axis: &Axis<Placed<T>>, show: impl Fn(&T) -> String) -> Drawn {
    let values = axis.values.iter().map(|it| (show(&it.value), it.span.clone())).collect();
    Drawn { key, varies: axis.varies, values }
}

/// The values without their places.
pub(super) fn plain<T, U>(axis: Axis<Placed<T>>, convert: impl Fn(T) -> U) -> Axis<U> {
    Axis { values: axis.values.into_iter().map(|it| convert(it.value)).collect(), varies: axis.varies }
}

/// The places without their values.
pub(super) fn places<T>(axis: &Axis<Placed<T>>) -> Vec<Range<usize>> {
    axis.values.iter().map(|it| it.span.clone()).collect()
}

/// Takes down values that stand twice, and lists that cannot be zipped.
pub(super) fn check(block: &Block, expand: Expand, axes: &[Drawn]) {
    match expand {
        Expand::Grid => {
            for axis in axes {
                let points = axis.values.iter().map(|(value, span)| (value.clone(), span.clone()));
                check_distinct(block, &format!("`{}` has", axis.key), points);
            }
        }
        Expand::Zip => check_zip(block, axes),
    }
}

fn check_zip(block: &Block, axes: &[Drawn]) {
    let lists: Vec<&Drawn> = axes.iter().filter(|it| it.varies).collect();
    let Some(first) = lists.first() else { return };
    let n_points = first.values.len();
    if lists.iter().any(|it| it.values.len() != n_points) {
        let places = lists.iter().map(|it| {
            let n = it.values.len();
            (block.get(it.key).map_or(0..0, toml::Spanned::span), format!("{n} value{}", if n == 1 { "" } else { "s" }))
        });
        let help = "give every list as many values, or take `expand = \"zip\"` out".to_owned();
        block.faults.at_all(places.collect(), "axes of unequal length cannot be zipped", help);
        return;
    }
    let points = (0..n_points).map(|idx| {
        let point: Vec<&str> = lists.iter().map(|it| it.values[idx].0.as_str()).collect();
        (point, first.values[idx].1.clone())
    });
    check_distinct(block, "the zipped axes have", points);
}

pub(super) fn check_distinct<K: Eq + std::hash::Hash>(
    block: &Block,
    axis: &str,
    points: impl Iterator<Item = (K, Range<usize>)>,
) {
    let mut seen: HashMap<K, Range<usize>> = HashMap::new();
    for (point, span) in points {
        if let Some(first) = seen.get(&point) {
            let places = vec![(span, "here".to_owned()), (first.clone(), "and here".to_owned())];
            block.faults.at_all(places, format!("{axis} the same value twice"), None);
        } else {
            seen.insert(point, span);
        }
    }
}
