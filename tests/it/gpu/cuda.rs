//! Our kernels on CUDA against the CPU's operations: forward, and every gradient.

use candle_core::{DType, Device, Result, Tensor, Var};
use jobctl::gpu::pointwise::SigmoidGate;
use jobctl::gpu::tokens::{biased, gated, modulated};
use jobctl::train::adamw::Update;
use jobctl::train::optim::{AdamW, State};

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
        let rows = x.reshape((b * n, width)).unwrap();
        assert_alike("biased", &[rows, random(&[width])], &[b * n, width], &|it| biased(&it[0], &it[1]));
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
