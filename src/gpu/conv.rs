//! Convolution of images.

use candle_core::{Result, Tensor};

/// Convolves `x` [B, C, H, W] with `weight` [O, C, K, K], the same stride and padding on both axes.
///
/// # Errors
/// Shapes that don't fit, or no memory.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    x.conv2d(weight, padding, stride, 1, 1)
}
