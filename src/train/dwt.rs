//! The Haar wavelet transform of latents.

use candle_core::{Result, Tensor};

/// The bands of `x` [B, C, H, W] after `n_levels` levels, from coarse to fine: LL of the last level, then LH, HL and HH
/// of each level, the last one's first. Without a level, `x` itself.
///
/// A level makes of each square a b / c d of a channel: LL = (a+b+c+d)/2, LH = (a+b−c−d)/2 (low along the width, high
/// along the height), HL = (a−b+c−d)/2, HH = (a−b−c+d)/2, and the next level does the same to LL. A row or column of
/// zeros is added below or on the right of an odd side, as PyWavelets' and pytorch_wavelets' mode `zero` does, so each band of
/// [B, C, H, W] is [B, C, ⌈H/2⌉, ⌈W/2⌉]. The transform is orthonormal: the bands' squares sum to those of `x`, for odd
/// sides as well, since zeros add nothing.
///
/// # Errors
/// A tensor of another rank, or no memory.
pub fn haar(x: &Tensor, n_levels: usize) -> Result<Vec<Tensor>> {
    let mut low = x.clone();
    let mut details = Vec::with_capacity(3 * n_levels);
    for _ in 0..n_levels {
        let [next, lh, hl, hh] = level(&low)?;
        low = next;
        // From fine to coarse, and each level backwards: turned round at the end.
        details.extend([hh, hl, lh]);
    }
    details.push(low);
    details.reverse();
    Ok(details)
}

fn level(x: &Tensor) -> Result<[Tensor; 4]> {
    let (n_batch, n_channels, height, width) = x.dims4()?;
    let x = x.pad_with_zeros(2, 0, height % 2)?.pad_with_zeros(3, 0, width % 2)?;
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let squares = x.contiguous()?.reshape((n_batch * n_channels * rows, 2, columns, 2))?;
    let corner = |row: usize, column: usize| {
        squares.narrow(1, row, 1)?.narrow(3, column, 1)?.contiguous()?.reshape((n_batch, n_channels, rows, columns))
    };
    let (a, b, c, d) = (corner(0, 0)?, corner(0, 1)?, corner(1, 0)?, corner(1, 1)?);
    let (above, below) = ((&a + &b)?, (&c + &d)?);
    let (above_across, below_across) = ((a - b)?, (c - d)?);
    let half = |x: Result<Tensor>| x? * 0.5;
    Ok([
        half(&above + &below)?,
        half(above - below)?,
        half(&above_across + &below_across)?,
        half(above_across - below_across)?,
    ])
}
