//! The blocks that train models: from a package, or from another of the sweep's models, to one for each point.

use std::ops::Range;

use super::Sweep;
use super::datasets::Split;
use super::networks::Named;
use super::resources::Wants;
use crate::job::task::finetune::{Bound, Drawn, Finetune as Task};
use crate::job::task::making::Part;
use crate::job::task::training::Cut;

/// Models that are trained on the pictures of a folder: one for each point of the block's axes.
#[derive(Clone, Debug)]
pub struct Finetune {
    /// The block's name, by which other blocks mean all its models.
    pub name: String,
    /// The folder of pictures as written: relative to the sweep file.
    pub data: String,
    /// The caption of pictures that have none.
    pub caption: Option<String>,
    /// The points, the first axis of the file slowest.
    pub points: Vec<Point>,
    /// What the metrics of its bounds look through.
    pub networks: Vec<Named>,
    /// What its jobs ask of a slot.
    pub wants: Wants,
    /// Where `data` stands in the file.
    pub place: Range<usize>,
}

/// One model that is trained.
#[derive(Clone, Debug)]
pub struct Point {
    /// The block's name and the values of what varies, as ` key=value` each.
    pub name: String,
    /// What it starts from: a package, or the name of a model of a block above.
    pub model: String,
    /// How pictures become squares.
    pub cut: Cut,
    /// Aspects, width to height, that pictures are cut to instead of squares.
    pub buckets: Vec<(u32, u32)>,
    /// How many squares of each picture.
    pub views: u32,
    /// Which latent stands for a square.
    pub latent: Drawn,
    /// The crops and the draws of latents follow from it.
    pub data_seed: u64,
    /// Pictures whose shorter side is below this are left out.
    pub min_side: u32,
    /// What pictures must be like to be learnt from or looked at.
    pub curation: Vec<Bound>,
    /// So many pictures are looked at and not learnt from.
    pub held_out: u32,
    /// How many tokens T5 takes.
    pub t5_tokens: u32,
    /// Pictures that are made on the way.
    pub samples: Option<Samples>,
    /// The job, but for its model, data and samples, which stand empty.
    pub task: Task,
    /// Where values stand in the file that can only be judged when packages and pictures are known.
    pub places: Places,
}

/// Pictures that are made on the way.
#[derive(Clone, PartialEq, Debug)]
pub struct Samples {
    /// Every so many steps.
    pub every: u32,
    /// What they show; none means the first captions of what is held out.
    pub prompts: Vec<String>,
    /// Steps of the schedule.
    pub steps: u32,
    /// Classifier-free guidance.
    pub guidance: f64,
}

/// Places in the text of a sweep, as bytes of it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Of the model.
    pub model: Range<usize>,
    /// Of the size.
    pub size: Range<usize>,
    /// Of the number of pictures that are held out.
    pub held_out: Range<usize>,
    /// Of the adapters.
    pub lora: Range<usize>,
}

impl Point {
    /// What it learns from, and what it only looks at.
    pub fn split(&self) -> Split {
        Split { min_side: self.min_side, held_out: self.held_out }
    }

    /// Which part of the model is trained.
    pub fn part(&self) -> Part {
        self.task.part()
    }
}

impl Finetune {
    /// Whether captions are read: an autoencoder looks at none.
    pub fn has_text(&self) -> bool {
        self.points.iter().any(|it| it.part() == Part::Denoiser)
    }
}

impl Sweep {
    /// The model of this name that the sweep trains.
    pub fn training(&self, name: &str) -> Option<&Point> {
        self.finetune.iter().flat_map(|it| &it.points).find(|it| it.name == name)
    }

    /// The package that a model comes from in the end.
    pub fn root<'a>(&'a self, model: &'a str) -> &'a str {
        let mut at = model;
        // Blocks start from blocks above them alone, so this ends.
        while let Some(point) = self.training(at) {
            at = &point.model;
        }
        at
    }
}
