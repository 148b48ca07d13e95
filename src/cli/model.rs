//! `jobctl model`: what a package holds and needs, and random packages to try things with.

mod export;

use std::path::PathBuf;

use candle_core::DType;
use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Outcome;
use super::lines::{right, say, say_json, table};
use super::picture;
use crate::config::Config;
use crate::gpu;
use crate::job::task::making::Precision;
use crate::models::hub;
use crate::models::init::{self, Preset, Wanted};
use crate::models::inspect::{Component, Inspection};
use crate::models::memory::{Needs, Plan, gigabytes};
use crate::models::package::Package;
use crate::models::pipeline::Sizes;

/// Looks into packages of models, and makes random ones.
///
/// Example: jobctl model inspect stabilityai/stable-diffusion-3-medium-diffusers --size 4096x4096
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Says what a package holds, what is wrong with it, and how much memory a picture takes.
    ///
    /// The weights are not read, only what their files say of them. Status 1 if no picture can be made with it: a file
    /// or a tensor that is missing or does not fit.
    #[command(after_help = "Examples:
  jobctl model inspect packages/sd3 --size 2048x2048
  jobctl model inspect OWNER/NAME@REVISION --dtype bf16 --json")]
    Inspect(InspectArgs),
    /// Makes a random package that jobctl and diffusers load.
    ///
    /// Equal seeds give equal bytes. medium is Stable Diffusion 3 Medium in full size with Diffusion-4K's strided
    /// autoencoder, to measure speed and memory with: 15 GB in bf16, 6 GB without T5.
    #[command(after_help = "Examples:
  jobctl model init --family sd3 --preset tiny packages/tiny
  jobctl model init --family sd3 --preset medium --no-t5 packages/medium")]
    Init(InitArgs),
    /// Writes a model that a sweep has trained as a package that jobctl and diffusers load.
    ///
    /// What was not trained is copied from the package that the model comes from. Adapters are joined to the weights, and
    /// stand beside them as pytorch_lora_weights.safetensors.
    #[command(after_help = "Example:
  jobctl model export wlf-ablation wlf packages/wlf")]
    Export(export::Args),
}

#[derive(clap::Args, Debug)]
struct InspectArgs {
    /// A folder in the layout of diffusers, or owner/name[@revision] on the Hugging Face hub
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// The picture whose memory is planned; several squares if not given
    #[arg(long, value_name = "WxH", value_parser = picture::size)]
    size: Option<(u32, u32)>,
    /// What is computed in: f32 stands for the CPU, bf16 for a GPU
    #[arg(long, value_parser = picture::precision(), default_value = "bf16")]
    dtype: Precision,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct InitArgs {
    /// Kind of model
    #[arg(long, value_enum)]
    family: Family,
    /// Its size
    #[arg(long, value_enum)]
    preset: Size,
    /// A folder that does not exist yet, or is empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the weights are stored as; f32 for tiny and small, bf16 for medium if not given
    #[arg(long, value_parser = picture::precision())]
    dtype: Option<Precision>,
    /// Leave T5 out
    #[arg(long)]
    no_t5: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    /// Stable Diffusion 3
    Sd3,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    /// 3 MB
    Tiny,
    /// 4 MB: large enough to learn from photographs on a processor
    Small,
    /// 15 GB in bf16
    Medium,
}

/// Runs the verb.
///
/// # Errors
/// No such package, or a folder that cannot be written.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    match &args.command {
        Verb::Export(args) => super::block_on(export::run(args, config)),
        Verb::Inspect(args) => inspect(args),
        Verb::Init(args) => init(args),
    }
}

#[derive(Serialize)]
struct InspectLine<'a> {
    #[serde(flatten)]
    inspection: &'a Inspection,
    usable: bool,
    dtype: &'static str,
    memory: &'a [Plan],
}

fn inspect(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let package = Package::open(&hub::locate(&args.package)?)?;
    let inspection = Inspection::of(&package);
    let (dtype, name) = (gpu::dtype(args.dtype), args.dtype.word());
    let plans = plans(&package, args.size, dtype).unwrap_or_default();
    let usable = inspection.is_usable();
    if args.json {
        say_json(&InspectLine { inspection: &inspection, usable, dtype: name, memory: &plans })?;
    } else {
        print(&inspection);
        print_plans(&plans, name);
    }
    if let Some((width, height)) = args.size
        && usable
    {
        Sizes::of(&package)?.check(width, height)?;
    }
    Ok(if usable { Outcome::Done } else { Outcome::Failed })
}

/// The plans of one size, or of all squares of a power of two that the package makes; none where its configs are wrong.
fn plans(package: &Package, size: Option<(u32, u32)>, dtype: DType) -> anyhow::Result<Vec<Plan>> {
    let (needs, sizes) = (Needs::of(package)?, Sizes::of(package)?);
    let wanted: Vec<(u32, u32)> = match size {
        Some(size) => vec![size],
        None => (5..14).map(|it| (1 << it, 1 << it)).filter(|it| sizes.check(it.0, it.1).is_ok()).collect(),
    };
    Ok(wanted.into_iter().map(|(width, height)| needs.plan(width, height, dtype, true)).collect())
}

fn print(inspection: &Inspection) {
    say(inspection.package.display());
    let mut rows = table(&["component", "class", "files", "MB", "stored as", "parameters"]);
    for Component { name, class, files, bytes, dtypes, parameters, .. } in &inspection.components {
        let dtypes: Vec<&str> = dtypes.keys().map(String::as_str).collect();
        let parameters = if *parameters == 0 { String::new() } else { in_groups(*parameters) };
        let megabytes = format!("{:.1}", *bytes as f64 / 1e6);
        rows.add_row([
            name.into(),
            class.into(),
            right(files.len().to_string()),
            right(megabytes),
            dtypes.join(", ").into(),
            right(parameters),
        ]);
    }
    say(rows);
    if let Some(sizes) = inspection.sizes {
        let [factor, unit, most] = [sizes.factor, sizes.unit, sizes.most];
        say(format!(
            "The autoencoder's factor is {factor}. Pictures have sides that are multiples of {unit}, from {unit} to {most}."
        ));
    }
    for it in &inspection.contradictions {
        say(format!("error: {it}"));
    }
    for it in &inspection.components {
        if let Some(error) = &it.error {
            say(format!("error: {}: {error}", it.name));
        }
        if !it.faults.is_empty() {
            let word = if it.faults.are_fatal() { "error" } else { "note" };
            say(format!("{word}: {}: {}", it.name, it.faults.in_full().trim_end()));
        }
    }
}

fn print_plans(plans: &[Plan], dtype: &str) {
    if plans.is_empty() {
        return;
    }
    say(format!(
        "Memory in {dtype}, in GB: weights + the rest at the worst moment, a stage after the other, with guidance."
    ));
    let mut rows = table(&["size", "encode text", "denoise", "decode", "most"]);
    for plan in plans {
        let size = format!("{}x{}", plan.width, plan.height);
        let stages =
            plan.stages().map(|(_, it)| right(format!("{} + {}", gigabytes(it.weights), gigabytes(it.working))));
        rows.add_row([size.into()].into_iter().chain(stages).chain([right(gigabytes(plan.peak()))]));
    }
    say(rows);
}

/// 2084951104 as 2,084,951,104.
fn in_groups(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|it| std::str::from_utf8(it).ok()).collect();
    groups.join(",")
}

fn init(args: &InitArgs) -> anyhow::Result<Outcome> {
    let Family::Sd3 = args.family;
    let (preset, usual) = match args.preset {
        Size::Tiny => (Preset::Tiny, Precision::F32),
        Size::Small => (Preset::Small, Precision::F32),
        Size::Medium => (Preset::Medium, Precision::Bf16),
    };
    let precision = args.dtype.unwrap_or(usual);
    let wanted = Wanted { preset, seed: args.seed, precision, with_t5: !args.no_t5 };
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.expect("the template is right"));
    init::write(&args.dir, wanted, &|written, of| {
        bar.set_length(of);
        bar.set_position(written);
    })?;
    bar.finish_and_clear();
    say(args.dir.display());
    Ok(Outcome::Done)
}
