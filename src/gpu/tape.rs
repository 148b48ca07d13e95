//! A tape of operations, and the backward pass along it.
//!
//! candle's own backward pass adds every gradient to zeros, a kernel and two readings each: a fifth of a training step at
//! full size. While [`record`] does its work, our operations note themselves here instead of in candle's graph, and
//! [`Tape::backward`] hands each gradient on as it is, adding only where a tensor was used twice. What is recorded must be
//! made of our operations alone, of this module's [`composite`]s and [`contiguous`] among them: candle's own note nothing
//! here, and gradients end at them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, TensorId, Var};

/// The gradients of a node's inputs, given those of its outputs: none where nothing depends on an output, or where an
/// input wants none.
type Back = Box<dyn FnOnce(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>>>;

struct Node {
    /// None where no gradient is wanted.
    inputs: Vec<Option<TensorId>>,
    outputs: Vec<TensorId>,
    back: Back,
}

/// What was done, in its order.
#[derive(Default)]
pub struct Tape {
    nodes: Vec<Node>,
    /// The roots, and what came of them.
    reached: HashSet<TensorId>,
    /// Variables, and what candle's graph made of them, as they were used.
    leaves: HashMap<TensorId, Tensor>,
}

thread_local! {
    static TAPE: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Does `work` and records what it does to `roots`, to variables, and to what candle's graph made of variables.
///
/// # Errors
/// Those of `work`.
pub fn record<T>(roots: &[&Tensor], work: impl FnOnce() -> Result<T>) -> Result<(T, Tape)> {
    let fresh = Tape { reached: roots.iter().map(|it| it.id()).collect(), ..Tape::default() };
    let before = TAPE.replace(Some(fresh));
    let done = work();
    let tape = TAPE.replace(before).unwrap_or_default();
    Ok((done?, tape))
}

fn is_recording() -> bool {
    TAPE.with_borrow(Option::is_some)
}

/// Whether a gradient of `x` is wanted, by a tape or by candle's graph.
pub(super) fn is_wanted(x: &Tensor) -> bool {
    x.track_op() || TAPE.with_borrow(|tape| tape.as_ref().is_some_and(|it| it.reached.contains(&x.id())))
}

/// Notes an operation, if anything is recorded and a gradient of its inputs is wanted.
pub(super) fn note(
    inputs: &[&Tensor],
    outputs: &[&Tensor],
    back: impl FnOnce(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + 'static,
) {
    let wanted: Vec<bool> = inputs.iter().map(|it| is_wanted(it)).collect();
    TAPE.with_borrow_mut(|tape| {
        let Some(tape) = tape.as_mut().filter(|_| wanted.contains(&true)) else { return };
        for (input, _) in inputs.iter().zip(&wanted).filter(|it| *it.1) {
            if !tape.reached.contains(&input.id()) {
                tape.leaves.insert(input.id(), (*input).clone());
            }
        }
        tape.reached.extend(outputs.iter().map(|it| it.id()));
        tape.nodes.push(Node {
            inputs: inputs.iter().zip(&wanted).map(|(it, wanted)| wanted.then(|| it.id())).collect(),
            outputs: outputs.iter().map(|it| it.id()).collect(),
            back: Box::new(back),
        });
    });
}

/// `x` with its numbers one after the other.
pub(super) fn contiguous(x: &Tensor) -> Result<Tensor> {
    let y = x.contiguous()?;
    if !x.is_contiguous() {
        note(&[x], &[&y], |grads| Ok(grads.to_vec()));
    }
    Ok(y)
}

/// An operation on one tensor.
pub(super) fn op1(a: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_recording() {
        return a.apply_op1(op);
    }
    let y = a.apply_op1_no_bwd(&op)?;
    let (own, out) = (a.detach(), y.clone());
    note(&[a], &[&y], move |grads| match &grads[0] {
        Some(grad) => Ok(vec![op.bwd(&own, &out, grad)?]),
        None => Ok(vec![None]),
    });
    Ok(y)
}

/// An operation on two tensors.
pub(super) fn op2(a: &Tensor, b: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_recording() {
        return a.apply_op2(b, op);
    }
    let y = a.apply_op2_no_bwd(b, &op)?;
    let (own, out) = ([a, b].map(Tensor::detach), y.clone());
    note(&[a, b], &[&y], move |grads| {
        let Some(grad) = &grads[0] else { return Ok(vec![None; 2]) };
        let (of_a, of_b) = op.bwd(&own[0], &own[1], &out, grad)?;
        Ok(vec![of_a, of_b])
    });
    Ok(y)
}

/// An operation on three tensors.
pub(super) fn op3(a: &Tensor, b: &Tensor, c: &Tensor, op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_recording() {
        return a.apply_op3(b, c, op);
    }
    let y = a.apply_op3_no_bwd(b, c, &op)?;
    let (own, out) = ([a, b, c].map(Tensor::detach), y.clone());
    note(&[a, b, c], &[&y], move |grads| {
        let Some(grad) = &grads[0] else { return Ok(vec![None; 3]) };
        let (of_a, of_b, of_c) = op.bwd(&own[0], &own[1], &own[2], &out, grad)?;
        Ok(vec![of_a, of_b, of_c])
    });
    Ok(y)
}

/// What `work` makes of `inputs` with candle's own operations: one node, whose backward pass is candle's.
///
/// # Errors
/// Those of `work`.
pub fn composite(inputs: &[&Tensor], work: impl FnOnce(&[Tensor]) -> Result<Tensor>) -> Result<Tensor> {
    if !is_recording() || !inputs.iter().any(|it| is_wanted(it)) {
        return work(&inputs.iter().map(|it| (*it).clone()).collect::<Vec<_>>());
    }
    let vars = inputs.iter().map(|it| is_wanted(it).then(|| Var::from_tensor(&it.detach())).transpose());
    let vars = vars.collect::<Result<Vec<Option<Var>>>>()?;
    let own: Vec<Tensor> = vars
        .iter()
        .zip(inputs)
        .map(|(var, it)| var.as_ref().map_or(it.detach(), |it| it.as_tensor().clone()))
        .collect();
    let tape = TAPE.take();
    let made = work(&own);
    TAPE.set(tape);
    let made = made?;
    let y = made.detach();
    note(inputs, &[&y], move |grads| {
        let Some(grad) = &grads[0] else { return Ok(vec![None; vars.len()]) };
        let mut found = made.apply_op2(grad, Seed)?.backward()?;
        Ok(vars.iter().map(|it| it.as_ref().and_then(|it| found.remove(it)).map(|it| it.detach())).collect())
    });
    Ok(y)
}

/// Gradients of roots and leaves.
pub struct Found {
    gradients: HashMap<TensorId, Tensor>,
    leaves: HashMap<TensorId, Tensor>,
}

impl Found {
    /// That of a root or of a variable.
    pub fn remove(&mut self, x: &Tensor) -> Option<Tensor> {
        self.gradients.remove(&x.id())
    }

    /// A scalar whose backward pass through candle's graph goes on from the leaves that are no variables; none if there are
    /// none.
    ///
    /// # Errors
    /// No memory.
    pub fn rest(&mut self) -> Result<Option<Tensor>> {
        let leaves: Vec<&Tensor> = self.leaves.values().filter(|it| !it.is_variable()).collect();
        let ends: Vec<(&Tensor, Tensor)> =
            leaves.into_iter().filter_map(|it| Some((it, self.gradients.remove(&it.id())?))).collect();
        seeded(&ends.iter().map(|(leaf, gradient)| (*leaf, gradient)).collect::<Vec<_>>())
    }
}

impl Tape {
    /// The gradients of all roots and leaves, given those of some outputs. What a node kept is let go as it is passed.
    ///
    /// # Errors
    /// No memory.
    pub fn backward(mut self, outputs: &[(&Tensor, &Tensor)]) -> Result<Found> {
        let mut gradients = HashMap::new();
        for (output, gradient) in outputs {
            add(&mut gradients, output.id(), (*gradient).clone())?;
        }
        while let Some(Node { inputs, outputs, back }) = self.nodes.pop() {
            let of_outputs: Vec<Option<Tensor>> = outputs.iter().map(|it| gradients.remove(it)).collect();
            if of_outputs.iter().all(Option::is_none) {
                continue;
            }
            for (input, gradient) in inputs.into_iter().zip(back(&of_outputs)?) {
                if let (Some(input), Some(gradient)) = (input, gradient) {
                    add(&mut gradients, input, gradient)?;
                }
            }
        }
        Ok(Found { gradients, leaves: self.leaves })
    }
}

fn add(to: &mut HashMap<TensorId, Tensor>, id: TensorId, more: Tensor) -> Result<()> {
    let sum = match to.remove(&id) {
        None => more,
        #[cfg(feature = "cuda")]
        Some(sum) if super::tokens::cuda::fits(&[&sum, &more]) => super::tokens::cuda::sum(&sum, &more)?,
        Some(sum) => (sum + more)?,
    };
    to.insert(id, sum);
    Ok(())
}

/// A scalar whose backward pass gives each of these tensors this gradient. Its own value is 0: nothing is computed for it.
///
/// # Errors
/// No memory.
pub fn seeded(outputs: &[(&Tensor, &Tensor)]) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for (output, gradient) in outputs {
        let one = output.apply_op2(gradient, Seed)?;
        sum = Some(match sum {
            None => one,
            Some(sum) => (sum + one)?,
        });
    }
    Ok(sum)
}

/// Of an output and its gradient: Σ output·gradient, as far as the backward pass can tell.
struct Seed;

impl CustomOp2 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        output: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::{BackendDevice, BackendStorage};

        let shape = Shape::from(());
        Ok((output.device().zeros_impl(&shape, candle_core::DType::F32)?, shape))
    }

    fn bwd(&self, _: &Tensor, gradient: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.clone()), None))
    }
}
