//! The schedule against diffusers'.

use jobctl::models::schedule::{Config, Schedule};

use super::json;

#[test]
fn is_that_of_diffusers() {
    let golden = json("schedule.json");
    let mut n_compared = 0;
    for case in golden.as_array().unwrap() {
        // Pipelines of other families give their own grid.
        if case["grid"] != "default" {
            continue;
        }
        let mut config: Config = serde_json::from_value(case["config"].clone()).unwrap();
        config.use_dynamic_shifting |= !case["mu"].is_null();
        let steps = usize::try_from(case["steps"].as_u64().unwrap()).unwrap();
        let ours = Schedule::with_mu(&config, steps, case["mu"].as_f64().unwrap_or(0.0));
        for (key, ours, scale) in [("sigmas", &ours.sigmas, 1.0), ("timesteps", &ours.timesteps, 1000.0)] {
            let theirs: Vec<f32> = serde_json::from_value(case[key].clone()).unwrap();
            assert_eq!(ours.len(), theirs.len(), "{case}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!((ours - theirs).abs() <= 2e-7 * scale, "{case} {ours} {theirs}");
            }
        }
        n_compared += 1;
    }
    assert!(n_compared >= 15, "{n_compared}");
}
