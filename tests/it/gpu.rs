//! Our own operations on the CPU. `jobctl bench attention --device cuda:0` holds the ones on CUDA to the same.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use jobctl::gpu::attention::attention;

/// Standard normal numbers of [B, H, N, D], in memory of [B, N, H, D] as the models hold them.
fn heads(n_batch: usize, n_heads: usize, n: usize, width: usize) -> Tensor {
    let x = Tensor::randn(0_f32, 1.0, (n_batch, n, n_heads, width), &Device::Cpu).unwrap();
    x.transpose(1, 2).unwrap()
}

/// softmax(scale · q·kᵀ + bias) · v in f64, as it is written.
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let wide = |x: &Tensor| x.to_dtype(DType::F64)?.contiguous();
    let mut scores = (wide(q)?.matmul(&wide(&k.t()?)?)? * scale)?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(&wide(bias)?)?;
    }
    let powers = scores.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?.matmul(&wide(v)?)
}

/// ‖a − b‖ / ‖b‖.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    let b = b.to_dtype(DType::F64).unwrap();
    norm(&(a.to_dtype(DType::F64).unwrap() - &b).unwrap()) / norm(&b)
}

/// Batch, heads, queries, keys, width: ragged, more keys than queries and fewer, one of each, several blocks.
const SHAPES: [[usize; 5]; 6] = [
    [1, 1, 1, 1, 8],
    [2, 3, 77, 333, 64],
    [2, 3, 333, 77, 64],
    [1, 2, 257, 300, 128],
    [1, 5, 130, 131, 12],
    [2, 4, 1100, 1500, 16],
];

#[test]
fn attention_is_the_softmax_of_scaled_scores_times_the_values() {
    for [b, h, n, m, d] in SHAPES {
        let (q, k, v) = (heads(b, h, n, d), heads(b, h, m, d), heads(b, h, m, d));
        let scale = 1.0 / (d as f64).sqrt();
        let out = attention(&q, &k, &v, scale, None).unwrap();
        assert_eq!(out.dims(), [b, h, n, d]);
        let off = distance(&out, &plain(&q, &k, &v, scale, None).unwrap());
        assert!(off < 2e-6, "{b} {h} {n} {m} {d}: {off:e}");
    }
}

#[test]
fn a_bias_is_added_to_the_scores_whatever_axes_it_stretches_over() {
    let (b, h, n, m, d) = (2, 4, 1100, 1500, 16);
    let (q, k, v) = (heads(b, h, n, d), heads(b, h, m, d), heads(b, h, m, d));
    for dims in [(b, h, n, m), (1, h, n, m), (b, 1, 1, m), (1, 1, n, m)] {
        let bias = Tensor::randn(0_f32, 2.0, dims, &Device::Cpu).unwrap();
        let out = attention(&q, &k, &v, 0.25, Some(&bias)).unwrap();
        let off = distance(&out, &plain(&q, &k, &v, 0.25, Some(&bias)).unwrap());
        assert!(off < 2e-6, "{dims:?}: {off:e}");
    }
}

#[test]
fn a_masked_key_counts_for_nothing() {
    let (q, k, v) = (heads(1, 2, 5, 8), heads(1, 2, 4, 8), heads(1, 2, 4, 8));
    let mask = Tensor::new(&[0_f32, 0.0, 0.0, f32::MIN], &Device::Cpu).unwrap().reshape((1, 1, 1, 4)).unwrap();
    let masked = attention(&q, &k, &v, 1.0, Some(&mask)).unwrap();
    let short = |x: &Tensor| x.narrow(2, 0, 3).unwrap();
    let expected = attention(&q, &short(&k), &short(&v), 1.0, None).unwrap();
    assert!(distance(&masked, &expected) < 1e-6);
}

#[test]
fn large_scores_do_not_overflow() {
    let (q, k, v) = (heads(1, 1, 9, 8), heads(1, 1, 7, 8), heads(1, 1, 7, 8));
    let out = attention(&q, &k, &v, 1e4, None).unwrap();
    assert!(out.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|it| it.is_finite()));
}

#[test]
fn attention_hands_gradients_to_queries_keys_and_values() {
    for [b, h, n, m, d] in SHAPES {
        let scale = 1.0 / (d as f64).sqrt();
        let weight = heads(b, h, n, d);
        let vars = [heads(b, h, n, d), heads(b, h, m, d), heads(b, h, m, d)].map(|it| Var::from_tensor(&it).unwrap());
        let [q, k, v] = &vars;
        let gradients = |out: Tensor| {
            let weight = weight.to_dtype(out.dtype()).unwrap();
            let grads = (out * weight).unwrap().sum_all().unwrap().backward().unwrap();
            vars.each_ref().map(|var| grads.get(var).unwrap().clone())
        };
        let ours = gradients(attention(q, k, v, scale, None).unwrap());
        let expected = gradients(plain(q, k, v, scale, None).unwrap());
        for (name, (ours, expected)) in ["q", "k", "v"].iter().zip(ours.iter().zip(&expected)) {
            // One key has a share of 1 whatever the scores: nothing flows to queries and keys.
            if m == 1 && *name != "v" {
                assert!(ours.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
                continue;
            }
            let off = distance(ours, expected);
            assert!(off < 5e-6, "{name} of {b} {h} {n} {m} {d}: {off:e}");
        }
    }
}

/// The convolution as it is written, in f64: each number of the result and of both gradients from the ones it depends on.
fn plain_convolution(x: &Tensor, w: &Tensor, g: &Tensor, stride: usize, padding: usize) -> [Vec<f64>; 3] {
    let values =
        |it: &Tensor| -> Vec<f64> { it.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
    let (b, c, height, width) = x.dims4().unwrap();
    let (o, _, k, _) = w.dims4().unwrap();
    let (_, _, rows, columns) = g.dims4().unwrap();
    let (x, w, g) = (values(x), values(w), values(g));
    let (mut y, mut dx, mut dw) = (vec![0.0; g.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    for (image, out, row, column) in
        (0..b).flat_map(|image| (0..o).map(move |out| (image, out))).flat_map(|(image, out)| {
            (0..rows).flat_map(move |row| (0..columns).map(move |column| (image, out, row, column)))
        })
    {
        let to = ((image * o + out) * rows + row) * columns + column;
        for (channel, ky, kx) in (0..c).flat_map(|channel| (0..k * k).map(move |at| (channel, at / k, at % k))) {
            let (py, px) = ((row * stride + ky).wrapping_sub(padding), (column * stride + kx).wrapping_sub(padding));
            if py < height && px < width {
                let (from, weight) =
                    (((image * c + channel) * height + py) * width + px, ((out * c + channel) * k + ky) * k + kx);
                y[to] += x[from] * w[weight];
                dx[from] += g[to] * w[weight];
                dw[weight] += g[to] * x[from];
            }
        }
    }
    [y, dx, dw]
}

#[test]
fn a_convolution_and_its_gradients_are_what_they_are_written_as() {
    // Batch, channels, result's channels, kernel, stride, padding, height, width.
    for [b, c, o, k, stride, padding, height, width] in [
        [2, 3, 5, 3, 1, 1, 7, 9],
        [1, 9, 4, 3, 2, 1, 8, 7],
        [2, 6, 3, 3, 2, 0, 9, 9],
        [1, 5, 7, 1, 1, 0, 4, 6],
        [1, 2, 3, 3, 1, 2, 4, 5],
        [2, 4, 6, 2, 2, 0, 6, 8],
        [1, 5, 2, 5, 3, 2, 11, 6],
    ] {
        let x = Var::randn(0_f32, 1.0, (b, c, height, width), &Device::Cpu).unwrap();
        let w = Var::randn(0_f32, 1.0, (o, c, k, k), &Device::Cpu).unwrap();
        let y = jobctl::gpu::conv::conv2d(&x, &w, stride, padding).unwrap();
        let g = Tensor::randn(0_f32, 1.0, y.dims(), &Device::Cpu).unwrap();
        let found = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        let ours = [&y, found.get(&x).unwrap(), found.get(&w).unwrap()];
        let still = jobctl::gpu::conv::conv2d(&x.detach(), &w.detach(), stride, padding).unwrap();
        for (theirs, ours) in plain_convolution(&x, &w, &g, stride, padding).into_iter().zip(ours) {
            let theirs = Tensor::from_vec(theirs, ours.dims(), &Device::Cpu).unwrap();
            assert!(distance(ours, &theirs) < 2e-6, "{c} {o} {k} {stride} {padding}: {:e}", distance(ours, &theirs));
        }
        assert!(distance(&still, &y) < 2e-6);
    }
}
