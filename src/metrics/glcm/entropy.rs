//! The GLCM Score, an entropy of the values in the matrices, and beside it the true entropy of the matrices.

use std::sync::LazyLock;

use super::count::{LEVELS, OFFSETS, PATCH, Sink};

/// How many cells the 16 matrices of a patch have.
const N_CELLS: usize = 16 * LEVELS * LEVELS;

/// A count is at most this.
const MAX_COUNT: usize = PATCH * PATCH;

/// What counts of a patch add up to, in the two ways.
pub struct Entropy {
    tables: &'static EntropyTables,
    /// For each offset, how many cells have each count; all 0 between patches.
    histogram: Box<[[u32; MAX_COUNT]; OFFSETS.len()]>,
    /// For each value, how many of the 65,536 cells hold it; all 0 between patches.
    values: Box<[u32]>,
    /// The places of `values` that are not 0.
    touched: Vec<u16>,
}

/// What depends on no picture: which quotients are equal, and logarithms.
pub struct EntropyTables {
    /// For each offset and count, the place of the value count / pairs among all values.
    value_of: Vec<[u16; MAX_COUNT]>,
    n_values: usize,
    /// c log2 c, for c up to the number of cells.
    c_log2_c: Vec<f64>,
}

impl EntropyTables {
    /// The tables, made at the first call.
    pub fn get() -> &'static Self {
        static TABLES: LazyLock<EntropyTables> = LazyLock::new(EntropyTables::new);
        &TABLES
    }

    fn new() -> Self {
        // Quotients of whole numbers this small are equal as doubles if and only if they are equal.
        let mut ids = std::collections::HashMap::new();
        let mut value_of = vec![[0; MAX_COUNT]; OFFSETS.len()];
        for (offset, row) in OFFSETS.iter().zip(&mut value_of) {
            for (count, id) in row.iter_mut().enumerate().take(offset.n_pairs() + 1) {
                let quotient = count as f64 / offset.n_pairs() as f64;
                let next = ids.len() as u16;
                *id = *ids.entry(quotient.to_bits()).or_insert(next);
            }
        }
        let c_log2_c = (0..=N_CELLS).map(|it| it as f64 * (it.max(1) as f64).log2()).collect();
        Self { value_of, n_values: ids.len(), c_log2_c }
    }
}

impl Entropy {
    /// Ready for a patch.
    pub fn new(tables: &'static EntropyTables) -> Self {
        Self {
            tables,
            histogram: Box::new([[0; MAX_COUNT]; OFFSETS.len()]),
            values: vec![0; tables.n_values].into_boxed_slice(),
            touched: Vec::new(),
        }
    }

    /// The GLCM Score of the patch whose counts came in, and the mean of its matrices' entropies, both in bits.
    /// Ready for the next patch afterwards.
    pub fn take(&mut self) -> (f64, f64) {
        let mut bits = 0.0;
        let mut n_zeros = N_CELLS as u32;
        for ((offset, histogram), value_of) in OFFSETS.iter().zip(self.histogram.iter_mut()).zip(&self.tables.value_of)
        {
            let mut sum = 0.0;
            let mut n_left = offset.n_pairs();
            for count in 1.. {
                if n_left == 0 {
                    break;
                }
                let n_cells = histogram[count];
                if n_cells == 0 {
                    continue;
                }
                histogram[count] = 0;
                n_left -= n_cells as usize * count;
                sum += f64::from(n_cells) * self.tables.c_log2_c[count];
                n_zeros -= n_cells * offset.weight;
                let value = &mut self.values[usize::from(value_of[count])];
                if *value == 0 {
                    self.touched.push(value_of[count]);
                }
                *value += n_cells * offset.weight;
            }
            // -Σ p log2 p with p = c / n.
            let n = offset.n_pairs() as f64;
            bits += f64::from(offset.weight) * (n.log2() - sum / n);
        }
        let mut sum = self.tables.c_log2_c[n_zeros as usize];
        for place in self.touched.drain(..) {
            let value = &mut self.values[usize::from(place)];
            sum += self.tables.c_log2_c[*value as usize];
            *value = 0;
        }
        let n = N_CELLS as f64;
        (n.log2() - sum / n, bits / 16.0)
    }
}

impl Sink for Entropy {
    fn cell(&mut self, offset: usize, _: u8, _: u8, count: u16) {
        self.histogram[offset][usize::from(count)] += 1;
    }
}
