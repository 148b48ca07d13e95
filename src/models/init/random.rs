//! Which numbers a random tensor has, by its name: such that many steps stay finite and pictures are not flat.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::job::Hash;

/// Numbers that one stream draws; each tensor is cut into pieces of so many.
const PIECE: usize = 1 << 16;

/// A tensor to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    rule: Rule,
}

/// What a name alone does not tell.
#[derive(Clone, Copy, Default)]
pub struct Hints {
    /// The positional table's side, and the side that its coordinates are scaled to.
    pub table: Option<(usize, usize)>,
    /// The width of a head whose scores are not divided by its root.
    pub head: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Rule {
    /// Normal, with this mean and standard deviation.
    Normal { mean: f32, sd: f32 },
    /// The positional table of diffusers' PatchEmbed (`get_2d_sincos_pos_embed`).
    Table { side: usize, base: usize },
}

impl Tensor {
    pub fn new(name: String, shape: Vec<usize>, hints: Hints) -> Self {
        let rule = rule(&name, &shape, hints);
        Self { name, shape, rule }
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its numbers, written as `store` writes a piece of them into as many times `size` bytes.
    pub fn bytes(&self, seed: u64, component: &str, size: usize, store: fn(&[f32], &mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0; self.len() * size];
        let width = self.shape.last().copied().unwrap_or(1);
        bytes.par_chunks_mut(PIECE * size).enumerate().for_each(|(idx, piece)| {
            let n = piece.len() / size;
            let numbers: Vec<f32> = match self.rule {
                Rule::Normal { mean, sd } => {
                    let stream = Hash::of_value(&(seed, component, &self.name, idx)).first_8_bytes();
                    let mut random = Pcg64::seed_from_u64(stream.cast_unsigned());
                    (0..n).map(|_| mean + sd * normal(&mut random)).collect()
                }
                Rule::Table { side, base } => (idx * PIECE..idx * PIECE + n)
                    .map(|at| position(at / width, at % width, width, side, base))
                    .collect(),
            };
            store(&numbers, piece);
        });
        bytes
    }
}

fn rule(name: &str, shape: &[usize], hints: Hints) -> Rule {
    let normal = |mean, sd| Rule::Normal { mean, sd };
    let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
    if let (Some((side, base)), "pos_embed.pos_embed") = (hints.table, name) {
        return Rule::Table { side, base };
    }
    if let Some(layer) = name.strip_suffix(".bias") {
        // With small shifts and gates a block would hardly move its stream.
        let is_modulation = layer.contains("norm") && layer.ends_with(".linear");
        return normal(0.0, if is_modulation { 0.3 } else { 0.02 });
    }
    if shape.len() == 1 {
        return normal(1.0, 0.1);
    }
    match (name, hints.head) {
        (_, Some(head)) if name.ends_with("SelfAttention.q.weight") => normal(0.0, (fan_in * head as f32).powf(-0.5)),
        ("shared.weight", _) => normal(0.0, 1.0),
        // Keeps most of a picture inside 0 to 255.
        ("decoder.conv_out.weight", _) => normal(0.0, 0.6 * fan_in.powf(-0.5)),
        _ if name.ends_with("relative_attention_bias.weight") => normal(0.0, 0.5),
        _ if name.ends_with("token_embedding.weight") || name.ends_with("position_embedding.weight") => {
            normal(0.0, 0.4)
        }
        _ => normal(0.0, fan_in.powf(-0.5)),
    }
}

/// The sum of eight even draws of 16 bits, centred, with the deviation 1: close to normal, cut off at 4.9, and the same
/// bits on every machine, which logarithms and cosines would not give.
fn normal(random: &mut Pcg64) -> f32 {
    const N_LANES: u32 = 8;
    let lanes = |draw: u64| (draw & 0xffff) + (draw >> 16 & 0xffff) + (draw >> 32 & 0xffff) + (draw >> 48);
    let sum = lanes(random.next_u64()) + lanes(random.next_u64());
    // Twice the sum less twice its mean, 8·65535/2.
    let centred = 2 * sum.cast_signed() - i64::from(N_LANES) * 65535;
    centred as f32 / (2.0 * 65536.0 * (N_LANES as f32 / 12.0).sqrt())
}

/// The whole positional table.
pub fn positions(side: usize, base: usize, width: usize) -> Vec<f32> {
    let number = |at: usize| position(at / width, at % width, width, side, base);
    (0..side * side * width).map(number).collect()
}

/// A number of the positional table: its first half encodes the column, its second the row, each as sines and cosines
/// of the coordinate k·base/side at the frequencies 10000^(−j/(width/4)).
fn position(patch: usize, channel: usize, width: usize, side: usize, base: usize) -> f32 {
    let (half, quarter) = (width / 2, width / 4);
    let coordinate = if channel < half { patch % side } else { patch / side };
    // diffusers scales coordinates in f32.
    let coordinate = f64::from(coordinate as f32 / (side as f32 / base as f32));
    let at = channel % half;
    let angle = coordinate * 10000_f64.powf(-((at % quarter) as f64) / quarter as f64);
    (if at < quarter { angle.sin() } else { angle.cos() }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, seed: u64, n: usize) -> Vec<f32> {
        let tensor = Tensor::new(name.to_owned(), vec![n, 4], Hints::default());
        let store = |from: &[f32], to: &mut [u8]| {
            for (from, to) in from.iter().zip(to.as_chunks_mut().0) {
                *to = from.to_le_bytes();
            }
        };
        let bytes = tensor.bytes(seed, "vae", 4, store);
        bytes.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect()
    }

    #[test]
    fn a_matrix_has_the_deviation_of_its_fan_in() {
        let values = numbers("a.weight", 1, 50_000);
        let n = values.len() as f64;
        let mean = values.iter().map(|it| f64::from(*it)).sum::<f64>() / n;
        let moment = |power: i32| values.iter().map(|it| (f64::from(*it) - mean).powi(power)).sum::<f64>() / n;
        assert!(mean.abs() < 0.005 && (moment(2).sqrt() - 0.5).abs() < 0.003, "{mean} {}", moment(2).sqrt());
        // Of eight even draws: 3 − 1.2/8.
        let kurtosis = moment(4) / moment(2).powi(2);
        assert!((kurtosis - 2.85).abs() < 0.05, "{kurtosis}");
    }

    #[test]
    fn numbers_follow_from_seed_and_name() {
        assert_eq!(numbers("a.weight", 1, 9), numbers("a.weight", 1, 9));
        assert_ne!(numbers("a.weight", 1, 9), numbers("a.weight", 2, 9));
        assert_ne!(numbers("a.weight", 1, 9), numbers("b.weight", 1, 9));
    }
}
