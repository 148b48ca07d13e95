//! Our kernels on CUDA against the CPU's operations: forward, and every gradient.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use jobctl::gpu::attention::{multi_head, recording, replaying};
use jobctl::gpu::linear::linear;
use jobctl::gpu::pointwise::{SigmoidGate, square_sums};
use jobctl::gpu::tokens::{gated, modulated};
use jobctl::models::sd3::{Config, Sd3};
use jobctl::models::weights::Weights;
use jobctl::train::adamw::Update;
use jobctl::train::objective::Objective;
use jobctl::train::optim::{AdamW, State, global_norm};
use jobctl::train::parameters::{Gradients, Parameters};
use jobctl::train::transformer::{Batch, FIXED, FlowMatching, Recompute};
use jobctl::train::wlf::{Loss, Space, Target};

use super::distance;

fn on_cpu(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap().to_device(&Device::Cpu).unwrap()
}

/// The result of `work` and the gradients of all its inputs, computed in `dtype` on `device`, for given numbers.
fn run(
    inputs: &[Tensor],
    weight: &Tensor,
    device: &Device,
    dtype: DType,
    work: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Vec<Tensor> {
    let there = |x: &Tensor| x.to_device(device).unwrap().to_dtype(dtype).unwrap();
    let vars: Vec<Var> = inputs.iter().map(|it| Var::from_tensor(&there(it)).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|it| it.as_tensor().clone()).collect();
    let out = work(&tensors).unwrap();
    let found = (&out * there(weight)).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = vars.iter().map(|it| on_cpu(found.get(it).unwrap()));
    std::iter::once(on_cpu(&out)).chain(gradients).collect()
}

fn assert_alike(name: &str, inputs: &[Tensor], out: &[usize], work: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    let cuda = Device::new_cuda(0).unwrap();
    let weight = Tensor::randn(0_f32, 1.0, out, &Device::Cpu).unwrap();
    // What bf16 holds of the numbers, so that only the arithmetic differs.
    let rounded = |x: &Tensor| x.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    let inputs: Vec<Tensor> = inputs.iter().map(rounded).collect();
    let weight = rounded(&weight);
    let wanted = run(&inputs, &weight, &Device::Cpu, DType::F32, work);
    for (dtype, limit) in [(DType::F32, 1e-5), (DType::BF16, 1e-2)] {
        for (idx, (ours, wanted)) in run(&inputs, &weight, &cuda, dtype, work).iter().zip(&wanted).enumerate() {
            let off = distance(ours, wanted);
            assert!(off < limit, "{name} {dtype:?} {idx}: {off:e}");
        }
    }
}

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0_f32, 1.0, dims, &Device::Cpu).unwrap()
}

#[test]
fn tokens_are_treated_as_on_the_cpu() {
    for [b, n, width] in [[1, 1, 8], [2, 77, 96], [1, 1000, 1536], [3, 129, 40]] {
        let dims = [b, n, width];
        let (x, by, a, c) = (random(&dims), random(&dims), random(&[b, width]), random(&[b, width]));
        let three = [(x.clone() + 3.0).unwrap(), a.clone(), c];
        assert_alike("modulated", &three, &dims, &|it| modulated(&it[0], 1e-6, &it[1], &it[2]));
        assert_alike("gated", &[x.clone(), a, by], &dims, &|it| gated(&it[0], &it[1], &it[2]));
        let layer = [x.clone(), random(&[24, width]), random(&[24])];
        assert_alike("linear", &layer, &[b, n, 24], &|it| linear(&it[0], &it[1], Some(&it[2])));
        assert_alike("linear without a bias", &layer[..2], &[b, n, 24], &|it| linear(&it[0], &it[1], None));
        for gate in [SigmoidGate::SILU, SigmoidGate::GELU_TANH, SigmoidGate::QUICK_GELU] {
            assert_alike("gate", std::slice::from_ref(&x), &dims, &|it| gate.forward(&it[0]));
        }
    }
}

#[test]
fn adamw_takes_the_steps_of_the_cpu() {
    let (master, cuda) = (random(&[3, 333]), Device::new_cuda(0).unwrap());
    let step = |device: &Device| -> Tensor {
        let variable = Var::from_tensor(&master.to_device(device).unwrap()).unwrap();
        let state = State::new(&variable, device).unwrap();
        for step in 1..=5 {
            let gradient = (&master * (f64::from(step as u32) - 2.5)).unwrap().to_device(device).unwrap();
            let update = Update::new(&AdamW::default(), 1e-2, step);
            state.step(&variable, &gradient, 0.5, &update).unwrap();
        }
        on_cpu(&variable)
    };
    assert!(distance(&step(&cuda), &step(&Device::Cpu)) < 1e-6);
    assert!(distance(&step(&cuda), &master) > 1e-3);
}

#[test]
fn heads_side_by_side_attend_as_on_the_cpu() {
    for [b, n, m, n_heads, head] in [[2, 77, 130, 3, 64], [1, 1000, 1000, 2, 64], [3, 65, 33, 2, 128], [1, 9, 7, 1, 8]]
    {
        let width = n_heads * head;
        let inputs = [random(&[b, n, width]), random(&[b, m, width]), random(&[b, m, width])];
        assert_alike("heads", &inputs, &[b, n, width], &|it| multi_head(&it[0], &it[1], &it[2], n_heads));
    }
}

#[test]
fn what_was_recorded_is_replayed_with_the_same_gradients() {
    let cuda = Device::new_cuda(0).unwrap();
    let vars = [(); 3].map(|()| {
        let x = random(&[2, 300, 128]).to_dtype(DType::BF16).unwrap().to_device(&cuda).unwrap();
        Var::from_tensor(&x).unwrap()
    });
    let [q, k, v] = &vars;
    let gradients = |out: &Tensor| {
        let found = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        vars.each_ref().map(|var| on_cpu(found.get(var).unwrap()))
    };
    let plain = multi_head(q, k, v, 2).unwrap();
    let (first, kept) =
        recording(|| multi_head(&q.as_detached_tensor(), &k.as_detached_tensor(), &v.as_detached_tensor(), 2));
    let again = replaying(kept, || multi_head(q, k, v, 2)).unwrap();
    assert_eq!(distance(&on_cpu(&first.unwrap()), &on_cpu(&plain)), 0.0);
    assert_eq!(distance(&on_cpu(&again), &on_cpu(&plain)), 0.0);
    for (ours, wanted) in gradients(&again).iter().zip(&gradients(&plain)) {
        // cuDNN adds queries' gradients up in no certain order.
        assert!(distance(ours, wanted) < 1e-3);
    }
    // A recording tells the attention of other values as well: it is not computed.
    let (_, kept) =
        recording(|| multi_head(&q.as_detached_tensor(), &k.as_detached_tensor(), &v.as_detached_tensor(), 2));
    let replayed = replaying(kept, || multi_head(q, k, &(v.as_tensor() * 2.0).unwrap(), 2)).unwrap();
    assert_eq!(distance(&on_cpu(&replayed), &on_cpu(&plain)), 0.0);
}

#[test]
fn the_norm_of_gradients_is_that_of_the_cpu() {
    let gradients = [random(&[3, 5]), random(&[1_000_003]), random(&[2048, 700])];
    let wanted = global_norm(&gradients).unwrap();
    let cuda = Device::new_cuda(0).unwrap();
    let there: Vec<Tensor> = gradients.iter().map(|it| it.to_device(&cuda).unwrap()).collect();
    assert!((global_norm(&there).unwrap() / wanted - 1.0).abs() < 1e-6);
    let some = square_sums(&there[1].to_dtype(DType::BF16).unwrap()).unwrap();
    assert!(some.elem_count() > 1);
}

/// The loss and the gradients of a small transformer, whose weights and batch are the same numbers everywhere.
fn learnt(device: &Device, dtype: DType, recompute: Recompute) -> (f32, Vec<(String, Tensor)>) {
    let config = Config {
        num_layers: 3,
        num_attention_heads: 2,
        caption_projection_dim: 128,
        joint_attention_dim: 96,
        pooled_projection_dim: 64,
        pos_embed_max_size: 24,
        dual_attention_layers: vec![0],
        qk_norm: Some("rms_norm".to_owned()),
        ..Config::medium()
    };
    let blueprint = Weights::blueprint();
    Sd3::load(&config, &blueprint).unwrap();
    let asked = blueprint.asked();
    let mut state = 1_u32;
    let mut numbers = |dims: &[usize], scale: f32| {
        let n = dims.iter().product();
        let values: Vec<f32> = (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
            })
            .collect();
        // What bf16 holds of them, so that only the arithmetic differs.
        let exact = Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
        exact.to_dtype(DType::F32).unwrap().to_device(device).unwrap()
    };
    let weights: HashMap<String, Tensor> = asked
        .iter()
        .map(|(name, dims)| (name.clone(), numbers(dims, 1.5 / (dims.iter().skip(1).product::<usize>() as f32).sqrt())))
        .collect();
    let weights = Weights::given(weights, device, DType::F32);
    let (parameters, _) = Parameters::whole(&asked, &weights, dtype, |it| it == FIXED).unwrap();
    let latent = [2, config.in_channels, 24, 16];
    let batch = Batch {
        timesteps: vec![300.0, 800.0],
        context: numbers(&[2, 19, config.joint_attention_dim], 1.0),
        pooled: numbers(&[2, config.pooled_projection_dim], 1.0),
        target: Target {
            x0: numbers(&latent, 1.0),
            noise: numbers(&latent, 1.0),
            weights: vec![1.0, 0.5],
            sigmas: vec![0.3, 0.8],
        },
    };
    let loss = Loss { space: Space::X0, bands: vec![1.0, 1.0, 2.0, 4.0] };
    let mut sums = Gradients::none(parameters.names().len());
    let losses = FlowMatching { config, loss, recompute }.gradients(&parameters, &batch, &mut sums).unwrap();
    let found = sums.all(parameters.names()).unwrap();
    let named = parameters.names().iter().cloned().zip(found.iter().map(on_cpu)).collect();
    (losses.total.to_scalar().unwrap(), named)
}

#[test]
fn a_transformer_learns_as_on_the_cpu_whatever_is_computed_twice() {
    let (cuda, cpu) = (Device::new_cuda(0).unwrap(), Device::Cpu);
    let (wanted_loss, wanted) = learnt(&cpu, DType::F32, Recompute::Nothing);
    for (dtype, limit) in [(DType::F32, 2e-4), (DType::BF16, 0.25)] {
        for recompute in [Recompute::Nothing, Recompute::Blocks] {
            let (loss, ours) = learnt(&cuda, dtype, recompute);
            assert!((loss / wanted_loss - 1.0).abs() < limit as f32 / 10.0, "{dtype:?} {loss} {wanted_loss}");
            for ((name, ours), (_, wanted)) in ours.iter().zip(&wanted) {
                let norm = wanted.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                // Nothing looks at the text after the last block: what its queries are does not matter.
                if norm > 0.0 {
                    let off = distance(ours, wanted);
                    assert!(off < limit, "{dtype:?} {recompute:?} {name}: {off:e}");
                }
            }
        }
    }
}
