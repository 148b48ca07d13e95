//! Haralick's texture features, as scikit-image's `graycoprops` defines them.

use super::count::{LEVELS, OFFSETS, Sink};

/// Means over the 16 matrices. The authors' script rounds each patch's mean to four decimals; these are not rounded.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Texture {
    /// Σ p (i − j)².
    pub contrast: f64,
    /// Σ p |i − j|.
    pub dissimilarity: f64,
    /// Σ p / (1 + (i − j)²).
    pub homogeneity: f64,
    /// √Σ p².
    pub energy: f64,
    /// Σ p (i − μi)(j − μj) / σi σj; 1 where σi or σj is 0.
    pub correlation: f64,
    /// Σ p².
    pub asm: f64,
}

impl Texture {
    /// Each feature times `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            contrast: self.contrast * factor,
            dissimilarity: self.dissimilarity * factor,
            homogeneity: self.homogeneity * factor,
            energy: self.energy * factor,
            correlation: self.correlation * factor,
            asm: self.asm * factor,
        }
    }

    /// Feature by feature.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            contrast: self.contrast + other.contrast,
            dissimilarity: self.dissimilarity + other.dissimilarity,
            homogeneity: self.homogeneity + other.homogeneity,
            energy: self.energy + other.energy,
            correlation: self.correlation + other.correlation,
            asm: self.asm + other.asm,
        }
    }
}

/// Whole-number sums over one matrix, from which its features follow.
#[derive(Clone, Copy, Debug)]
struct MatrixSums {
    /// Pairs by the difference of their levels, without its sign.
    by_difference: [u32; LEVELS],
    squares: u64,
    i: u64,
    j: u64,
    ii: u64,
    jj: u64,
    ij: u64,
}

/// Sums over the matrices of one patch.
pub struct Sums([MatrixSums; OFFSETS.len()]);

impl Default for Sums {
    fn default() -> Self {
        let none = MatrixSums { by_difference: [0; LEVELS], squares: 0, i: 0, j: 0, ii: 0, jj: 0, ij: 0 };
        Self([none; OFFSETS.len()])
    }
}

impl Sink for Sums {
    #[inline(always)]
    fn cells(&mut self, i: u8, j: u8, counts: &[u16; 16]) {
        let difference = usize::from(i.abs_diff(j));
        let (i, j) = (u64::from(i), u64::from(j));
        for (sums, &count) in self.0.iter_mut().zip(counts) {
            sums.by_difference[difference] += u32::from(count);
            let count = u64::from(count);
            sums.squares += count * count;
            sums.i += i * count;
            sums.j += j * count;
            sums.ii += i * i * count;
            sums.jj += j * j * count;
            sums.ij += i * j * count;
        }
    }
}

impl Sums {
    /// The features, mean over the 16 matrices.
    pub fn features(&self) -> Texture {
        let total = OFFSETS.iter().zip(&self.0).fold(Texture::default(), |total, (offset, sums)| {
            total.plus(&sums.features(offset.n_pairs() as u64).scaled(f64::from(offset.weight)))
        });
        total.scaled(1.0 / 16.0)
    }
}

impl MatrixSums {
    fn features(&self, n: u64) -> Texture {
        let total = n as f64;
        let mean = |weight: fn(f64) -> f64| {
            let terms = self.by_difference.iter().enumerate().map(|(d, &count)| weight(d as f64) * f64::from(count));
            terms.sum::<f64>() / total
        };
        let asm = self.squares as f64 / (total * total);
        // n² times variances and covariance, in whole numbers: nothing cancels.
        let (var_i, var_j) = (n * self.ii - self.i * self.i, n * self.jj - self.j * self.j);
        let covariance = (n * self.ij) as i64 - (self.i * self.j) as i64;
        let correlation = if var_i == 0 || var_j == 0 {
            1.0
        } else {
            covariance as f64 / ((var_i as f64).sqrt() * (var_j as f64).sqrt())
        };
        Texture {
            contrast: mean(|d| d * d),
            dissimilarity: mean(|d| d),
            homogeneity: mean(|d| 1.0 / (1.0 + d * d)),
            energy: asm.sqrt(),
            correlation,
            asm,
        }
    }
}
