//! Attention as graphs of cuDNN's operations, in the shape that its fused engines recognise: the flash attention of
//! Dao et al. 2022 (arXiv 2205.14135) and its backward pass.

use candle_core::Result;

use super::cudnn::{DataType, Graph, Handle, Id, Layout4, Place, Plan, Pointwise, Reduce};

/// What a plan is made for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Shape {
    /// Queries, keys and values.
    pub(super) q: Layout4,
    pub(super) k: Layout4,
    pub(super) v: Layout4,
    pub(super) dtype: DataType,
    /// Whether gradients are laid out as [B, N, H, D], as the result is, or packed as [B, H, N, D].
    pub(super) inside: bool,
}

impl Shape {
    /// The result, laid out so that joining the heads costs nothing.
    pub(super) fn out(&self) -> Layout4 {
        let [b, h, n, _] = self.q.dims;
        Layout4::heads_inside([b, h, n, self.v.dims[3]])
    }

    /// One f32 for each query.
    pub(super) fn rows(&self) -> Layout4 {
        let [b, h, n, _] = self.q.dims;
        Layout4::packed([b, h, n, 1])
    }

    /// How the gradient of a tensor of these dimensions is laid out.
    pub(super) fn gradient(&self, dims: [i64; 4]) -> Layout4 {
        if self.inside { Layout4::heads_inside(dims) } else { Layout4::packed(dims) }
    }

    fn scores(&self) -> [i64; 4] {
        let [b, h, n, _] = self.q.dims;
        [b, h, n, self.k.dims[2]]
    }
}

const F32: DataType = DataType::CUDNN_DATA_FLOAT;

/// scale · q·kᵀ.
fn scores(graph: &mut Graph, shape: &Shape, q: Id, k_t: Id, scale: Id) -> Result<Id> {
    let scores = graph.between(shape.scores())?;
    graph.matmul(q, k_t, scores)?;
    graph.pointwise(Pointwise::CUDNN_POINTWISE_MUL, scores, Some(scale))
}

/// softmax(scale · q·kᵀ) · v and, where `is_kept`, the logarithm of each row's sum of exponentials [B, H, N, 1], f32.
///
/// Addresses: q, k, v, scale, result, and the logarithms where they are kept.
pub(super) fn forward(handle: &Handle, shape: &Shape, is_kept: bool) -> Result<Plan> {
    let mut graph = Graph::default();
    let q = graph.tensor(shape.q, shape.dtype, Place::Memory)?;
    let k_t = graph.tensor(shape.k.transposed(), shape.dtype, Place::Memory)?;
    let v = graph.tensor(shape.v, shape.dtype, Place::Memory)?;
    let scale = graph.number()?;
    let out = graph.tensor(shape.out(), shape.dtype, Place::Memory)?;
    let kept = graph.tensor(shape.rows(), F32, if is_kept { Place::Memory } else { Place::Virtual })?;

    let scores = scores(&mut graph, shape, q, k_t, scale)?;
    let top = graph.reduce_rows(Reduce::CUDNN_REDUCE_TENSOR_MAX, scores)?;
    let below = graph.pointwise(Pointwise::CUDNN_POINTWISE_SUB, scores, Some(top))?;
    let powers = graph.pointwise(Pointwise::CUDNN_POINTWISE_EXP, below, None)?;
    let sum = graph.reduce_rows(Reduce::CUDNN_REDUCE_TENSOR_ADD, powers)?;
    let log = graph.pointwise(Pointwise::CUDNN_POINTWISE_LOG, sum, None)?;
    graph.pointwise_to(Pointwise::CUDNN_POINTWISE_ADD, top, Some(log), kept)?;
    // The engines want the second product's left side in the type of the values.
    let shares = graph.tensor(Layout4::packed(shape.scores()), shape.dtype, Place::Virtual)?;
    graph.pointwise_to(Pointwise::CUDNN_POINTWISE_DIV, powers, Some(sum), shares)?;
    graph.matmul(shares, v, out)?;

    let mut io = vec![q, k_t, v, scale, out];
    io.extend(is_kept.then_some(kept));
    graph.plan(handle, &io)
}

/// The gradients of [`forward`].
///
/// Addresses: q, k, v, scale, one (the number 1), result, its gradient (laid out as the result), the kept logarithms,
/// the gradients of q, k and v (see [`Shape::gradient`]), and two f32 buffers that the plan uses: a number for
/// each query, and q's gradient, packed.
pub(super) fn backward(handle: &Handle, shape: &Shape) -> Result<Plan> {
    let mut graph = Graph::default();
    let dtype = shape.dtype;
    let memory = |graph: &mut Graph, layout| graph.tensor(layout, dtype, Place::Memory);
    let q = memory(&mut graph, shape.q)?;
    let k_t = memory(&mut graph, shape.k.transposed())?;
    let v_t = memory(&mut graph, shape.v.transposed())?;
    let (scale, one) = (graph.number()?, graph.number()?);
    let out = memory(&mut graph, shape.out())?;
    let d_out = memory(&mut graph, shape.out())?;
    let kept = graph.tensor(shape.rows(), F32, Place::Memory)?;
    let d_q = memory(&mut graph, shape.gradient(shape.q.dims))?;
    let d_k = memory(&mut graph, shape.gradient(shape.k.dims))?;
    let d_v = memory(&mut graph, shape.gradient(shape.v.dims))?;
    let row_sums = graph.tensor(shape.rows(), F32, Place::Memory)?;
    let d_q_sum = graph.tensor(Layout4::packed(shape.q.dims), F32, Place::Memory)?;

    // What each row's gradients of the shares have in common: Σ dO·O.
    let products = graph.pointwise(Pointwise::CUDNN_POINTWISE_MUL, d_out, Some(out))?;
    let sums = graph.reduce_rows(Reduce::CUDNN_REDUCE_TENSOR_ADD, products)?;
    graph.pointwise_to(Pointwise::CUDNN_POINTWISE_MUL, sums, Some(one), row_sums)?;

    let scores = scores(&mut graph, shape, q, k_t, scale)?;
    let below = graph.pointwise(Pointwise::CUDNN_POINTWISE_SUB, scores, Some(kept))?;
    let shares = graph.pointwise(Pointwise::CUDNN_POINTWISE_EXP, below, None)?;
    let shares_t = graph.transpose(shares, dtype)?;
    graph.matmul(shares_t, d_out, d_v)?;

    let d_shares = graph.between(shape.scores())?;
    graph.matmul(d_out, v_t, d_shares)?;
    let centred = graph.pointwise(Pointwise::CUDNN_POINTWISE_SUB, d_shares, Some(row_sums))?;
    let d_scores = graph.pointwise(Pointwise::CUDNN_POINTWISE_MUL, centred, Some(shares))?;
    let d_scores = graph.pointwise(Pointwise::CUDNN_POINTWISE_MUL, d_scores, Some(scale))?;
    let d_scores_t = graph.transpose(d_scores, dtype)?;
    graph.matmul(d_scores_t, q, d_k)?;

    let k = graph.transpose(k_t, dtype)?;
    graph.matmul(d_scores, k, d_q_sum)?;
    graph.pointwise_to(Pointwise::CUDNN_POINTWISE_IDENTITY, d_q_sum, None, d_q)?;

    let io = [q, k_t, v_t, scale, one, out, d_out, kept, d_q, d_k, d_v, row_sums, d_q_sum];
    graph.plan(handle, &io)
}
