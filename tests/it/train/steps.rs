//! Steps of the optimiser.

use candle_core::Device;
use jobctl::train::adamw::Update;
use jobctl::train::objective::Objective;
use jobctl::train::optim::{AdamW, Course, Rate, State, clip, global_norm};
use jobctl::train::parameters::Gradients;
use jobctl::train::transformer::{FlowMatching, Recompute};
use jobctl::train::wlf::{Loss, Space};

use super::{batch, config, distance, json, tensors, whole};

#[test]
fn weights_after_3_and_20_steps_are_those_of_torch() {
    let (golden, told) = (tensors("steps.safetensors"), json("steps.json"));
    let (parameters, masters) = whole("tiny");
    let states: Vec<State> = masters.iter().map(|it| State::new(it, &Device::Cpu).unwrap()).collect();
    let objective = FlowMatching {
        config: config("tiny"),
        loss: Loss { space: Space::Velocity, bands: vec![1.0, 1.5, 0.5, 2.0, 3.0, 0.25, 4.0] },
        recompute: Recompute::Blocks,
    };
    let settings = AdamW { weight_decay: 1e-2, ..AdamW::default() };
    for step in 0..20 {
        let mut sums = Gradients::none(parameters.names().len());
        let batch = batch(&golden, &format!("batch.{}", step % 4));
        let loss = objective.gradients(&parameters, &batch, &mut sums).unwrap().total.to_scalar::<f32>().unwrap();
        let gradients = sums.all(parameters.names()).unwrap();
        let norm = global_norm(&gradients).unwrap();
        let theirs = &told["steps"][step];
        let close = |ours: f64, theirs: &serde_json::Value| (ours - theirs.as_f64().unwrap()).abs() < 1e-5 * ours;
        assert!(close(f64::from(loss), &theirs["loss"]), "{step}: {loss} {theirs}");
        assert!(close(norm, &theirs["norm"]), "{step}: {norm} {theirs}");
        let update = Update::new(&settings, 1e-3, step + 1);
        for ((state, variable), gradient) in states.iter().zip(parameters.variables()).zip(&gradients) {
            state.step(variable, gradient, clip(norm, Some(1.0)), &update).unwrap();
        }
        if step + 1 == 3 || step + 1 == 20 {
            for (name, variable) in parameters.names().iter().zip(parameters.variables()) {
                let off = distance(variable, &golden[&format!("after.{}.{name}", step + 1)]);
                assert!(off < 1e-5, "{name} after {}: {off:e}", step + 1);
            }
        }
    }
}

#[test]
fn the_rate_warms_up_from_0_and_runs_out_as_diffusers_does() {
    let rate = |course| Rate { rate: 2.0, warm_up: 4, course };
    let all = |course| (0..12).map(|it| rate(course).at(it, 12)).collect::<Vec<_>>();
    assert_eq!(all(Course::Constant), [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
    assert_eq!(all(Course::Linear), [0.0, 0.5, 1.0, 1.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25]);
    let cosine = all(Course::Cosine);
    assert!((cosine[8] - 1.0).abs() < 1e-12 && cosine[5] > 1.75 && cosine[11] < 0.25);
    assert_eq!(Rate { warm_up: 0, ..rate(Course::Constant) }.at(0, 1), 2.0);
}

#[test]
fn gradients_are_shortened_only_when_they_are_too_long() {
    assert_eq!(clip(0.5, Some(1.0)), 1.0);
    assert!((clip(4.0, Some(1.0)) - 0.25).abs() < 1e-6);
    assert_eq!(clip(1e9, None), 1.0);
}
