//! The sources of a sweep: each `[[images]]` block, and each point of each `[[damage]]` block.

use anyhow::bail;

use super::{Rung, Source};
use crate::job::task::Step;
use crate::sweep::{Damage, Of, Point, Sweep, order};

/// A source and the recipe of its pictures.
pub(super) struct Recipe {
    pub(super) source: Source,
    /// The block that it is a point of, by its name.
    pub(super) block: String,
    /// The block whose files they are made from: index into [`Sweep::images`].
    pub(super) root: usize,
    /// What is done to each.
    pub(super) steps: Vec<Step>,
    /// Whether the steps do more than crop.
    pub(super) damaged: bool,
    /// The axis values in its name, for sources whose names are made from a given one.
    label: String,
}

/// Every source of the sweep: images first, then damage, in the file's order.
pub(super) fn recipes(sweep: &Sweep) -> anyhow::Result<Vec<Recipe>> {
    let of: Vec<Of> = sweep.damage.iter().map(|it| it.of).collect();
    let (order, cycles) = order(&of);
    if let Some(cycle) = cycles.first() {
        bail!("damage `{}` is made of itself", sweep.damage[cycle[0]].name);
    }
    let images: Vec<Recipe> = sweep
        .images
        .iter()
        .enumerate()
        .map(|(root, images)| {
            let source =
                Source { name: images.name.clone(), model: images.model.clone(), rung: None, making: None, set: None };
            let steps = images.crop.map(|size| Step::Crop { size }).into_iter().collect();
            Recipe { source, block: images.name.clone(), root, steps, damaged: false, label: String::new() }
        })
        .collect();
    let mut damaged: Vec<Vec<Recipe>> = sweep.damage.iter().map(|_| Vec::new()).collect();
    for idx in order {
        let block = &sweep.damage[idx];
        let of = match block.of {
            Of::Images(root) => match images.get(root) {
                Some(recipe) => std::slice::from_ref(recipe),
                None => bail!("damage `{}` is made of a block that is not there", block.name),
            },
            Of::Damage(parent) => damaged[parent].as_slice(),
        };
        let points = block.points();
        damaged[idx] = of.iter().flat_map(|of| points.iter().map(|point| damage(block, of, *point))).collect();
    }
    Ok(images.into_iter().chain(damaged.into_iter().flatten()).collect())
}

fn damage(block: &Damage, of: &Recipe, point: Point) -> Recipe {
    let mut label = of.label.clone();
    let mut own = String::new();
    let mut add = |key: &str, value: &dyn std::fmt::Display| own.push_str(&format!(" {key}={value}"));
    if let (true, Some(size)) = (block.crop.varies, point.crop) {
        add("crop", &size);
    }
    // A given name may say it all; a made one says nothing of the level.
    if block.level.varies || !block.named {
        add(block.kind.parameter(), &point.level);
    }
    if block.seed.varies {
        add("seed", &point.seed);
    }
    label.push_str(&own);
    let name = if block.named {
        format!("{}{label}", block.name)
    } else {
        format!("{} {}{own}", of.source.name, block.kind.word())
    };

    let mut steps = of.steps.clone();
    steps.extend(point.crop.map(|size| Step::Crop { size }));
    steps.push(block.kind.step(point.level, point.seed));

    // On a ladder one parameter varies and nothing else: the first damage, at one crop and one seed.
    let is_rung = !of.damaged && !block.crop.varies && !block.seed.varies;
    let rung = is_rung.then(|| Rung {
        ladder: block.name.clone(),
        of: of.source.name.clone(),
        kind: block.kind.word().to_owned(),
        parameter: block.kind.parameter().to_owned(),
        level: point.level,
        severity: block.kind.severity(point.level),
    });
    let source = Source { name, model: None, rung, making: None, set: None };
    Recipe { source, block: block.name.clone(), root: of.root, steps, damaged: true, label }
}
