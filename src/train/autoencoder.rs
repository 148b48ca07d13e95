//! Training an autoencoder to give back the pictures that it is shown (Kingma and Welling 2014, arXiv 1312.6114).

use candle_core::{DType, Tensor};

use super::objective::Objective;
use super::parameters::{Gradients, Parameters};
use super::wlf::Losses;
use crate::job::task::making::Partition;
use crate::models::vae::{Config, Vae};

/// Gradients need the picture as a whole: no bands.
const WHOLE: usize = usize::MAX;

/// Mean square of what is given back against what was shown, and the latents' distance from N(0, 1).
pub struct Reconstruction {
    /// The autoencoder's.
    pub config: Config,
    /// What the latents' distance counts: 10⁻⁶ in the latent-diffusion models' training.
    pub divergence: f64,
}

/// Pictures and the noise of their latents.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// [B, 3, H, W] from −1 to 1.
    pub images: Tensor,
    /// [B, C, H/factor, W/factor] from N(0, 1).
    pub noise: Tensor,
}

impl Reconstruction {
    /// The mean square per value, and the mean divergence per value of the latent.
    fn forward(&self, vae: &Vae, batch: &Pictures, dtype: DType) -> anyhow::Result<Losses> {
        let (mean, log_variance) = vae.encode(&batch.images.to_dtype(dtype)?, WHOLE)?;
        let deviation = (&log_variance * 0.5)?.exp()?;
        let latent = (&mean + deviation.mul(&batch.noise.to_dtype(dtype)?)?)?;
        let images = vae.decode(&latent, Partition::Off, WHOLE)?.to_dtype(DType::F32)?;
        let off = (images - batch.images.to_dtype(DType::F32)?)?.sqr()?.mean_all()?;
        let (mean, log_variance) = (mean.to_dtype(DType::F32)?, log_variance.to_dtype(DType::F32)?);
        // ½·(μ² + σ² − 1 − ln σ²)
        let divergence = (((mean.sqr()? + log_variance.exp()?)? - 1.0)? - log_variance)?.mean_all()?;
        let divergence = (divergence * 0.5)?;
        let bands = Tensor::stack(&[off.detach(), divergence.detach()], 0)?;
        Ok(Losses { total: (off + (divergence * self.divergence)?)?, bands })
    }
}

impl Objective for Reconstruction {
    type Batch = Pictures;

    fn gradients(&self, parameters: &Parameters, batch: &Pictures, into: &mut Gradients) -> anyhow::Result<Losses> {
        let vae = Vae::load(&self.config, &parameters.live()?)?;
        let losses = self.forward(&vae, batch, parameters.dtype())?;
        into.take(&mut losses.total.backward()?, parameters)?;
        Ok(losses.detached())
    }

    fn loss(&self, parameters: &Parameters, batch: &Pictures) -> anyhow::Result<Losses> {
        let vae = Vae::load(&self.config, &parameters.still()?)?;
        self.forward(&vae, batch, parameters.dtype())
    }
}

/// The mean and the deviation of the latents of these pictures, over all channels and places.
///
/// # Errors
/// No pictures, latents that are all alike, or no memory.
pub fn moments(of: &Reconstruction, parameters: &Parameters, batches: &[Pictures]) -> anyhow::Result<(f64, f64)> {
    let vae = Vae::load(&of.config, &parameters.still()?)?;
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for batch in batches {
        let (mean, log_variance) = vae.encode(&batch.images.to_dtype(parameters.dtype())?, WHOLE)?;
        let (mean, log_variance) = (mean.to_dtype(DType::F32)?, log_variance.to_dtype(DType::F32)?);
        n += mean.elem_count() as f64;
        sum += f64::from(mean.sum_all()?.to_scalar::<f32>()?);
        // E[z²] = μ² + σ²
        squares += f64::from((mean.sqr()? + log_variance.exp()?)?.sum_all()?.to_scalar::<f32>()?);
    }
    anyhow::ensure!(n > 0.0, "no pictures to measure latents of");
    let mean = sum / n;
    let variance = squares / n - mean * mean;
    anyhow::ensure!(variance.is_finite() && variance > 0.0, "the latents have no spread");
    Ok((mean, variance.sqrt()))
}
