//! Normalisations, computed in f32 whatever their input's type.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::kernels;

/// (x − mean) / √(variance + eps) over the last dimension, without weights.
///
/// # Errors
/// No memory.
pub fn layer_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    Rows { centred: true, eps }.forward(x)
}

/// x / √(mean of x² + eps) over the last dimension, without weights.
///
/// # Errors
/// No memory.
pub fn rms_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    Rows { centred: false, eps }.forward(x)
}

/// Both of them: one takes the mean off first.
#[derive(Clone, Copy)]
struct Rows {
    centred: bool,
    eps: f64,
}

impl Rows {
    fn forward(self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 && x.rank() > 0 {
            return x.contiguous()?.apply_op1(self);
        }
        let (y, scale) = self.parts(x)?;
        y.broadcast_mul(&scale)?.to_dtype(x.dtype())
    }

    /// What is scaled, and by how much, in f32.
    fn parts(self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = x.to_dtype(DType::F32)?;
        let x = if self.centred { x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)? } else { x };
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        Ok((x, scale))
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = at.shape().elem_count();
        let width = at.dims().last().copied().unwrap_or(1).max(1);
        let x = &x.as_slice::<f32>()?[at.start_offset()..][..n];
        let mut y = vec![0_f32; n];
        y.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(16).for_each(|(y, x)| {
            let mean = if self.centred { kernels::moments(x, 0.0).0 / width as f64 } else { 0.0 };
            let power = kernels::moments(x, mean as f32).1 / width as f64;
            kernels::normalise(x, y, mean as f32, (1.0 / (power + self.eps).sqrt()) as f32);
        });
        Ok((CpuStorage::F32(y), at.shape().clone()))
    }

    /// With y the result and s its scale: s·(g − mean of g, if centred, − y·mean of g·y).
    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, scale) = self.parts(x)?;
        let along = y.broadcast_mul(&grad.mul(y)?.mean_keepdim(D::Minus1)?)?;
        let rest = if self.centred { grad.broadcast_sub(&grad.mean_keepdim(D::Minus1)?)? } else { grad.clone() };
        Ok(Some((rest - along)?.broadcast_mul(&scale)?))
    }
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
    if x.device().is_cpu() && x.dtype() == DType::F32 && !x.track_op() {
        let moments = x.contiguous()?.apply_op1_no_bwd(&Groups { n_groups, eps })?;
        return Ok((moments.narrow(2, 0, 1)?.contiguous()?, moments.narrow(2, 1, 1)?.contiguous()?));
    }
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

/// [B, C, H, W] to [B, groups, 2]: the mean and 1/√(variance + eps) of each group.
struct Groups {
    n_groups: usize,
    eps: f64,
}

impl CustomOp1 for Groups {
    fn name(&self) -> &'static str {
        "group-statistics"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at: &Layout) -> Result<(CpuStorage, Shape)> {
        /// How many numbers one thread takes at a time.
        const PART: usize = 1 << 16;
        let (n_batch, _, _, _) = at.shape().dims4()?;
        let n = at.shape().elem_count();
        let x = &x.as_slice::<f32>()?[at.start_offset()..][..n];
        let n_own = (n / (n_batch * self.n_groups)).max(1);
        let mut moments = Vec::with_capacity(2 * n_batch * self.n_groups);
        for group in x.chunks(n_own) {
            // The parts' sums are added in their order: no number depends on how many threads there are.
            let sum = |of: &(dyn Fn(&[f32]) -> f64 + Sync)| -> f64 {
                let parts: Vec<f64> = group.par_chunks(PART).map(of).collect();
                parts.into_iter().sum::<f64>() / group.len() as f64
            };
            let mean = sum(&|part| kernels::moments(part, 0.0).0) as f32;
            let variance = sum(&|part| kernels::moments(part, mean).1);
            moments.extend([mean, (1.0 / (variance + self.eps).sqrt()) as f32]);
        }
        Ok((CpuStorage::F32(moments), (n_batch, self.n_groups, 2).into()))
    }
}
