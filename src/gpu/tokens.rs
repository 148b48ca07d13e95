//! What a transformer does to streams of tokens [B, N, width] beside products and attention: normalise and modulate,
//! add what a gate lets through, join and split. On CUDA the first two are one kernel forward and one or two backward.

#[cfg(feature = "cuda")]
pub(super) mod cuda;

use candle_core::{Result, Tensor};

use super::norm::layer_norm;
use super::tape;

/// The rows of `x` [B, N, width] normalised (mean 0, variance 1, `eps` under the root), times 1 + `scale`, plus `shift`,
/// the latter two [B, width].
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn modulated(x: &Tensor, eps: f64, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if cuda::fits(&[x, shift, scale]) {
        return cuda::modulated(x, eps, shift, scale);
    }
    tape::composite(&[x, shift, scale], |it| {
        let (shift, scale) = (it[1].unsqueeze(1)?, (it[2].unsqueeze(1)? + 1.0)?);
        layer_norm(&it[0], eps)?.broadcast_mul(&scale)?.broadcast_add(&shift)
    })
}

/// `x` + `gate`·`by`, of [B, N, width], and [B, width] for the gate.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn gated(x: &Tensor, gate: &Tensor, by: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if cuda::fits(&[x, gate, by]) {
        return cuda::gated(x, gate, by);
    }
    tape::composite(&[x, gate, by], |it| &it[0] + it[2].broadcast_mul(&it[1].unsqueeze(1)?)?)
}

/// `a` and `b`, one behind the other along `axis`.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn join(a: &Tensor, b: &Tensor, axis: usize) -> Result<Tensor> {
    let both = Tensor::cat(&[a, b], axis)?;
    let n_of = [a.dim(axis)?, b.dim(axis)?];
    tape::note(&[a, b], &[&both], move |grads| {
        let Some(grad) = &grads[0] else { return Ok(vec![None; 2]) };
        parts(grad, axis, &n_of).map(|it| it.into_iter().map(Some).collect())
    });
    Ok(both)
}

/// Parts of `x` along `axis`, of these sizes, which stand one behind the other.
///
/// # Errors
/// Sizes that are more than there is, or no memory.
pub fn split(x: &Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let cut = parts(x, axis, sizes)?;
    let like: Vec<Tensor> = cut.iter().map(Tensor::detach).collect();
    tape::note(&[x], &cut.iter().collect::<Vec<_>>(), move |grads| {
        let whole = grads.iter().zip(&like).map(|(grad, part)| match grad {
            Some(grad) => Ok(grad.clone()),
            None => part.zeros_like(),
        });
        Ok(vec![Some(Tensor::cat(&whole.collect::<Result<Vec<_>>>()?, axis)?)])
    });
    Ok(cut)
}

fn parts(x: &Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let mut first = 0;
    let cut = sizes.iter().map(|n| {
        let part = x.narrow(axis, first, *n)?.contiguous();
        first += n;
        part
    });
    cut.collect()
}
