//! Stable Diffusion 3's pipeline in its stages: noise to latent, latent to picture, and back.

use anyhow::{Context, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;

use super::noise::{Recipe, randn};
use super::package::Package;
use super::schedule::{self, Schedule};
use super::sd3::{self, Sd3};
use super::text::Encoded;
use super::vae::{self, Vae};
use super::weights::Weights;
use crate::image::Rgb;
use crate::job::task::making::Partition;

/// How one picture is sampled.
#[derive(Clone, PartialEq, Debug)]
pub struct Sampling {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Steps of Euler's.
    pub steps: usize,
    /// Classifier-free guidance; 1 or less means none.
    pub guidance: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// How the noise is drawn.
    pub noise: Recipe,
}

/// Where a package's configs agree on a size: the factor of its autoencoder, its patches and its positional table.
#[derive(Clone, Debug)]
pub struct Sizes {
    factor: usize,
    patch: usize,
    side: usize,
    usual: usize,
}

impl Sizes {
    /// Reads them.
    ///
    /// # Errors
    /// A config that cannot be read.
    pub fn of(package: &Package) -> anyhow::Result<Self> {
        let transformer = sd3::Config::read(&package.config("transformer"))?;
        Ok(Self::new(&transformer, &vae::Config::read(&package.config("vae"))?))
    }

    /// What two configs come to.
    pub fn new(transformer: &sd3::Config, vae: &vae::Config) -> Self {
        Self {
            factor: vae.factor(),
            patch: transformer.patch_size,
            side: transformer.pos_embed_max_size,
            usual: transformer.sample_size,
        }
    }

    /// The side that diffusers makes unless it is told otherwise.
    pub fn usual(&self) -> usize {
        self.usual * self.factor
    }

    /// How many pixels one latent pixel stands for, along each axis.
    pub fn factor(&self) -> usize {
        self.factor
    }

    /// Width and height are multiples of this.
    pub fn unit(&self) -> usize {
        self.factor * self.patch
    }

    /// The greatest width and height.
    pub fn most(&self) -> usize {
        self.unit() * self.side
    }

    /// How many tokens a picture of this size has.
    pub fn n_tokens(&self, width: u32, height: u32) -> usize {
        let unit = self.unit();
        (width as usize / unit) * (height as usize / unit)
    }

    /// Refuses a size that the package cannot make.
    ///
    /// # Errors
    /// A side that is no multiple of the unit, or is 0 or larger than the positional table; with the nearest good size.
    pub fn check(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let (unit, most) = (self.unit(), self.most());
        let nearest = |side: u32| ((side as usize + unit / 2) / unit * unit).clamp(unit, most);
        let (near_width, near_height) = (nearest(width), nearest(height));
        ensure!(
            near_width == width as usize && near_height == height as usize,
            "{width}x{height} is no size that this package makes: width and height must be multiples of {unit} from \
             {unit} to {most}; {near_width}x{near_height} is the nearest"
        );
        Ok(())
    }
}

/// The transformer and its schedule, ready to make latents.
pub struct Denoiser {
    transformer: Sd3,
    schedule: schedule::Config,
    n_channels: usize,
    sizes: Sizes,
    device: Device,
    dtype: DType,
}

impl Denoiser {
    /// Loads them.
    ///
    /// # Errors
    /// A config or weights that cannot be read or contradict each other.
    pub fn load(package: &Package, device: &Device, dtype: DType) -> anyhow::Result<Self> {
        let config = sd3::Config::read(&package.config("transformer"))?;
        let schedule = schedule::Config::read(&package.config("scheduler"))?;
        let weights = Weights::open(&package.weights("transformer")?, device, dtype)?;
        let denoiser = Self::new(&config, schedule, Sizes::of(package)?, &weights)?;
        weights.finish().with_context(|| format!("load {}", package.folder("transformer").display()))?;
        Ok(denoiser)
    }

    /// Makes it of its parts; it computes where the weights are, in their type.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn new(
        config: &sd3::Config,
        schedule: schedule::Config,
        sizes: Sizes,
        weights: &Weights,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            transformer: Sd3::load(config, weights).context("load the transformer")?,
            schedule,
            n_channels: config.in_channels,
            sizes,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Makes a latent [1, C, H/factor, W/factor], f32 on the CPU, as diffusers' `output_type="latent"` gives it.
    /// Without guidance `negative` means nothing. `progress` hears the steps done and their number after each.
    ///
    /// # Errors
    /// A size that the package cannot make, guidance without a negative prompt, a latent that is not finite (which
    /// step), no memory.
    pub fn denoise(
        &self,
        prompt: &Encoded,
        negative: Option<&Encoded>,
        sampling: &Sampling,
        progress: &mut dyn FnMut(usize, usize),
    ) -> anyhow::Result<Tensor> {
        let (width, height) = (sampling.width, sampling.height);
        self.sizes.check(width, height)?;
        ensure!(sampling.steps > 0, "0 steps make no picture");
        let factor = self.sizes.factor;
        let shape = [1, self.n_channels, height as usize / factor, width as usize / factor];
        let schedule = Schedule::new(&self.schedule, sampling.steps, self.sizes.n_tokens(width, height));
        let mut latent = randn(sampling.seed, &shape, self.dtype, sampling.noise)?.to_device(&self.device)?;

        let is_guided = sampling.guidance > 1.0;
        let texts = match (is_guided, negative) {
            (false, _) => vec![prompt],
            (true, Some(negative)) => vec![negative, prompt],
            (true, None) => bail!("guidance {} needs a negative prompt, if only an empty one", sampling.guidance),
        };
        let batch = |part: fn(&Encoded) -> &Tensor| -> candle_core::Result<Tensor> {
            let parts: Vec<&Tensor> = texts.iter().map(|it| part(it)).collect();
            Tensor::stack(&parts, 0)?.to_device(&self.device)?.to_dtype(self.dtype)
        };
        let context = batch(|it| &it.context).context("the prompts' states differ in shape")?;
        let pooled = batch(|it| &it.pooled)?;
        for step in 0..schedule.n_steps() {
            let input = if is_guided { Tensor::cat(&[&latent, &latent], 0)? } else { latent.clone() };
            let velocity = self.transformer.forward(&input, schedule.timesteps[step], &context, &pooled)?;
            let velocity = if is_guided {
                let (without, with) = (velocity.narrow(0, 0, 1)?, velocity.narrow(0, 1, 1)?);
                (&without + ((with - &without)? * sampling.guidance)?)?
            } else {
                velocity
            };
            latent = schedule.step(step, &latent, &velocity)?;
            let sum = latent.to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar::<f32>()?;
            let at = step + 1;
            ensure!(sum.is_finite(), "the latent is no longer finite after step {at} of {}", schedule.n_steps());
            progress(at, schedule.n_steps());
        }
        Ok(latent.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    }
}

/// The autoencoder, ready to make pictures of latents and latents of pictures.
pub struct Decoder {
    vae: Vae,
    device: Device,
    dtype: DType,
}

impl Decoder {
    /// Loads it.
    ///
    /// # Errors
    /// A config or weights that cannot be read or contradict each other.
    pub fn load(package: &Package, device: &Device, dtype: DType) -> anyhow::Result<Self> {
        let config = vae::Config::read(&package.config("vae"))?;
        let weights = Weights::open(&package.weights("vae")?, device, dtype)?;
        let decoder = Self::new(&config, &weights)?;
        weights.finish().with_context(|| format!("load {}", package.folder("vae").display()))?;
        Ok(decoder)
    }

    /// Makes it of its parts; it computes where the weights are, in their type.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn new(config: &vae::Config, weights: &Weights) -> anyhow::Result<Self> {
        let vae = Vae::load(config, weights).context("load the autoencoder")?;
        Ok(Self { vae, device: weights.device().clone(), dtype: weights.dtype() })
    }

    /// The picture of a latent that [`Denoiser::denoise`] or [`encode`](Self::encode) made; temporary tensors are
    /// kept near `budget` bytes.
    ///
    /// # Errors
    /// A picture that is not finite or all black, or no memory.
    pub fn decode(&self, latent: &Tensor, partition: Partition, budget: usize) -> anyhow::Result<Rgb> {
        let latent = self.vae.unscale(&latent.to_device(&self.device)?.to_dtype(self.dtype)?)?;
        to_rgb(&self.vae.decode(&latent, partition, budget)?)
    }

    /// The scaled latent of a picture, f32 on the CPU: the mean, or a sample drawn with a seed.
    ///
    /// # Errors
    /// A side that is no multiple of the factor, or no memory.
    pub fn encode(&self, image: &Rgb, sample_seed: Option<u64>, budget: usize) -> anyhow::Result<Tensor> {
        let image = from_rgb(image)?.to_device(&self.device)?.to_dtype(self.dtype)?;
        let (mean, log_variance) = self.vae.encode(&image, budget)?;
        let latent = match sample_seed {
            None => mean,
            Some(seed) => {
                let noise = randn(seed, mean.dims(), self.dtype, Recipe::Current)?.to_device(&self.device)?;
                (mean + (log_variance * 0.5)?.exp()?.mul(&noise)?)?
            }
        };
        Ok(self.vae.scale(&latent)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    }

    /// How many times wider and higher a picture is than its latent.
    pub fn factor(&self) -> usize {
        self.vae.config().factor()
    }
}

/// round(255·clamp(x/2 + 0.5, 0, 1)), halves to the even number, of [1, 3, H, W].
fn to_rgb(image: &Tensor) -> anyhow::Result<Rgb> {
    let (_, n_channels, height, width) = image.dims4()?;
    ensure!(n_channels == 3, "a picture of {n_channels} channels");
    let interleaved = image.squeeze(0)?.permute((1, 2, 0))?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let values: Vec<f32> = interleaved.contiguous()?.flatten_all()?.to_vec1()?;
    ensure!(values.iter().all(|it| it.is_finite()), "the decoded picture is not finite");
    let pixels: Vec<u8> =
        values.iter().map(|it| ((it / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8).collect();
    ensure!(pixels.iter().any(|it| *it > 0), "the decoded picture is all black");
    Ok(Rgb { width: width as u32, height: height as u32, pixels })
}

/// [1, 3, H, W] in −1 to 1: (v/255 − 0.5)/0.5.
fn from_rgb(image: &Rgb) -> anyhow::Result<Tensor> {
    let values: Vec<f32> = image.pixels.iter().map(|it| (f32::from(*it) / 255.0 - 0.5) / 0.5).collect();
    let shape = (1, image.height as usize, image.width as usize, 3);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.permute((0, 3, 1, 2))?.contiguous()?)
}

/// A safetensors file with one tensor, `latent`, f32.
///
/// # Errors
/// No memory.
pub fn latent_to_bytes(latent: &Tensor) -> anyhow::Result<Vec<u8>> {
    let values: Vec<f32> = latent.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    let view = TensorView::new(safetensors::Dtype::F32, latent.dims().to_vec(), &bytes)?;
    Ok(safetensors::serialize([("latent", view)], None)?)
}

/// The opposite of [`latent_to_bytes`].
///
/// # Errors
/// Not such a file.
pub fn latent_from_bytes(bytes: &[u8]) -> anyhow::Result<Tensor> {
    let mut tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).context("read a latent")?;
    tensors.remove("latent").context("a file without the tensor `latent`")
}
