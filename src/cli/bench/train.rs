//! `jobctl bench train`: how long a step of fine-tuning takes, and how much memory, with random weights.

use std::time::Instant;

use candle_core::{DType, Tensor};
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::cli::picture;
use crate::gpu::{self, usage};
use crate::job::task::making::Precision;
use crate::models::pipeline::Sizes;
use crate::models::sd3::{self, Sd3};
use crate::models::vae;
use crate::models::weights::Weights;
use crate::train::exchange::Alone;
use crate::train::parameters::Parameters;
use crate::train::trainer::{Home, Settings, Trainer};
use crate::train::transformer::{Batch, FIXED, FlowMatching, Recompute};
use crate::train::wlf::{Loss, Space, Target};

/// Time steps of fine-tuning with the wavelet loss, with random weights of Stable Diffusion 3 medium.
///
/// Example: jobctl bench train --device cuda:0 --size 4096x4096
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Width and height in pixels.
    #[arg(long, default_value = "1024x1024", value_parser = picture::size)]
    size: (u32, u32),
    /// Images of a step.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Steps that are timed, after one that is not.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Tokens of the text: 77 and T5's.
    #[arg(long, default_value_t = 154)]
    text_tokens: usize,
    /// What the backward pass computes again.
    #[arg(long, value_enum, default_value_t = Twice::Blocks)]
    recompute: Twice,
    /// Keep the optimiser's states in the machine's memory.
    #[arg(long)]
    host: bool,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What it computes in [default: f32 on the CPU, bf16 on CUDA].
    #[arg(long, value_parser = picture::precision())]
    dtype: Option<Precision>,
    /// Width of the transformer, a multiple of 64.
    #[arg(long, default_value_t = 1536)]
    width: usize,
    /// Blocks of the transformer.
    #[arg(long, default_value_t = 24)]
    layers: usize,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Twice {
    /// Each block.
    Blocks,
    /// Nothing.
    Nothing,
}

#[derive(Serialize)]
struct Report {
    size: (u32, u32),
    batch: u32,
    image_tokens: usize,
    dtype: String,
    n_parameters: usize,
    /// Seconds of each timed step.
    step_s: Vec<f64>,
    images_per_s: f64,
    /// The loss of every step, the first one too.
    loss: Vec<f64>,
    /// Largest memory in use on the GPU, or resident, in GiB.
    peak_gib: f64,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let device = gpu::device(&args.device)?;
    let dtype = gpu::dtype_on(&device, args.dtype)?;
    let config = sd3::Config {
        num_layers: args.layers,
        num_attention_heads: args.width / 64,
        caption_projection_dim: args.width,
        ..sd3::Config::medium()
    };
    let sizes = Sizes::new(&config, &vae::Config::sd3(2));
    let (width, height) = args.size;
    sizes.check(width, height)?;
    let n_batch = args.batch as usize;
    let random = |dims: &[usize]| Tensor::randn(0_f32, 1.0, dims, &device);
    let latent = [n_batch, config.in_channels, height as usize / sizes.factor(), width as usize / sizes.factor()];
    let sigmas: Vec<f32> = (0..n_batch).map(|it| (it as f32 + 0.5) / n_batch as f32).collect();
    let batch = Batch {
        timesteps: sigmas.iter().map(|it| it * 1000.0).collect(),
        context: random(&[n_batch, args.text_tokens, config.joint_attention_dim])?,
        pooled: random(&[n_batch, config.pooled_projection_dim])?,
        target: Target { x0: random(&latent)?, noise: random(&latent)?, weights: vec![1.0; n_batch], sigmas },
    };

    let blueprint = Weights::blueprint();
    Sd3::load(&config, &blueprint)?;
    let asked = blueprint.asked();
    let n_parameters = asked.iter().filter(|it| it.0 != FIXED).map(|it| it.1.iter().product::<usize>()).sum();
    let recompute = match args.recompute {
        Twice::Blocks => Recompute::Blocks,
        Twice::Nothing => Recompute::Nothing,
    };
    let (done, peak_gib) = usage::most(&device, || -> anyhow::Result<_> {
        let weights = Weights::random(&device, DType::F32);
        let start = Parameters::whole(&asked, &weights, dtype, |it| it == FIXED)?;
        let home = if args.host { Home::Host } else { Home::Device };
        let settings = Settings { n_steps: args.steps as usize + 1, home, ..Settings::default() };
        let loss = Loss { space: Space::X0, bands: vec![1.0; 4] };
        let mut trainer = Trainer::new(FlowMatching { config, loss, recompute }, start, settings, &Alone)?;
        let (mut losses, mut step_s) = (Vec::new(), Vec::new());
        for _ in 0..=args.steps {
            let begun = Instant::now();
            losses.push(trainer.step(std::slice::from_ref(&batch), &mut Alone)?.loss);
            // The update is still under way on a GPU.
            device.synchronize()?;
            step_s.push(begun.elapsed().as_secs_f64());
        }
        Ok((losses, step_s.split_off(1)))
    });
    let (loss, step_s) = done?;
    let images_per_s = f64::from(args.batch) * step_s.len() as f64 / step_s.iter().sum::<f64>();
    let report = Report {
        size: args.size,
        batch: args.batch,
        image_tokens: sizes.n_tokens(width, height),
        dtype: if dtype == DType::F32 { "f32" } else { "bf16" }.to_owned(),
        n_parameters,
        step_s,
        images_per_s,
        loss,
        peak_gib,
    };
    if args.json {
        say_json(&report)?;
    } else {
        tell(&report);
    }
    Ok(Outcome::Done)
}

fn tell(report: &Report) {
    let mut sorted = report.step_s.clone();
    sorted.sort_by(f64::total_cmp);
    let (width, height) = report.size;
    let millions = report.n_parameters as f64 / 1e6;
    say(format_args!(
        "{width}x{height}, batch {}, {} image tokens, {}, {millions:.1} million parameters",
        report.batch, report.image_tokens, report.dtype
    ));
    say(format_args!(
        "step     {:.3} s median of {} ({:.3} to {:.3})",
        sorted[sorted.len() / 2],
        sorted.len(),
        sorted[0],
        sorted[sorted.len() - 1]
    ));
    say(format_args!("images   {:.3} a second", report.images_per_s));
    say(format_args!("memory   {:.1} GiB at most", report.peak_gib));
}
