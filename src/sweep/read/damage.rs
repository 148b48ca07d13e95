//! Reads one `[[damage]]` block and checks its axes.

use super::super::block::{Block, Placed};
use super::super::{Axis, Damage, Expand, Kind, Of};
use super::axes::check_distinct;
use super::unknown_key;

/// Every key that some kind of damage takes.
pub(super) const KEYS: &[&str] = &["of", "name", "kind", "sigma", "factor", "quality", "seed", "crop", "expand"];

/// A block whose `of` is still a name.
pub(super) struct Draft {
    /// The block's name, given or made; none where what it is made from is missing.
    pub(super) name: Option<Placed<String>>,
    pub(super) of: Option<Placed<String>>,
    named: bool,
    kind: Kind,
    level: Axis<Placed<f64>>,
    seed: Axis<Placed<i128>>,
    crop: Axis<Placed<i128>>,
    expand: Expand,
}

impl Draft {
    pub(super) fn finish(self, of: Of) -> Damage {
        Damage {
            name: self.name.unwrap_or_default().value,
            named: self.named,
            of,
            kind: self.kind,
            level: plain(self.level, |it| it),
            seed: plain(self.seed, |it| it as u64),
            crop: plain(self.crop, |it| it as u32),
            expand: self.expand,
        }
    }
}

fn plain<T, U>(axis: Axis<Placed<T>>, convert: impl Fn(T) -> U) -> Axis<U> {
    Axis { values: axis.values.into_iter().map(|it| convert(it.value)).collect(), varies: axis.varies }
}

pub(super) fn read(block: &Block) -> Draft {
    let kind = match block.get("kind") {
        Some(_) => block.choice("kind", &Kind::ALL.map(|it| (it.word(), it))),
        None => {
            block.missing("kind", "\"blur\"");
            None
        }
    };
    check_keys(block, kind);
    let of = block.required_text("of", "\"NAME\"");
    let given = block.text("name");
    let named = given.is_some();
    let made = || {
        let name = format!("{} {}", of.as_ref()?.value, kind?.word());
        Some(Placed { value: name, span: block.span.clone() })
    };
    let name = given.or_else(made);

    let level = kind.and_then(|it| level(block, it)).unwrap_or_else(Axis::absent);
    let zero = Axis::fixed(Placed { value: 0, span: block.span.clone() });
    let seed = block.whole_axis("seed", 0..=i64::MAX.into()).unwrap_or(zero);
    let crop = block.whole_axis("crop", 1..=u32::MAX.into()).unwrap_or_else(Axis::absent);
    let expand = block.choice("expand", &[("grid", Expand::Grid), ("zip", Expand::Zip)]).unwrap_or_default();

    let draft = Draft { name, of, named, kind: kind.unwrap_or(Kind::Blur), level, seed, crop, expand };
    match expand {
        Expand::Grid => check_grid(block, &draft),
        Expand::Zip => check_zip(block, &draft),
    }
    draft
}

/// The axis of the kind's parameter, its range checked.
fn level(block: &Block, kind: Kind) -> Option<Axis<Placed<f64>>> {
    let key = kind.parameter();
    if block.get(key).is_none() {
        let example = match kind {
            Kind::Blur | Kind::Resize | Kind::Noise => "2",
            Kind::Jpeg => "90",
        };
        block.missing(key, example);
        return None;
    }
    match kind {
        Kind::Blur | Kind::Noise => block.number_axis(key, "a finite number above 0", |it| it > 0.0),
        Kind::Resize => block.number_axis(key, "a finite number of at least 1", |it| it >= 1.0),
        Kind::Jpeg => {
            let axis = block.whole_axis(key, 1..=100)?;
            let values = axis.values.into_iter().map(|it| Placed { value: it.value as f64, span: it.span }).collect();
            Some(Axis { values, varies: axis.varies })
        }
    }
}

fn check_keys(block: &Block, kind: Option<Kind>) {
    let takes = |key: &str| match key {
        "sigma" | "factor" | "quality" => kind.is_none_or(|it| it.parameter() == key),
        "seed" => kind.is_none_or(|it| it == Kind::Noise),
        _ => KEYS.contains(&key),
    };
    for key in block.table.keys().map(|it| it.get_ref().as_ref()).filter(|it| !takes(it)) {
        match kind {
            Some(kind) if KEYS.contains(&key) => {
                let message = format!("`{key}` is no parameter of {}", kind.word());
                block.faults.at(&block.key_span(key), message, format!("{} takes `{}`", kind.word(), kind.parameter()));
            }
            _ => unknown_key(block, key, &KEYS.iter().copied().filter(|it| takes(it)).collect::<Vec<_>>()),
        }
    }
}

/// No value twice on an axis: it would be one source under two names.
fn check_grid(block: &Block, draft: &Draft) {
    let level = draft.level.values.iter().map(|it| (it.value.to_bits(), it.span.clone()));
    check_distinct(block, &format!("`{}` has", draft.kind.parameter()), level);
    for (key, axis) in [("seed", &draft.seed), ("crop", &draft.crop)] {
        check_distinct(block, &format!("`{key}` has"), axis.values.iter().map(|it| (it.value, it.span.clone())));
    }
}

/// Lists of one length, and no point twice.
fn check_zip(block: &Block, draft: &Draft) {
    let axes = [
        (draft.kind.parameter(), draft.level.varies, draft.level.values.len()),
        ("seed", draft.seed.varies, draft.seed.values.len()),
        ("crop", draft.crop.varies, draft.crop.values.len()),
    ];
    let lists: Vec<_> = axes.into_iter().filter(|it| it.1).collect();
    let n_points = lists.first().map_or(1, |it| it.2);
    if lists.iter().any(|it| it.2 != n_points) {
        let places = lists.iter().map(|&(key, _, n)| {
            let values = if n == 1 { "value" } else { "values" };
            (block.get(key).map_or(0..0, toml::Spanned::span), format!("{n} {values}"))
        });
        let help = "give every list as many values, or take `expand = \"zip\"` out".to_owned();
        block.faults.at_all(places.collect(), "axes of unequal length cannot be zipped", help);
        return;
    }
    let bits = |axis: &Axis<Placed<i128>>, idx: usize| {
        axis.values.get(if axis.varies { idx } else { 0 }).map_or(0, |it| it.value)
    };
    let points = (0..n_points).map(|idx| {
        let level = draft.level.values.get(if draft.level.varies { idx } else { 0 });
        let span = level.map_or_else(|| block.span.clone(), |it| it.span.clone());
        ((level.map(|it| it.value.to_bits()), bits(&draft.seed, idx), bits(&draft.crop, idx)), span)
    });
    check_distinct(block, "the zipped axes have", points);
}
