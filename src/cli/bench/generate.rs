//! `jobctl bench generate`: how long a step and a decoding take, and how much memory, with random weights.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::cli::picture;
use crate::gpu::{self, usage};
use crate::job::task::making::{Partition, Precision};
use crate::models::memory::BANDS;
use crate::models::noise::Recipe;
use crate::models::pipeline::{Decoder, Denoiser, Sampling, Sizes};
use crate::models::text::Encoded;
use crate::models::weights::Weights;
use crate::models::{schedule, sd3, vae};

/// Time the transformer's steps and the decoding of one picture, with random weights of Stable Diffusion 3 medium.
///
/// Example: jobctl bench generate --device cuda:0 --size 4096x4096
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Width and height in pixels.
    #[arg(long, default_value = "1024x1024", value_parser = picture::size)]
    size: (u32, u32),
    /// Steps that are timed, after one that is not.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Classifier-free guidance; above 1 each step computes two velocities.
    #[arg(long, default_value_t = 7.0)]
    guidance: f64,
    /// Tokens of the text: 77 and T5's.
    #[arg(long, default_value_t = 154)]
    text_tokens: usize,
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
    /// Stride of the autoencoder's ends: 1 is F8, 2 is F16.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    stride: u8,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    size: (u32, u32),
    image_tokens: usize,
    dtype: String,
    /// Seconds of each timed step.
    step_s: Vec<f64>,
    /// Seconds of decoding, by partition; the first run of each is not counted.
    decode_s: Vec<(&'static str, f64)>,
    /// Largest memory in use on the GPU, or resident, in GiB: while denoising, and while decoding by partition.
    denoise_gib: f64,
    decode_gib: Vec<(&'static str, f64)>,
    /// Why a way of decoding did not work here.
    decode_failed: Vec<(&'static str, String)>,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let device = gpu::device(&args.device)?;
    let dtype = gpu::dtype_on(&device, args.dtype)?;
    let transformer = sd3::Config {
        num_layers: args.layers,
        num_attention_heads: args.width / 64,
        caption_projection_dim: args.width,
        ..sd3::Config::medium()
    };
    let vae = vae::Config::sd3(args.stride.into());
    let sizes = Sizes::new(&transformer, &vae);
    let (width, height) = args.size;
    sizes.check(width, height)?;
    let text = |seed| -> anyhow::Result<Encoded> {
        Ok(Encoded {
            context: Tensor::randn(0_f32, 1.0, (args.text_tokens, transformer.joint_attention_dim), &Device::Cpu)?,
            pooled: (Tensor::randn(0_f32, 1.0, transformer.pooled_projection_dim, &Device::Cpu)? + f64::from(seed))?,
            n_cut: [0; 3],
        })
    };
    let (prompt, negative) = (text(0)?, text(1)?);

    let schedule = schedule::Config { shift: 3.0, ..schedule::Config::default() };
    let (done, denoise_gib) = usage::most(&device, || -> anyhow::Result<_> {
        let denoiser = Denoiser::new(&transformer, schedule, sizes.clone(), &Weights::random(&device, dtype))?;
        let steps = args.steps as usize + 1;
        let sampling = Sampling { width, height, steps, guidance: args.guidance, seed: 0, noise: Recipe::Current };
        let mut ends = Vec::new();
        let latent = denoiser.denoise(&prompt, Some(&negative), &sampling, &mut |_, _| ends.push(Instant::now()))?;
        Ok((latent, ends))
    });
    let (latent, ends) = done?;
    let step_s: Vec<f64> = ends.windows(2).map(|it| (it[1] - it[0]).as_secs_f64()).collect();

    let decoder = Decoder::new(&vae, &Weights::random(&device, dtype))?;
    let (mut decode_s, mut decode_gib, mut decode_failed) = (Vec::new(), Vec::new(), Vec::new());
    let ways = [("exact", Partition::Exact), ("legacy", Partition::Legacy), ("off", Partition::Off)];
    for (name, partition) in ways.into_iter().filter(|it| args.stride == 2 || it.1 != Partition::Legacy) {
        let (seconds, gib) = usage::most(&device, || -> anyhow::Result<f64> {
            decoder.decode(&latent, partition, BANDS)?;
            let begun = Instant::now();
            decoder.decode(&latent, partition, BANDS)?;
            Ok(begun.elapsed().as_secs_f64())
        });
        match seconds {
            Ok(seconds) => {
                decode_s.push((name, seconds));
                decode_gib.push((name, gib));
            }
            // In one piece a large picture may be too much for memory or for a library.
            Err(error) => {
                decode_failed.push((name, format!("{error:#}").lines().next().unwrap_or_default().to_owned()));
            }
        }
    }
    let report = Report {
        size: args.size,
        image_tokens: sizes.n_tokens(width, height),
        dtype: if dtype == DType::F32 { "f32" } else { "bf16" }.to_owned(),
        step_s,
        decode_s,
        denoise_gib,
        decode_gib,
        decode_failed,
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
    say(format_args!("{width}x{height}, {} image tokens, {}", report.image_tokens, report.dtype));
    say(format_args!(
        "step            {:.3} s median of {} ({:.3} to {:.3}), at most {:.1} GiB",
        sorted[sorted.len() / 2],
        sorted.len(),
        sorted[0],
        sorted[sorted.len() - 1],
        report.denoise_gib
    ));
    for ((name, seconds), (_, gib)) in report.decode_s.iter().zip(&report.decode_gib) {
        say(format_args!("decode {name:<8} {seconds:.3} s, at most {gib:.1} GiB"));
    }
    for (name, why) in &report.decode_failed {
        say(format_args!("decode {name:<8} failed: {why}"));
    }
}
