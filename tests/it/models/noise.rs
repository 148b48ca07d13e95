//! Noise against torch's.

use candle_core::{DType, Tensor};
use jobctl::models::noise::{Recipe, randn};

use super::{json, values};

fn dtype(name: &str) -> DType {
    match name {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        other => panic!("{other}"),
    }
}

#[test]
fn is_what_torch_draws() {
    let golden = json("noise.json");
    let draws = golden["draws"].as_array().unwrap();
    assert!(draws.len() > 20);
    let (mut n_16, mut n_other) = (0, 0);
    for draw in draws {
        let shape: Vec<usize> = serde_json::from_value(draw["shape"].clone()).unwrap();
        let dtype = dtype(draw["dtype"].as_str().unwrap());
        let ours = values(&randn(draw["seed"].as_u64().unwrap(), &shape, dtype, Recipe::Current).unwrap());
        let theirs = |key: &str| -> Option<Vec<f32>> { serde_json::from_value(draw[key].clone()).ok() };
        let mut compare = |ours: &[f32], theirs: &[f32]| {
            for (ours, theirs) in ours.iter().zip(theirs) {
                if dtype == DType::F32 {
                    assert!((ours - theirs).abs() <= 2e-6, "{draw} {ours} {theirs}");
                } else {
                    n_16 += 1;
                    n_other += usize::from(ours != theirs);
                    assert!((ours - theirs).abs() <= theirs.abs() / 100.0, "{ours} {theirs}");
                }
            }
        };
        match theirs("values") {
            Some(theirs) => {
                assert_eq!(theirs.len(), ours.len());
                compare(&ours, &theirs);
            }
            None => {
                let (first, last) = (theirs("first").unwrap(), theirs("last").unwrap());
                compare(&ours, &first);
                compare(&ours[ours.len() - last.len()..], &last);
                let sum: f64 = ours.iter().map(|it| f64::from(*it)).sum();
                assert!((sum - draw["sum"].as_f64().unwrap()).abs() < 0.05, "{draw} {sum}");
            }
        }
    }
    assert!(n_16 > 500 && n_other * 1000 <= n_16, "{n_other} of {n_16}");
}

#[test]
fn fewer_than_16_numbers_are_refused() {
    assert!(randn(0, &[15], DType::F32, Recipe::Current).is_err());
}

#[test]
fn the_authors_torch_drew_few_bits() {
    // With 8 bits there are no more than 128·… values: many of a large draw repeat.
    let few = randn(0, &[4096], DType::BF16, Recipe::Authors).unwrap();
    let many = randn(0, &[4096], DType::BF16, Recipe::Current).unwrap();
    let distinct =
        |it: &Tensor| values(it).iter().map(|it| it.to_bits()).collect::<std::collections::HashSet<_>>().len();
    assert!(distinct(&few) < distinct(&many));
}
