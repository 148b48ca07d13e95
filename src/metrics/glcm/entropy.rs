//! The GLCM Score, an entropy of the values in the matrices, and beside it the true entropy of the matrices.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::count::{LEVELS, OFFSETS, PATCH, Sink};

/// How many cells the 16 matrices of a patch have.
const N_CELLS: usize = 16 * LEVELS * LEVELS;

/// Counts below this come so often that they have a histogram; larger ones come one by one.
const SMALL: usize = 32;

/// Matrices with as many pairs of pixels have the same values: their number of pairs, and for each offset its group.
const GROUPS: ([usize; 7], [usize; OFFSETS.len()]) = {
    let mut sizes = [0; 7];
    let mut group_of = [0; OFFSETS.len()];
    let (mut k, mut n) = (0, 0);
    while k < OFFSETS.len() {
        let mut group = 0;
        while group < n && sizes[group] != OFFSETS[k].n_pairs() {
            group += 1;
        }
        if group == n {
            sizes[n] = OFFSETS[k].n_pairs();
            n += 1;
        }
        group_of[k] = group;
        k += 1;
    }
    (sizes, group_of)
};

/// What depends on no picture: which quotients are equal, and logarithms.
pub struct EntropyTables {
    /// For each count and group, the place of the value count / pairs among all values.
    value_of: Vec<[u16; 8]>,
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
        // Two matrices' cells hold one value if their quotients are equal as doubles. Zeros are counted elsewhere.
        let mut places = HashMap::new();
        let mut value_of = vec![[0; 8]; PATCH * PATCH];
        for (count, row) in value_of.iter_mut().enumerate().skip(1) {
            for (size, place) in GROUPS.0.iter().zip(row) {
                let next = places.len() as u16;
                *place = *places.entry((count as f64 / *size as f64).to_bits()).or_insert(next);
            }
        }
        let c_log2_c = (0..=N_CELLS).map(|it| it as f64 * (it.max(1) as f64).log2()).collect();
        Self { value_of, n_values: places.len(), c_log2_c }
    }
}

/// Takes the counts of one patch after another.
pub struct Entropy {
    tables: &'static EntropyTables,
    /// For each small count, how many cells of each offset's matrix have it.
    histogram: [[u16; 16]; SMALL],
    /// The other counts, with their offsets.
    large: Vec<(u16, u8)>,
    /// For each value, how many of the 65,536 cells hold it; all 0 between patches.
    values: Box<[u32]>,
    /// The places of `values` that are not 0.
    touched: Vec<u16>,
}

impl Sink for Entropy {
    #[inline(always)]
    fn cells(&mut self, _: u8, _: u8, counts: &[u16; 16]) {
        for (k, &count) in counts[..OFFSETS.len()].iter().enumerate() {
            // Zeros are counted too, and never looked at: that is cheaper than to leave them out.
            match self.histogram.get_mut(usize::from(count)) {
                Some(n_cells) => n_cells[k] += 1,
                None => self.large.push((count, k as u8)),
            }
        }
    }
}

impl Entropy {
    /// Ready for a patch.
    pub fn new(tables: &'static EntropyTables) -> Self {
        Self {
            tables,
            histogram: [[0; 16]; SMALL],
            large: Vec::new(),
            values: vec![0; tables.n_values].into_boxed_slice(),
            touched: Vec::new(),
        }
    }

    /// The GLCM Score of the patch whose counts came in, and the mean of its matrices' entropies, both in bits.
    /// Ready for the next patch afterwards.
    pub fn take(&mut self) -> (f64, f64) {
        let mut sums = [0.0; 7];
        let histogram = std::mem::replace(&mut self.histogram, [[0; 16]; SMALL]);
        for (count, n_cells) in histogram.iter().enumerate().skip(1) {
            let mut in_group = [0; 7];
            for (k, offset) in OFFSETS.iter().enumerate() {
                in_group[GROUPS.1[k]] += offset.weight * u32::from(n_cells[k]);
            }
            for (group, n_cells) in in_group.into_iter().enumerate().filter(|(_, n_cells)| *n_cells > 0) {
                self.add(count, group, n_cells, &mut sums);
            }
        }
        let mut large = std::mem::take(&mut self.large);
        for (count, k) in large.drain(..) {
            let k = usize::from(k);
            self.add(usize::from(count), GROUPS.1[k], OFFSETS[k].weight, &mut sums);
        }
        self.large = large;

        let mut n_zeros = N_CELLS as u32;
        let mut sum = 0.0;
        for place in self.touched.drain(..) {
            let n_cells = std::mem::take(&mut self.values[usize::from(place)]);
            n_zeros -= n_cells;
            sum += self.tables.c_log2_c[n_cells as usize];
        }
        // -Σ p log2 p = log2 n - Σ c log2 c / n, with p = c / n.
        let entropy = |n: usize, sum: f64| (n as f64).log2() - sum / n as f64;
        let score = entropy(N_CELLS, sum + self.tables.c_log2_c[n_zeros as usize]);
        let weight =
            |group| OFFSETS.iter().filter(|it| it.n_pairs() == GROUPS.0[group]).map(|it| it.weight).sum::<u32>();
        let bits =
            (0..7).map(|it| f64::from(weight(it)) * (GROUPS.0[it] as f64).log2() - sums[it] / GROUPS.0[it] as f64);
        (score, bits.sum::<f64>() / 16.0)
    }

    /// `n_cells` cells of the group's matrices have this count.
    fn add(&mut self, count: usize, group: usize, n_cells: u32, sums: &mut [f64; 7]) {
        sums[group] += f64::from(n_cells) * self.tables.c_log2_c[count];
        let place = self.tables.value_of[count][group];
        let value = &mut self.values[usize::from(place)];
        if *value == 0 {
            self.touched.push(place);
        }
        *value += n_cells;
    }
}
