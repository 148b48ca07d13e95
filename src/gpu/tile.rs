//! The innermost loops of the CPU's matrix product, in the processor's own words where it has them.

/// Rows of a tile.
pub(super) const ROWS: usize = 12;
/// Columns of a tile, and so of a panel of columns.
pub(super) const COLUMNS: usize = 32;

/// The product of a panel of `rows` (4, 8 or 12 of them) with a panel of `columns`, both `depth` deep.
pub(super) fn tile(rows: &[f32], columns: &[f32], depth: usize, sums: &mut [[f32; COLUMNS]; ROWS]) {
    let n = rows.len() / depth.max(1);
    assert!(n.is_multiple_of(4) && n <= ROWS && rows.len() == n * depth && columns.len() == COLUMNS * depth);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        #[expect(
            unsafe_code,
            reason = "the processor has the instructions, and the panels are as long as was asserted"
        )]
        return unsafe {
            match n {
                12 => x86::tile_512::<12>(rows, columns, depth, sums),
                8 => x86::tile_512::<8>(rows, columns, depth, sums),
                _ => x86::tile_512::<4>(rows, columns, depth, sums),
            }
        };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[expect(
            unsafe_code,
            reason = "the processor has the instructions, and the panels are as long as was asserted"
        )]
        return unsafe {
            match n {
                12 => x86::tile_256::<12>(rows, columns, depth, sums),
                8 => x86::tile_256::<8>(rows, columns, depth, sums),
                _ => x86::tile_256::<4>(rows, columns, depth, sums),
            }
        };
    }
    plain(rows, columns, n, sums);
}

/// The same for any processor, 4×8 numbers at a time.
fn plain(rows: &[f32], columns: &[f32], n: usize, sums: &mut [[f32; COLUMNS]; ROWS]) {
    for (top, left) in (0..n).step_by(4).flat_map(|top| (0..COLUMNS).step_by(8).map(move |left| (top, left))) {
        let mut own = [[0_f32; 8]; 4];
        for (rows, columns) in rows.chunks_exact(n).zip(columns.as_chunks::<COLUMNS>().0) {
            for (own, x) in own.iter_mut().zip(&rows[top..top + 4]) {
                for (own, y) in own.iter_mut().zip(&columns[left..left + 8]) {
                    *own += x * y;
                }
            }
        }
        for (sums, own) in sums[top..].iter_mut().zip(&own) {
            sums[left..left + 8].copy_from_slice(own);
        }
    }
}

/// Writes the numbers of four lanes side by side: number i of lane j to `to[i * width + j]`.
pub(super) fn interleave(lanes: [&[f32]; 4], to: &mut [f32], width: usize) {
    let n = lanes[0].len();
    assert!(lanes.iter().all(|it| it.len() == n) && (n == 0 || (n - 1) * width + 4 <= to.len()));
    #[cfg(target_arch = "x86_64")]
    #[expect(
        unsafe_code,
        reason = "every x86-64 has SSE, and all that is read and written lies in the slices, as asserted"
    )]
    let done = unsafe { x86::interleave(lanes, to, width) };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for idx in done..n {
        for (lane, to) in lanes.iter().zip(&mut to[idx * width..]) {
            *to = lane[idx];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vectors are read and written through pointers")]
mod x86 {
    use std::arch::x86_64::{
        _MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::{COLUMNS, ROWS};

    /// # Safety
    /// `rows` holds `M`·`depth` numbers, `columns` 32·`depth`.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn tile_512<const M: usize>(
        rows: &[f32],
        columns: &[f32],
        depth: usize,
        sums: &mut [[f32; COLUMNS]; ROWS],
    ) {
        let mut own = [[_mm512_setzero_ps(); 2]; M];
        for number in 0..depth {
            unsafe {
                let (x, y) = (rows.as_ptr().add(number * M), columns.as_ptr().add(number * COLUMNS));
                let (left, right) = (_mm512_loadu_ps(y), _mm512_loadu_ps(y.add(16)));
                for (row, own) in own.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*x.add(row));
                    own[0] = _mm512_fmadd_ps(x, left, own[0]);
                    own[1] = _mm512_fmadd_ps(x, right, own[1]);
                }
            }
        }
        for (sums, own) in sums.iter_mut().zip(&own) {
            unsafe {
                _mm512_storeu_ps(sums.as_mut_ptr(), own[0]);
                _mm512_storeu_ps(sums.as_mut_ptr().add(16), own[1]);
            }
        }
    }

    /// 4×16 numbers at a time: 8 of 16 registers hold them.
    ///
    /// # Safety
    /// `rows` holds `M`·`depth` numbers, `columns` 32·`depth`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile_256<const M: usize>(
        rows: &[f32],
        columns: &[f32],
        depth: usize,
        sums: &mut [[f32; COLUMNS]; ROWS],
    ) {
        for (top, left) in (0..M).step_by(4).flat_map(|top| [(top, 0), (top, 16)]) {
            let mut own = [[_mm256_setzero_ps(); 2]; 4];
            for number in 0..depth {
                unsafe {
                    let (x, y) = (rows.as_ptr().add(number * M + top), columns.as_ptr().add(number * COLUMNS + left));
                    let (near, far) = (_mm256_loadu_ps(y), _mm256_loadu_ps(y.add(8)));
                    for (row, own) in own.iter_mut().enumerate() {
                        let x = _mm256_set1_ps(*x.add(row));
                        own[0] = _mm256_fmadd_ps(x, near, own[0]);
                        own[1] = _mm256_fmadd_ps(x, far, own[1]);
                    }
                }
            }
            for (sums, own) in sums[top..].iter_mut().zip(&own) {
                unsafe {
                    _mm256_storeu_ps(sums.as_mut_ptr().add(left), own[0]);
                    _mm256_storeu_ps(sums.as_mut_ptr().add(left + 8), own[1]);
                }
            }
        }
    }

    /// Answers with how many numbers of each lane are done: all but at most 3.
    ///
    /// # Safety
    /// The lanes are equally long, and `to` has room for `width` numbers for each but the last, and there for four.
    pub(super) unsafe fn interleave(lanes: [&[f32]; 4], to: &mut [f32], width: usize) -> usize {
        let n = lanes[0].len() / 4 * 4;
        for idx in (0..n).step_by(4) {
            unsafe {
                let [mut a, mut b, mut c, mut d] = lanes.map(|it| _mm_loadu_ps(it.as_ptr().add(idx)));
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (line, it) in [a, b, c, d].into_iter().enumerate() {
                    _mm_storeu_ps(to.as_mut_ptr().add((idx + line) * width), it);
                }
            }
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, ROWS, plain, tile};

    #[test]
    fn every_processors_tile_is_the_same_product() {
        for n in [4, 8, 12] {
            let rows: Vec<f32> = (0..n * 7).map(|it| (it % 11) as f32 - 5.0).collect();
            let columns: Vec<f32> = (0..COLUMNS * 7).map(|it| (it % 13) as f32 - 6.0).collect();
            let (mut a, mut b) = ([[0_f32; COLUMNS]; ROWS], [[0_f32; COLUMNS]; ROWS]);
            tile(&rows, &columns, 7, &mut a);
            plain(&rows, &columns, n, &mut b);
            assert_eq!(a, b);
            let row: f32 = (0..7).map(|p| rows[p * n + 1] * columns[p * COLUMNS + 3]).sum();
            assert_eq!(a[1][3], row);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "checked for the processor that runs it")]
    fn narrower_vectors_give_the_same_product() {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
            return;
        }
        let rows: Vec<f32> = (0..12 * 9).map(|it| (it % 11) as f32 - 5.0).collect();
        let columns: Vec<f32> = (0..COLUMNS * 9).map(|it| (it % 13) as f32 - 6.0).collect();
        let (mut a, mut b) = ([[0_f32; COLUMNS]; ROWS], [[0_f32; COLUMNS]; ROWS]);
        unsafe { super::x86::tile_256::<12>(&rows, &columns, 9, &mut a) };
        plain(&rows, &columns, 12, &mut b);
        assert_eq!(a, b);
    }
}
