//! The product with a layer's weights, and its bias.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor};

use super::product::{Lanes, multiply};
use super::tape;

/// x·wᵀ + bias of `x` [.., K], `w` [N, K] and, if there is one, `bias` [N]: [.., N]. One operation, whatever the shape of
/// `x`: each node of the graph would cost the backward pass a sum.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let is_ours = match x.device() {
        candle_core::Device::Cpu => x.dtype() == DType::F32,
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => {
            super::tokens::cuda::fits(&[x, w]) && bias.is_none_or(|it| it.dtype() == x.dtype())
        }
        _ => false,
    };
    if is_ours && w.is_contiguous() && x.rank() > 0 && x.elem_count() > 0 {
        let x = tape::contiguous(x)?;
        let wanted = [Some(&x), Some(w), bias].map(|it| it.is_some_and(tape::is_wanted));
        return match bias {
            Some(bias) => tape::op3(&x, w, &tape::contiguous(bias)?, Linear { wanted }),
            None => tape::op2(&x, w, Linear { wanted }),
        };
    }
    let mut dims = x.dims().to_vec();
    let y = flat(x)?.matmul(&w.t()?)?;
    if let Some(last) = dims.last_mut() {
        *last = w.dim(0)?;
    }
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(dims)
}

/// [.., K] as [M, K].
fn flat(x: &Tensor) -> Result<Tensor> {
    let k = x.dims().last().copied().unwrap_or(1);
    x.reshape(((), k))
}

struct Linear {
    /// Whether gradients of x, w and the bias are wanted.
    wanted: [bool; 3],
}

/// The sizes of a product, [M, K] and [N, K], and the shape of its result.
fn sizes(at_x: &Layout, at_w: &Layout) -> Result<([usize; 3], Shape)> {
    let (n, k) = at_w.shape().dims2()?;
    let mut dims = at_x.dims().to_vec();
    match dims.last_mut() {
        Some(last) if *last == k => *last = n,
        _ => candle_core::bail!("{:?} do not fit a layer of {k} numbers", at_x.dims()),
    }
    Ok(([at_x.shape().elem_count() / k.max(1), n, k], dims.into()))
}

impl Linear {
    fn on_cpu(
        [x, w]: [(&CpuStorage, &Layout); 2],
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let ([m, n, k], shape) = sizes(x.1, w.1)?;
        let x = &x.0.as_slice::<f32>()?[x.1.start_offset()..][..m * k];
        let w = &w.0.as_slice::<f32>()?[w.1.start_offset()..][..n * k];
        let mut y = vec![0_f32; m * n];
        multiply(Lanes::contiguous(x, k), Lanes::contiguous(w, k), &mut y, false);
        if let Some((bias, at)) = bias {
            let bias = &bias.as_slice::<f32>()?[at.start_offset()..][..check_bias(at, n)?];
            y.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
        }
        Ok((CpuStorage::F32(y), shape))
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(
        [x, w]: [(&candle_core::CudaStorage, &Layout); 2],
        bias: Option<(&candle_core::CudaStorage, &Layout)>,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;

        let ([m, n, k], shape) = sizes(x.1, w.1)?;
        let flat = Layout::contiguous_with_offset((m, k), x.1.start_offset());
        let mut y = x.0.matmul(w.0, (1, m, n, k), &flat, &w.1.transpose(0, 1)?)?;
        if let Some((bias, at)) = bias {
            check_bias(at, n)?;
            super::tokens::cuda::add_bias(&mut y, bias, at)?;
        }
        Ok((y, shape))
    }

    /// The gradients of x and of w, where they are wanted.
    fn back(&self, x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (x, w, grad) = (x.detach(), w.detach(), flat(grad)?);
        let of_x = self.wanted[0].then(|| grad.matmul(&w)?.reshape(x.shape())).transpose()?;
        let of_w = self.wanted[1].then(|| grad.t()?.matmul(&flat(&x)?)).transpose()?;
        Ok([of_x, of_w])
    }
}

fn check_bias(at: &Layout, n: usize) -> Result<usize> {
    if at.dims() != [n] {
        candle_core::bail!("a bias of {:?} for rows of {n}", at.dims());
    }
    Ok(n)
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at_x: &Layout, w: &CpuStorage, at_w: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::on_cpu([(x, at_x), (w, at_w)], None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        at_x: &Layout,
        w: &candle_core::CudaStorage,
        at_w: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        Self::on_cuda([(x, at_x), (w, at_w)], None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_x, of_w] = self.back(x, w, &grad.contiguous()?)?;
        Ok((of_x, of_w))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear-biased"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        at_x: &Layout,
        w: &CpuStorage,
        at_w: &Layout,
        bias: &CpuStorage,
        at_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::on_cpu([(x, at_x), (w, at_w)], Some((bias, at_bias)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        at_x: &Layout,
        w: &candle_core::CudaStorage,
        at_w: &Layout,
        bias: &candle_core::CudaStorage,
        at_bias: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        Self::on_cuda([(x, at_x), (w, at_w)], Some((bias, at_bias)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [of_x, of_w] = self.back(x, w, &grad)?;
        let of_bias = self.wanted[2].then(|| column_sums(&flat(&grad)?)).transpose()?;
        Ok((of_x, of_w, of_bias))
    }
}

/// The sums of `x` [M, N] over its rows: [N], of its type, summed in f32.
fn column_sums(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::tokens::cuda::fits(&[x]) {
        return super::tokens::cuda::column_sums(x);
    }
    x.sum(0)
}
