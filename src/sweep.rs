//! A sweep: which pictures are compared, what is done to them and what is asked of them.

pub(crate) mod block;
mod captions;
mod datasets;

pub mod asking;
pub mod fault;
pub mod finetune;
pub mod inventory;
pub mod making;
pub mod networks;
pub mod packages;
pub mod patches;
pub mod prompts;
mod read;
pub mod rehearse;
pub mod resources;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::job::needs::Needs;
use crate::job::task::Step;
use crate::metrics::Metric;

pub use fault::{Fault, Faults};
pub use finetune::Finetune;
pub use inventory::{Inventory, SourceFile};
pub use making::{Generate, Reconstruct};
pub use rehearse::Rehearse;

/// A sweep file, read and found to be right.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Its name: the beginning of its id.
    pub name: String,
    /// What a failed job means for those that need it.
    pub on_failure: OnFailure,
    /// Jobs of a higher priority are claimed first; 0 unless the file says more.
    pub priority: i16,
    /// So many of its jobs may run at a time; none for as many as will.
    pub max_running: Option<u32>,
    /// How long one attempt may take, by kind, where the file says so.
    pub limits: BTreeMap<String, Duration>,
    /// The `[[images]]` blocks, in the file's order.
    pub images: Vec<Images>,
    /// The `[[damage]]` blocks, in the file's order.
    pub damage: Vec<Damage>,
    /// The `[[patches]]` blocks, in the file's order.
    pub patches: Vec<patches::Patches>,
    /// The `[[finetune]]` blocks, in the file's order.
    pub finetune: Vec<Finetune>,
    /// The `[[generate]]` blocks, in the file's order.
    pub generate: Vec<Generate>,
    /// The `[[reconstruct]]` blocks, in the file's order.
    pub reconstruct: Vec<Reconstruct>,
    /// The `[[judge]]` blocks, in the file's order.
    pub judge: Vec<asking::Judge>,
    /// The `[[caption]]` blocks, in the file's order.
    pub caption: Vec<asking::Caption>,
    /// The `[[rehearse]]` blocks, in the file's order.
    pub rehearse: Vec<Rehearse>,
    /// The `[evaluate]` block.
    pub evaluate: Evaluation,
}

/// What a failed job means for the rest of its sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFailure {
    /// Only what needs the failed job is skipped.
    #[default]
    Continue,
    /// Everything that has not begun is cancelled.
    Stop,
}

impl OnFailure {
    /// The word that sweeps and tables use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

/// Pictures that exist: a folder of them, or one file.
#[derive(Clone, Debug)]
pub struct Images {
    /// The source's name.
    pub name: String,
    /// The folder or file as written: relative to the sweep file.
    pub path: String,
    /// A `metadata.jsonl` with the pictures' captions: relative to the folder of the pictures.
    pub captions: Option<String>,
    /// The model as which the source stands in reports.
    pub model: Option<String>,
    /// Only the middle of each picture, this many pixels wide and high.
    pub crop: Option<u32>,
    /// Only the pictures that this one of [`Sweep::finetune`] holds out.
    pub held_out_of: Option<usize>,
}

/// Known damage to the pictures of another block: one source for each point of its axes.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The block's name.
    pub name: String,
    /// Whether the file gives the name, or it follows from `of` and `kind`.
    pub named: bool,
    /// The block whose pictures are damaged.
    pub of: Of,
    /// What is done to them.
    pub kind: Kind,
    /// How much of it: the values of [`Kind::parameter`].
    pub level: Axis<f64>,
    /// Seeds, where the kind takes one.
    pub seed: Axis<u64>,
    /// Crops before the damage; an axis without values where there is none.
    pub crop: Axis<u32>,
    /// How several axes are combined.
    pub expand: Expand,
}

/// The block that damage is done to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// Index into [`Sweep::images`].
    Images(usize),
    /// Index into [`Sweep::damage`].
    Damage(usize),
}

/// A kind of damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Gaussian blur.
    Blur,
    /// Down and up again.
    Resize,
    /// JPEG and back.
    Jpeg,
    /// Gaussian noise.
    Noise,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Blur, Self::Resize, Self::Jpeg, Self::Noise];

    /// The word that sweeps and reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blur => "blur",
            Self::Resize => "resize",
            Self::Jpeg => "jpeg",
            Self::Noise => "noise",
        }
    }

    /// The key that says how much of it.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Blur | Self::Noise => "sigma",
            Self::Resize => "factor",
            Self::Jpeg => "quality",
        }
    }

    /// `level` signed so that more is worse.
    pub fn severity(self, level: f64) -> f64 {
        match self {
            Self::Jpeg => -level,
            Self::Blur | Self::Resize | Self::Noise => level,
        }
    }

    /// The step of a recipe that does it. A quality is a whole number from 1 to 100.
    pub fn step(self, level: f64, seed: u64) -> Step {
        match self {
            Self::Blur => Step::Blur { sigma: level },
            Self::Resize => Step::Resize { factor: level },
            Self::Jpeg => Step::Jpeg { quality: level as u8 },
            Self::Noise => Step::Noise { sigma: level, seed },
        }
    }
}

/// The values of one key: a list in a scalar's place.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis<T> {
    /// One for each point.
    pub values: Vec<T>,
    /// Whether the file has a list: an axis of one value is still an axis.
    pub varies: bool,
}

impl<T> Axis<T> {
    /// A scalar: no axis at all.
    pub fn fixed(value: T) -> Self {
        Self { values: vec![value], varies: false }
    }

    /// A key that is not there.
    pub fn absent() -> Self {
        Self { values: Vec::new(), varies: false }
    }
}

/// How the axes of a block are combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expand {
    /// Every value of one with every value of the others.
    #[default]
    Grid,
    /// The first of each, the second of each, and so on: axes of equal length.
    Zip,
}

/// One point of a damage block's axes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Crop before the damage.
    pub crop: Option<u32>,
    /// Value of the kind's parameter.
    pub level: f64,
    /// Seed; 0 where the kind takes none.
    pub seed: u64,
}

impl Damage {
    /// How many points its axes have.
    pub fn n_points(&self) -> u64 {
        let lengths = [self.crop.values.len().max(1), self.level.values.len(), self.seed.values.len()];
        match self.expand {
            Expand::Grid => lengths.into_iter().fold(1, |product, it| product.saturating_mul(it as u64)),
            Expand::Zip => lengths.into_iter().max().map_or(0, |it| it as u64),
        }
    }

    /// The points, the crop slowest, the seed fastest.
    pub fn points(&self) -> Vec<Point> {
        let crops: Vec<Option<u32>> = match self.crop.values.as_slice() {
            [] => vec![None],
            values => values.iter().copied().map(Some).collect(),
        };
        let point = |crop, level, seed| Point { crop, level, seed };
        match self.expand {
            Expand::Grid => {
                let mut points = Vec::new();
                for &crop in &crops {
                    for &level in &self.level.values {
                        points.extend(self.seed.values.iter().map(|&seed| point(crop, level, seed)));
                    }
                }
                points
            }
            Expand::Zip => {
                // A scalar goes with every point; lists have the same length.
                let n = self.n_points() as usize;
                let crops = crops.into_iter().cycle();
                let levels = self.level.values.iter().cycle();
                let seeds = self.seed.values.iter().cycle();
                crops.zip(levels.zip(seeds)).map(|(crop, (&level, &seed))| point(crop, level, seed)).take(n).collect()
            }
        }
    }
}

/// What is asked of every picture.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The metrics, each once, sorted by name and variant: their order in the file means nothing.
    pub metrics: Vec<&'static Metric>,
    /// The block whose sample of the same name is the reference of undamaged pictures:
    /// index into [`Sweep::images`].
    pub reference: Option<usize>,
    /// Refuse larger files.
    pub max_pixels: Option<u64>,
    /// What scoring asks of a slot.
    pub needs: Arc<Needs>,
    /// What metrics look through.
    pub networks: Vec<networks::Named>,
    /// What scoring by these asks of a slot: it loads a model.
    pub network_needs: Arc<Needs>,
}

impl Sweep {
    /// Reads a sweep; `file_name` is what diagnoses call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each mistake with its place in the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Faults> {
        read::sweep(text, file_name)
    }

    /// How many cells the sweep has, without expanding it; `u64::MAX` where there are more.
    pub fn n_cells(&self, inventory: &Inventory) -> u64 {
        let n_files = |idx: usize| inventory.blocks.get(idx).map_or(0, |it| it.len() as u64);
        let of: Vec<Of> = self.damage.iter().map(|it| it.of).collect();
        let mut n_cells = vec![0_u64; of.len()];
        for idx in order(&of).0 {
            let n_of = match of[idx] {
                Of::Images(root) => n_files(root),
                Of::Damage(parent) => n_cells[parent],
            };
            n_cells[idx] = n_of.saturating_mul(self.damage[idx].n_points());
        }
        let n_prompts = |idx: usize| match self.generate[idx].prompts {
            making::Prompts::Caption(caption) => {
                let limit = self.generate[idx].limit.map_or(u64::MAX, |it| it as u64);
                self.caption.get(caption).map_or(0, |it| n_files(it.of)).min(limit)
            }
            _ => inventory.prompts.get(idx).map_or(0, |it| it.len() as u64),
        };
        let generated = self.generate.iter().enumerate().map(|(idx, it)| it.n_points().saturating_mul(n_prompts(idx)));
        let reconstructed = self.reconstruct.iter().map(|it| it.n_points().saturating_mul(n_files(it.of)));
        let rehearsed = self.rehearse.iter().map(|it| u64::from(it.n));
        let made = generated.chain(reconstructed).chain(rehearsed);
        // Of every point of the block that they are of.
        let patched = self.patches.iter().enumerate().map(|(idx, it)| {
            let n_boxes = inventory.patches.get(idx).map_or(0, |it| it.len() as u64);
            let damaged = self.damage.iter().filter(|block| block.name == it.of).map(Damage::n_points);
            let generated = self.generate.iter().filter(|block| block.name == it.of).map(making::Generate::n_points);
            let reconstructed =
                self.reconstruct.iter().filter(|block| block.name == it.of).map(making::Reconstruct::n_points);
            n_boxes.saturating_mul(damaged.chain(generated).chain(reconstructed).max().unwrap_or(1))
        });
        let made = made.chain(patched);
        (0..self.images.len()).map(n_files).chain(n_cells).chain(made).fold(0, u64::saturating_add)
    }
}

/// The damage blocks, each after the one that it is made of, and the cycles that keep the others
/// from standing in such an order: each cycle once, each block of it before the one it is made of.
pub(crate) fn order(of: &[Of]) -> (Vec<usize>, Vec<Vec<usize>>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Unseen,
        OnPath,
        Placed,
        Cyclic,
    }
    let mut marks = vec![Mark::Unseen; of.len()];
    let (mut order, mut cycles) = (Vec::with_capacity(of.len()), Vec::new());
    for start in 0..of.len() {
        let mut path = Vec::new();
        let mut at = Of::Damage(start);
        let end = loop {
            match at {
                Of::Images(_) => break Mark::Placed,
                Of::Damage(idx) => match marks[idx] {
                    Mark::Unseen => {
                        marks[idx] = Mark::OnPath;
                        path.push(idx);
                        at = of[idx];
                    }
                    Mark::OnPath => {
                        cycles.push(path.iter().copied().skip_while(|&it| it != idx).collect());
                        break Mark::Cyclic;
                    }
                    mark => break mark,
                },
            }
        };
        for &idx in path.iter().rev() {
            marks[idx] = end;
            if end == Mark::Placed {
                order.push(idx);
            }
        }
    }
    (order, cycles)
}
