//! Normalisations, computed in f32 whatever their input's type.

use candle_core::{D, DType, Result, Tensor};

/// (x − mean) / √(variance + eps) over the last dimension, without weights.
///
/// # Errors
/// No memory.
pub fn layer_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean = wide.mean_keepdim(D::Minus1)?;
    let centred = wide.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.to_dtype(x.dtype())
}

/// x / √(mean of x² + eps) over the last dimension, without weights.
///
/// # Errors
/// No memory.
pub fn rms_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let power = wide.sqr()?.mean_keepdim(D::Minus1)?;
    wide.broadcast_div(&(power + eps)?.sqrt()?)?.to_dtype(x.dtype())
}

/// The mean and 1/√(variance + eps) of each group of channels of `x` [B, C, H, W]: two tensors [B, groups, 1], f32.
/// Rows are summed in bands of `band` rows, so that no copy of the whole is made.
///
/// # Errors
/// Channels that don't divide into the groups, or no memory.
pub fn group_statistics(x: &Tensor, n_groups: usize, eps: f64, band: usize) -> Result<(Tensor, Tensor)> {
    let (n_batch, n_channels, height, width) = x.dims4()?;
    if n_channels % n_groups != 0 {
        candle_core::bail!("{n_channels} channels do not divide into {n_groups} groups");
    }
    let count = (n_channels / n_groups * height * width) as f64;
    let total = |of: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Tensor> {
        let mut total: Option<Tensor> = None;
        for first in (0..height).step_by(band.max(1)) {
            let rows = x.narrow(2, first, band.min(height - first))?;
            let rows = rows.to_dtype(DType::F32)?.reshape((n_batch, n_groups, ()))?;
            let sum = of(&rows)?;
            total = Some(match total {
                Some(total) => (total + sum)?,
                None => sum,
            });
        }
        total.ok_or_else(|| candle_core::Error::Msg("an image without rows".to_owned()).bt())
    };
    let mean = (total(&|rows| rows.sum_keepdim(2))? / count)?;
    let variance = (total(&|rows| rows.broadcast_sub(&mean)?.sqr()?.sum_keepdim(2))? / count)?;
    let scale = (variance + eps)?.sqrt()?.recip()?;
    Ok((mean, scale))
}
