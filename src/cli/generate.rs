//! `jobctl generate`: one picture, without a database.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Outcome;
use super::lines::{say, say_json};
use super::picture;
use crate::gpu;
use crate::image::{jpeg, labels, png};
use crate::job::task::making::{Partition, Precision};
use crate::models::hub;
use crate::models::memory;
use crate::models::noise::Recipe;
use crate::models::package::Package;
use crate::models::pipeline::{Decoder, Denoiser, Sampling, Sizes, latent_to_bytes};
use crate::models::text::TextEncoders;

/// Make one picture with a package in the diffusers layout.
///
/// Example: jobctl generate --model models/sd3 --prompt "a lighthouse at dusk" --size 2048x2048 --seed 1 --out dusk.png
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The package: a folder, or a name on Hugging Face.
    #[arg(long)]
    model: String,
    /// What the picture shows.
    #[arg(long)]
    prompt: String,
    /// What it does not show; heard where there is guidance.
    #[arg(long, default_value = "")]
    negative: String,
    /// Width and height in pixels, such as 2048x2048 [default: the package's own].
    #[arg(long, value_parser = picture::size)]
    size: Option<(u32, u32)>,
    /// Steps of the sampler.
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    steps: u32,
    /// Classifier-free guidance; 1 or less means none.
    #[arg(long, default_value_t = 7.0)]
    guidance: f64,
    /// Seed of the noise: the same as torch's on the CPU.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tokens that T5 reads.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=512))]
    t5_tokens: u32,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What it computes in [default: f32 on the CPU, bf16 on CUDA].
    #[arg(long, value_parser = picture::precision())]
    dtype: Option<Precision>,
    /// How a strided autoencoder decodes.
    #[arg(long, value_parser = picture::partition(), default_value = "exact")]
    partition: Partition,
    /// Draw 16-bit noise as the torch of Diffusion-4K's authors did.
    #[arg(long)]
    authors_noise: bool,
    /// The picture: .png, or .jpg at quality 95.
    #[arg(long)]
    out: PathBuf,
    /// The latent, as a safetensors file with one tensor.
    #[arg(long)]
    latent_out: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    out: &'a PathBuf,
    latent_out: Option<&'a PathBuf>,
    width: u32,
    height: u32,
    seed: u64,
    /// Tokens that the three encoders' limits cut off.
    n_cut: [usize; 3],
    encode_s: f64,
    denoise_s: f64,
    decode_s: f64,
}

/// See [`Args`].
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let is_png = match args.out.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("png") => true,
        Some("jpg" | "jpeg") => false,
        _ => bail!("--out {}: a picture is a .png or a .jpg", args.out.display()),
    };
    for path in std::iter::once(&args.out).chain(&args.latent_out) {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|it| !it.is_dir()) {
            bail!("{}: there is no folder {}", path.display(), folder.display());
        }
    }
    let package = Package::open(&hub::locate(&args.model)?)?;
    let sizes = Sizes::of(&package)?;
    let usual = sizes.usual() as u32;
    let (width, height) = args.size.unwrap_or((usual, usual));
    sizes.check(width, height)?;
    let device = gpu::device(&args.device)?;
    let dtype = gpu::dtype_on(&device, args.dtype)?;
    memory::check(&package, width, height, dtype, args.guidance > 1.0, memory::free(&device)?)?;

    let bar = ProgressBar::new(u64::from(args.steps)).with_style(
        ProgressStyle::with_template("{msg:>10} {wide_bar} {pos}/{len} steps, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_message("encoding");
    bar.tick();
    let begun = Instant::now();
    let prompts = [args.prompt.as_str(), args.negative.as_str()];
    let prompts = if args.guidance > 1.0 { &prompts[..] } else { &prompts[..1] };
    let texts = TextEncoders::encode_all(&package.root, &device, dtype, prompts, args.t5_tokens as usize)?;
    let encode_s = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    bar.set_message("loading");
    bar.tick();
    let denoiser = Denoiser::load(&package, &device, dtype)?;
    bar.set_message("denoising");
    let noise = if args.authors_noise { Recipe::Authors } else { Recipe::Current };
    let sampling =
        Sampling { width, height, steps: args.steps as usize, guidance: args.guidance, seed: args.seed, noise };
    let latent = denoiser.denoise(&texts[0], texts.get(1), &sampling, &mut |_, _| bar.inc(1))?;
    drop(denoiser);
    let denoise_s = begun.elapsed().as_secs_f64();
    if let Some(path) = &args.latent_out {
        save(path, &latent_to_bytes(&latent)?)?;
    }

    let begun = Instant::now();
    bar.set_message("decoding");
    bar.tick();
    let picture = Decoder::load(&package, &device, dtype)?.decode(&latent, args.partition, memory::BANDS)?;
    let labels = labels(args, width, height);
    let bytes = if is_png {
        png::encode_labelled(&picture, &labels)
    } else {
        labels::in_jpeg(&jpeg::encode(&picture, 95)?, &labels)
    };
    save(&args.out, &bytes)?;
    let decode_s = begun.elapsed().as_secs_f64();
    bar.finish_and_clear();

    let n_cut = texts[0].n_cut;
    let report = Report {
        out: &args.out,
        latent_out: args.latent_out.as_ref(),
        width,
        height,
        seed: args.seed,
        n_cut,
        encode_s,
        denoise_s,
        decode_s,
    };
    if args.json {
        say_json(&report)?;
    } else {
        if n_cut.iter().any(|it| *it > 0) {
            let [first, second, third] = n_cut;
            eprintln!(
                "the prompt is too long: CLIP-L, OpenCLIP-G and T5 did not read its last {first}, {second} and {third} tokens"
            );
        }
        say(format_args!(
            "{}: {width}x{height}, seed {}; encoded in {encode_s:.1} s, denoised in {denoise_s:.1} s, decoded in {decode_s:.1} s",
            args.out.display(),
            args.seed
        ));
    }
    Ok(Outcome::Done)
}

/// Writes a file whole or not at all.
fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut beside = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
        beside.write_all(bytes)?;
        beside.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// What the picture was made from, as its file says it.
fn labels(args: &Args, width: u32, height: u32) -> Vec<(&'static str, String)> {
    let mut labels = vec![("prompt", args.prompt.clone())];
    if args.guidance > 1.0 {
        labels.push(("negative", args.negative.clone()));
    }
    labels.extend([
        ("seed", args.seed.to_string()),
        ("steps", args.steps.to_string()),
        ("guidance", args.guidance.to_string()),
        ("size", format!("{width}x{height}")),
        ("t5_tokens", args.t5_tokens.to_string()),
        ("model", args.model.clone()),
    ]);
    labels
}
