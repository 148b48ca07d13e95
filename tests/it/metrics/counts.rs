//! Co-occurrence counts and what follows from them, against the plainest code that does the same.

use std::collections::HashMap;

use jobctl::metrics::glcm::count::{Counter, OFFSETS, Patch, Sink};
use jobctl::metrics::glcm::entropy::{Entropy, EntropyTables};
use jobctl::metrics::glcm::grey;
use proptest::prelude::*;

use crate::support;

type Matrices = HashMap<(usize, u8, u8), u16>;

#[derive(Default)]
struct Collected(Matrices);

impl Sink for Collected {
    fn cells(&mut self, i: u8, j: u8, counts: &[u16; 16]) {
        for (k, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            assert_eq!(self.0.insert((k, i, j), count), None, "a cell comes once");
        }
    }
}

fn naive(patch: &Patch) -> Matrices {
    let mut matrices = Matrices::new();
    for (k, offset) in OFFSETS.iter().enumerate() {
        for y in 0..64 {
            for x in 0..64_isize {
                let (other_y, other_x) = (y + offset.down, x + offset.right);
                if other_y < 64 && (0..64).contains(&other_x) {
                    let key = (k, patch[y][x as usize], patch[other_y][other_x as usize]);
                    *matrices.entry(key).or_default() += 1;
                }
            }
        }
    }
    matrices
}

/// The entropy of the histogram of values by their bits, and the mean entropy of the 16 matrices.
fn naive_entropies(matrices: &Matrices) -> (f64, f64) {
    let mut values: HashMap<u64, u32> = HashMap::new();
    let mut bits = 0.0;
    let mut n_zeros = 65_536;
    for (&(k, ..), &count) in matrices {
        let p = f64::from(count) / OFFSETS[k].n_pairs() as f64;
        *values.entry(p.to_bits()).or_default() += OFFSETS[k].weight;
        n_zeros -= OFFSETS[k].weight;
        bits -= f64::from(OFFSETS[k].weight) / 16.0 * p * p.log2();
    }
    values.insert(0.0_f64.to_bits(), n_zeros);
    let shares = values.values().filter(|it| **it > 0).map(|&it| f64::from(it) / 65_536.0);
    (-shares.map(|it| it * it.log2()).sum::<f64>(), bits)
}

fn draw(level: impl Fn(u32, u32) -> u32) -> Patch {
    std::array::from_fn(|y| std::array::from_fn(|x| level(x as u32, y as u32) as u8))
}

/// Counts `patches` in turn with one counter, as images do, and compares each with the plain code.
fn check(patches: &[Patch]) {
    let mut counter = Counter::default();
    let mut entropy = Entropy::new(EntropyTables::get());
    for patch in patches {
        let mut found = Collected::default();
        counter.count(patch, &mut found);
        let expected = naive(patch);
        assert_eq!(found.0, expected);

        counter.count(patch, &mut entropy);
        let (score, bits) = entropy.take();
        let (expected_score, expected_bits) = naive_entropies(&expected);
        assert!((score - expected_score).abs() < 1e-12, "{score} {expected_score}");
        assert!((bits - expected_bits).abs() < 1e-12, "{bits} {expected_bits}");
    }
}

#[test]
fn the_offsets_are_the_authors_sixteen() {
    assert_eq!(OFFSETS.iter().map(|it| it.weight).sum::<u32>(), 16);
    let n_pairs = |down, right| OFFSETS.iter().find(|it| (it.down, it.right) == (down, right)).map(|it| it.n_pairs());
    assert_eq!(n_pairs(0, 1), Some(4032));
    assert_eq!(n_pairs(4, 0), Some(3840));
    assert_eq!(n_pairs(1, -1), Some(3969));
    assert_eq!(n_pairs(3, 3), Some(3721));
    assert_eq!(n_pairs(4, 4), None);
}

#[test]
fn known_patterns_have_the_scores_of_scikit_image() {
    let golden = support::golden_json("glcm.json");
    let mut state = 12345_u32;
    let mut lcg = [[0; 64]; 64];
    for level in lcg.as_flattened_mut() {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) % (1 << 31);
        *level = (state >> 16 & 63) as u8;
    }
    let patterns = [
        ("const7", draw(|_, _| 7)),
        ("xramp", draw(|x, _| x)),
        ("xor", draw(|x, y| (x ^ y) & 63)),
        ("checker2", draw(|x, y| 63 * ((x / 2 + y / 2) % 2))),
        ("mul", draw(|x, y| x * y % 64)),
        ("lcg", lcg),
    ];
    let (mut counter, mut entropy) = (Counter::default(), Entropy::new(EntropyTables::get()));
    for (name, patch) in patterns {
        let mut cells = Collected::default();
        counter.count(&patch, &mut cells);
        let n_cells: u32 = cells.0.keys().map(|it| OFFSETS[it.0].weight).sum();
        assert_eq!(golden[name]["nonzero"], n_cells, "{name}");

        counter.count(&patch, &mut entropy);
        let (score, bits) = entropy.take();
        assert!((score - golden[name]["score"].as_f64().unwrap()).abs() < 1e-12, "{name}: {score}");
        assert!((bits - golden[name]["mean_true_entropy"].as_f64().unwrap()).abs() < 1e-12, "{name}: {bits}");
    }
}

#[test]
fn grey_is_a_rounded_weighted_mean() {
    assert_eq!([0, 77, 255].map(|it| grey([it; 3])), [0, 77, 255]);
    assert_eq!([grey([255, 0, 0]), grey([0, 255, 0]), grey([0, 0, 255])], [76, 150, 29]);
}

#[test]
#[should_panic(expected = "range end")]
fn a_level_of_64_is_refused() {
    Counter::default().count(&draw(|x, _| 2 * x), &mut Collected::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn counts_are_those_of_the_plain_code(
        levels in prop::collection::vec(0_u8..64, 4096),
        spread in 1_u8..=64,
        low in 0_u8..64,
        smooth in 1_u32..40,
    ) {
        let noise = draw(|x, y| u32::from((levels[(64 * y + x) as usize] % spread).saturating_add(low).min(63)));
        let slope = draw(|x, y| ((x + 2 * y) / smooth + u32::from(levels[(64 * y + x) as usize] % 3)).min(63));
        let edge = draw(|x, y| if x * smooth > y * 20 { u32::from(levels[y as usize]) } else { u32::from(low) });
        let specks = draw(|x, y| {
            let level = levels[(64 * y + x) as usize];
            if u32::from(level) > smooth + 20 { u32::from(level) } else { u32::from(low) }
        });
        check(&[noise, slope, edge, specks]);
    }
}
