//! The loss of fine-tuning: flow matching in pixels of the latent or in its wavelet bands (WLF of Diffusion-4K, Zhang et
//! al. 2025, arXiv 2503.18352).
//!
//! The transform is orthonormal, so equal weights of all bands give the plain mean square, and the loss in the space of
//! x₀ is the loss in the space of the velocity times σ²: only unequal weights of the bands, and the weighting over
//! timesteps, change what is learnt.

use anyhow::ensure;
use candle_core::{DType, Result, Tensor};

use super::dwt::haar;
pub use crate::job::task::training::{Loss, Space};

impl Loss {
    /// Plain flow matching: the mean square of v − (ε − x₀).
    pub fn plain() -> Self {
        Self { space: Space::Velocity, bands: vec![1.0] }
    }

    /// How often the transform is done.
    ///
    /// # Errors
    /// A number of weights that no number of levels has, a weight that is negative or not finite, or none above 0.
    pub fn n_levels(&self) -> anyhow::Result<usize> {
        let n = self.bands.len();
        ensure!(
            n % 3 == 1,
            "{n} weights of bands: one level has 4 ([LL, LH, HL, HH]), two have 7, each further one 3 more"
        );
        ensure!(self.bands.iter().all(|it| it.is_finite() && *it >= 0.0), "a band's weight is negative or no number");
        ensure!(self.bands.iter().any(|it| *it > 0.0), "every band's weight is 0: nothing would be learnt");
        Ok(n / 3)
    }

    /// The names of the bands, in the order of their weights: `LL2`, `LH2`, …, `HH1`; `all` without a transform.
    pub fn names(&self) -> Vec<String> {
        let n_levels = self.bands.len() / 3;
        if n_levels == 0 {
            return vec!["all".to_owned()];
        }
        let details = (1..=n_levels).rev().flat_map(|level| ["LH", "HL", "HH"].map(|it| format!("{it}{level}")));
        std::iter::once(format!("LL{n_levels}")).chain(details).collect()
    }

    /// The loss of `velocity` [B, C, H, W], given x₀ and ε of the same shape, and each image's σ and weight.
    ///
    /// The squares of each band's coefficients are summed, weighted by band, and divided by C·H·W, the latent's own
    /// count, whatever zeros an odd side was padded with; then weighted by image, and averaged over images. In f32.
    ///
    /// # Errors
    /// Shapes or counts that don't fit, or no memory.
    pub fn of(&self, velocity: &Tensor, target: &Target) -> anyhow::Result<Losses> {
        let n_levels = self.n_levels()?;
        let (n_batch, n_channels, height, width) = velocity.dims4()?;
        let Target { x0, noise, sigmas, weights } = target;
        ensure!(
            sigmas.len() == n_batch && weights.len() == n_batch,
            "{} noise levels and {} weights for {n_batch} images",
            sigmas.len(),
            weights.len()
        );
        let velocity = velocity.to_dtype(DType::F32)?;
        let off = (&velocity - (noise - x0)?)?;
        let off = match self.space {
            Space::Velocity => off,
            Space::X0 => off.broadcast_mul(&for_images(sigmas, &off)?)?,
        };
        let squares = |band: &Tensor| band.sqr()?.sum((1, 2, 3));
        let bands = haar(&off, n_levels)?.iter().map(squares).collect::<Result<Vec<_>>>()?;
        // (band, image)
        let bands = Tensor::stack(&bands, 0)?;
        let by_image: Vec<f32> = weights.iter().map(|it| it / (n_channels * height * width * n_batch) as f32).collect();
        let by_image = Tensor::from_vec(by_image, (1, n_batch), velocity.device())?;
        let bands = bands.broadcast_mul(&by_image)?.sum(1)?;
        let weights: Vec<f32> = self.bands.iter().map(|it| *it as f32).collect();
        let total = (&bands * Tensor::new(weights, velocity.device())?)?.sum_all()?;
        Ok(Losses { total, bands: bands.detach() })
    }
}

/// What a velocity should be.
#[derive(Clone, Debug)]
pub struct Target {
    /// The latent without noise [B, C, H, W], f32.
    pub x0: Tensor,
    /// The noise, f32.
    pub noise: Tensor,
    /// Each image's noise level.
    pub sigmas: Vec<f32>,
    /// How much each image counts.
    pub weights: Vec<f32>,
}

impl Target {
    /// (1 − σ)·x₀ + σ·ε: what the model is shown.
    ///
    /// # Errors
    /// Shapes or counts that don't fit, or no memory.
    pub fn noisy(&self) -> Result<Tensor> {
        let rests: Vec<f32> = self.sigmas.iter().map(|it| 1.0 - it).collect();
        let image = self.x0.broadcast_mul(&for_images(&rests, &self.x0)?)?;
        image + self.noise.broadcast_mul(&for_images(&self.sigmas, &self.noise)?)?
    }
}

/// [B, 1, 1, 1]: one number for each image of `like`.
fn for_images(values: &[f32], like: &Tensor) -> Result<Tensor> {
    Tensor::new(values, like.device())?.reshape((values.len(), 1, 1, 1))
}

/// A loss and where it comes from.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is minimised: a scalar that carries gradients.
    pub total: Tensor,
    /// Each band's part before it is weighted; they sum to the loss of equal weights.
    pub bands: Tensor,
}

impl Losses {
    /// Without the graph that it came from, whose memory is then free.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { total: self.total.detach(), bands: self.bands.detach() }
    }
}
