//! The Gaussian noise that torch's CPU generator draws, so that a seed gives the same picture as in Python.

use std::f32::consts::PI;

use candle_core::{DType, Device, Result, Tensor};
use half::{bf16, f16};

/// How torch has drawn noise of 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Recipe {
    /// In f32, rounded once: torch 2.13.
    #[default]
    Current,
    /// From 8 (bf16) or 11 (f16) bits, rounded at every step: torch 2.4, which the authors of Diffusion-4K used.
    Authors,
}

/// `torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)`, for 16 numbers or more.
///
/// f32 is within 2e-6 of torch's, whose logarithm and sine are approximations; 16-bit types differ in one value of a
/// thousand, by one unit in the last place.
///
/// # Errors
/// Fewer than 16 numbers, or another type than f32, bf16 and f16.
pub fn randn(seed: u64, shape: &[usize], dtype: DType, recipe: Recipe) -> Result<Tensor> {
    let n = shape.iter().product();
    if n < 16 {
        candle_core::bail!("noise of {n} numbers: torch draws fewer than 16 in another way");
    }
    let mut generator = Mt19937::new(seed);
    let values = match (dtype, recipe) {
        (DType::F32, _) => full_precision(&mut generator, n, false),
        (DType::BF16 | DType::F16, Recipe::Current) => full_precision(&mut generator, n, true),
        (DType::BF16, Recipe::Authors) => rounded(&mut generator, n, 8, |it| bf16::from_f32(it).to_f32()),
        (DType::F16, Recipe::Authors) => rounded(&mut generator, n, 11, |it| f16::from_f32(it).to_f32()),
        _ => candle_core::bail!("noise is drawn as f32, bf16 or f16, not {dtype:?}"),
    };
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// Box and Muller's transform of blocks of 16 uniforms. Of a ragged end the last 16 are drawn afresh: from the draws
/// after all `n`, or, where `tail_is_next`, from those after the last whole block.
fn full_precision(generator: &mut Mt19937, n: usize, tail_is_next: bool) -> Vec<f32> {
    let uniform = |generator: &mut Mt19937| (generator.next() & 0xff_ffff) as f32 / (1 << 24) as f32;
    let drawn = if tail_is_next { n / 16 * 16 } else { n };
    let mut values: Vec<f32> = (0..drawn).map(|_| uniform(generator)).collect();
    values.resize(n, 0.0);
    let (blocks, _) = values.as_chunks_mut::<16>();
    for block in blocks {
        normal(block, |it| it);
    }
    if !n.is_multiple_of(16) {
        let tail: &mut [f32; 16] = values.last_chunk_mut().expect("there are 16 numbers or more");
        tail.fill_with(|| uniform(generator));
        normal(tail, |it| it);
    }
    values
}

/// The same of uniforms of few bits, each step of the transform rounded.
fn rounded(generator: &mut Mt19937, n: usize, n_bits: u32, round: fn(f32) -> f32) -> Vec<f32> {
    let uniform = |generator: &mut Mt19937| (generator.next() & ((1 << n_bits) - 1)) as f32 / (1_u32 << n_bits) as f32;
    let mut values: Vec<f32> = (0..n).map(|_| uniform(generator)).collect();
    let (blocks, _) = values.as_chunks_mut::<16>();
    for block in blocks {
        normal(block, round);
    }
    if !n.is_multiple_of(16) {
        let tail: &mut [f32; 16] = values.last_chunk_mut().expect("there are 16 numbers or more");
        tail.fill_with(|| uniform(generator));
        normal(tail, round);
    }
    values
}

fn normal(block: &mut [f32; 16], round: fn(f32) -> f32) {
    for idx in 0..8 {
        let (u1, u2) = (round(1.0 - block[idx]), block[idx + 8]);
        let radius = round(round(-2.0 * round(u1.ln())).sqrt());
        let theta = round(2.0 * PI * u2);
        block[idx] = round(radius * round(theta.cos()));
        block[idx + 8] = round(radius * round(theta.sin()));
    }
}

/// The Mersenne Twister of 32 bits (Matsumoto and Nishimura 1998).
struct Mt19937 {
    state: [u32; Self::N],
    at: usize,
}

impl Mt19937 {
    const N: usize = 624;
    const M: usize = 397;

    /// torch keeps the low 32 bits of a seed.
    fn new(seed: u64) -> Self {
        let mut state = [0; Self::N];
        state[0] = seed as u32;
        for idx in 1..Self::N {
            let last = state[idx - 1];
            state[idx] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(idx as u32);
        }
        Self { state, at: Self::N }
    }

    fn next(&mut self) -> u32 {
        if self.at == Self::N {
            for idx in 0..Self::N {
                let mixed = (self.state[idx] & 0x8000_0000) | (self.state[(idx + 1) % Self::N] & 0x7fff_ffff);
                let twist = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[idx] = self.state[(idx + Self::M) % Self::N] ^ (mixed >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}
