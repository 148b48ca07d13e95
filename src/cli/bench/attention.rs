//! `jobctl bench attention`: how right and how fast attention is on a device.

use std::time::Instant;

use candle_core::{D, DType, Device, Tensor, Var};
use serde::Serialize;

use crate::cli::Outcome;
use crate::cli::lines::{say, say_json};
use crate::cli::picture;
use crate::gpu;
use crate::gpu::attention::{attention, blockwise};
use crate::job::task::making::Precision;

/// Check and time attention, forward and backward, on fresh random numbers.
///
/// Errors are ‖out − reference‖ / ‖reference‖; the reference is computed in f64 on the CPU where there are few scores,
/// else in f32 block by block on the device (for gradients only where its memory allows).
///
/// Example: jobctl bench attention --device cuda:0
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What it computes in [default: f32 on the CPU, bf16 on CUDA].
    #[arg(long, value_parser = picture::precision())]
    precision: Option<Precision>,
    /// Batch, heads, queries, keys and width of a head, may be repeated [default: a list that suits the device].
    #[arg(long, value_parser = parse_shape)]
    shape: Vec<Shape>,
    /// Times each is run for its time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: u32,
    /// Answer in JSON, a line a shape.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Shape {
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
    bias: bool,
}

const fn shape(batch: usize, heads: usize, queries: usize, keys: usize, width: usize) -> Shape {
    Shape { batch, heads, queries, keys, width, bias: false }
}

/// Ragged lengths, few and many keys, a bias; wide enough to show each way to compute it.
const SMALL: [Shape; 7] = [
    shape(1, 2, 77, 77, 64),
    shape(2, 3, 333, 77, 64),
    shape(2, 3, 77, 333, 64),
    shape(1, 2, 257, 300, 128),
    shape(1, 5, 130, 131, 8),
    Shape { bias: true, ..shape(2, 3, 333, 333, 64) },
    shape(1, 1, 333, 333, 512),
];
/// Stable Diffusion 3 at 2048 and 4096 pixels, the same tokens with heads of 128, and a piece of the autoencoder.
const LARGE: [Shape; 5] = [
    shape(2, 24, 4250, 4250, 64),
    shape(2, 24, 16538, 16538, 64),
    shape(2, 12, 16538, 16538, 128),
    shape(1, 1, 16384, 16384, 512),
    shape(1, 1, 65536, 65536, 512),
];

/// Most scores of which the CPU computes a reference in f64.
const CPU_SCORES: usize = 1 << 20;
/// Most scores whose gradients the device computes in f32: candle keeps some ten tensors of them.
const GRADIENT_SCORES: usize = 900 << 20;

fn parse_shape(text: &str) -> Result<Shape, String> {
    let numbers: Vec<usize> = text
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|it: std::num::ParseIntError| it.to_string())?;
    match numbers[..] {
        [b, h, n, m, d] if numbers.iter().all(|it| *it > 0) => Ok(shape(b, h, n, m, d)),
        _ => Err("say five numbers above 0, as in 2,24,4250,4250,64".to_owned()),
    }
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    shape: Shape,
    /// What the result was compared with.
    reference: &'static str,
    error: f64,
    /// Of the gradients of q, k and v; none where no reference fits.
    gradient_errors: Option<[f64; 3]>,
    /// Median milliseconds, and 10¹² operations a second.
    forward_ms: f64,
    forward_tflops: f64,
    backward_ms: Option<f64>,
    backward_tflops: Option<f64>,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let device = gpu::device(&args.device)?;
    let dtype = gpu::dtype_on(&device, args.precision)?;
    let shapes = match (args.shape.is_empty(), device.is_cuda()) {
        (false, _) => args.shape.clone(),
        (true, true) => [&SMALL[..], &LARGE].concat(),
        (true, false) => SMALL.to_vec(),
    };
    if !args.json {
        say(format_args!(
            "  B  H      N      M    D   error    (against)      dq       dk       dv        ms  TFLOP/s  back ms  TFLOP/s"
        ));
    }
    for shape in shapes {
        let line = measure(shape, &device, dtype, args.repeats as usize)?;
        if args.json {
            say_json(&line)?;
        } else {
            tell(&line);
        }
    }
    Ok(Outcome::Done)
}

fn tell(line: &Line) {
    let Shape { batch, heads, queries, keys, width, bias } = line.shape;
    let gradients =
        line.gradient_errors.map_or("-        -        -".to_owned(), |[q, k, v]| format!("{q:.1e}  {k:.1e}  {v:.1e}"));
    let backward = line
        .backward_ms
        .zip(line.backward_tflops)
        .map_or("      -        -".to_owned(), |(ms, tflops)| format!("{ms:>8.3} {tflops:>8.1}"));
    say(format_args!(
        "{batch:>3} {heads:>2} {queries:>6} {keys:>6} {width:>4}{} {:.1e}  ({:<9})  {gradients:<28} {:>8.3} {:>8.1} {backward}",
        if bias { "b" } else { " " },
        line.error,
        line.reference,
        line.forward_ms,
        line.forward_tflops,
    ));
}

/// [B, H, N, D] in memory of [B, N, H, D], as the models hold it.
fn heads(b: usize, h: usize, n: usize, d: usize, device: &Device, dtype: DType) -> candle_core::Result<Tensor> {
    Tensor::randn(0_f32, 1.0, (b, n, h, d), device)?.to_dtype(dtype)?.transpose(1, 2)
}

fn measure(shape: Shape, device: &Device, dtype: DType, repeats: usize) -> anyhow::Result<Line> {
    let Shape { batch, heads: h, queries, keys, width, .. } = shape;
    let make = |n| heads(batch, h, n, width, device, dtype);
    let (q, k, v) = (make(queries)?, make(keys)?, make(keys)?);
    let weight = make(queries)?;
    let bias = shape.bias.then(|| Tensor::randn(0_f32, 1.0, (1, h, queries, keys), device)).transpose()?;
    let scale = 1.0 / (width as f64).sqrt();
    let ours = |q: &Tensor, k: &Tensor, v: &Tensor| attention(q, k, v, scale, bias.as_ref());

    let n_scores = batch * h * queries * keys;
    let small = n_scores <= CPU_SCORES;
    let (place, wide) = if small { (&Device::Cpu, DType::F64) } else { (device, DType::F32) };
    let exact = |x: &Tensor| x.to_device(place)?.to_dtype(wide);
    let bias_exact = bias.as_ref().map(exact).transpose()?;
    let reference = |q: &Tensor, k: &Tensor, v: &Tensor| {
        if small { plain(q, k, v, scale, bias_exact.as_ref()) } else { blockwise(q, k, v, scale, bias_exact.as_ref()) }
    };
    let (qx, kx, vx, wx) = (exact(&q)?, exact(&k)?, exact(&v)?, exact(&weight)?);
    let error = distance(&exact(&ours(&q, &k, &v)?)?, &reference(&qx, &kx, &vx)?)?;

    let has_gradients = n_scores <= GRADIENT_SCORES;
    let gradient_errors = if has_gradients {
        let got = gradients(&ours, [&q, &k, &v, &weight])?;
        let expected = gradients(&reference, [&qx, &kx, &vx, &wx])?;
        let mut errors = [0.0; 3];
        for (to, (got, expected)) in errors.iter_mut().zip(got.iter().zip(&expected)) {
            *to = distance(&exact(got)?, expected)?;
        }
        Some(errors)
    } else {
        None
    };

    let forward_ms = median_ms(device, repeats, || ours(&q, &k, &v).map(drop))?;
    // Block by block, the backward pass of many scores does not fit.
    let fits = has_gradients || (device.is_cuda() && dtype != DType::F32 && width <= 256 && !shape.bias);
    let backward_ms = if fits {
        let both = median_ms(device, repeats, || gradients(&ours, [&q, &k, &v, &weight]).map(drop))?;
        Some((both - forward_ms).max(0.0))
    } else {
        None
    };
    let operations = 4.0 * n_scores as f64 * width as f64;
    Ok(Line {
        shape,
        reference: if small { "f64, CPU" } else { "f32" },
        error,
        gradient_errors,
        forward_ms,
        forward_tflops: operations / forward_ms / 1e9,
        backward_ms,
        // Five products instead of two.
        backward_tflops: backward_ms.map(|it| 2.5 * operations / it / 1e9),
    })
}

/// softmax(scale · q·kᵀ + bias) · v as it is written.
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let scores = (q.contiguous()?.matmul(&k.transpose(2, 3)?.contiguous()?)? * scale)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?.matmul(&v.contiguous()?)
}

type Attend<'a> = dyn Fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a;

/// The gradients of Σ weight · attention(q, k, v).
fn gradients(attend: &Attend<'_>, [q, k, v, weight]: [&Tensor; 4]) -> candle_core::Result<[Tensor; 3]> {
    let vars = [Var::from_tensor(q)?, Var::from_tensor(k)?, Var::from_tensor(v)?];
    let out = attend(&vars[0], &vars[1], &vars[2])?;
    let grads = (out * weight)?.sum_all()?.backward()?;
    let get = |var: &Var| {
        grads.get(var).cloned().ok_or_else(|| candle_core::Error::Msg("attention has no gradient".to_owned()).bt())
    };
    Ok([get(&vars[0])?, get(&vars[1])?, get(&vars[2])?])
}

/// ‖a − b‖ / ‖b‖; never small where something is not a number.
fn distance(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>().map(f64::sqrt);
    Ok(norm(&(a - b)?)? / norm(b)?)
}

fn median_ms(device: &Device, repeats: usize, work: impl Fn() -> candle_core::Result<()>) -> candle_core::Result<f64> {
    work()?;
    device.synchronize()?;
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let begun = Instant::now();
        work()?;
        device.synchronize()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
