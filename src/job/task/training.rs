//! How a model is trained, as plain settings: what is compared, how weights change, how pictures are cut.

use serde::{Deserialize, Serialize};

/// How far a velocity is off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// What is compared.
    pub space: Space,
    /// The weight of each band, from coarse to fine: [LL, LH, HL, HH] for one level, 3 more for each further one. One
    /// weight alone means no transform.
    pub bands: Vec<f64>,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// The latent that the velocity points at, x_t − σ·v, with x₀: what the released scripts do.
    X0,
    /// The velocity with ε − x₀: plain flow matching, and the paper's formula.
    #[default]
    Velocity,
}

/// How often a noise level is drawn.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Density {
    /// Sigmoid of a normal number: the released scripts' for SD3, with mean 0 and deviation 1.
    LogitNormal {
        /// Of the normal number.
        mean: f64,
        /// Of the normal number.
        deviation: f64,
    },
    /// More weight to the middle (scale above 0) or to the ends (below).
    Mode {
        /// 1.29 in the released scripts.
        scale: f64,
    },
    /// All alike.
    Uniform,
}

/// How much a noise level counts in the loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// All alike.
    #[default]
    None,
    /// σ⁻²: in the space of x₀ it undoes the factor between the two spaces.
    SigmaSqrt,
    /// 2 / (π·(1 − 2σ + 2σ²)).
    Cosmap,
}

/// The learning rate of every step.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// The highest.
    pub rate: f64,
    /// Over so many steps it grows from 0.
    pub warm_up: usize,
    /// What follows.
    pub course: Course,
}

/// How the learning rate changes: as diffusers' schedules of these names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// It does not.
    #[default]
    Constant,
    /// Down to 0 along a line.
    Linear,
    /// Down to 0 along half a cosine.
    Cosine,
}

/// The settings of AdamW; the defaults are those of the released scripts.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AdamW {
    /// How much of the gradients' mean is kept a step.
    pub beta1: f64,
    /// How much of their squares' mean is kept a step.
    pub beta2: f64,
    /// Added to the root of the squares' mean.
    pub eps: f64,
    /// What share of a weight is taken off it a step, times the learning rate.
    pub weight_decay: f64,
}

/// When what is done beside the steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rhythm {
    /// A checkpoint every so many steps; the last step has one always.
    pub save_every: usize,
    /// A look at what is held out before the first step, every so many steps, and after the last.
    pub look_every: usize,
    /// At how many noise levels each held-out image is looked at.
    pub n_levels: usize,
    /// Which weights come out.
    #[serde(default, skip_serializing_if = "Keep::is_last")]
    pub keep: Keep,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { save_every: 5_000, look_every: 500, n_levels: 8, keep: Keep::Last }
    }
}

/// Which weights come out of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those after the last step.
    #[default]
    Last,
    /// Those with the least loss on what is held out, of all looks after the first step; of equal ones the earliest.
    Best,
}

impl Keep {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

/// Where the optimiser keeps its f32 values and moments: 12 bytes a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// Beside the model.
    #[default]
    Device,
    /// In the machine's memory, where the update is then computed too.
    Host,
}

/// What the backward pass computes again instead of keeping it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Nothing: the fastest, if it fits.
    Nothing,
    /// Each block, from the states that went into it: only one block's tensors exist at a time.
    #[default]
    Blocks,
}

/// How a picture becomes a square.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// Pixels.
    pub side: u32,
    /// How large the picture is made before it is cut.
    #[serde(default)]
    pub scale: Scale,
    /// What is taken of it.
    pub place: Place,
    /// Whether half of them are mirrored.
    pub flip: bool,
    /// How they are resized.
    pub filter: Filter,
}

/// How large a picture is made before it is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Its shorter side becomes the square's, as in the released scripts.
    #[default]
    Fit,
    /// As it is: the square is cut out at full resolution. A picture that is too small is enlarged to fit.
    Native,
}

/// Which part of a picture is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Any, with equal chance.
    #[default]
    Random,
    /// The middle.
    Centre,
}

/// Pillow's filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The mean of what a pixel covers.
    Box,
    /// A triangle, as wide as the reduction: what the released training scripts use.
    #[default]
    Bilinear,
    /// Keys' cubic with a = −½.
    Bicubic,
    /// A sinc of three lobes.
    Lanczos,
}
