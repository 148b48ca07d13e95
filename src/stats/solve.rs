//! Small systems of linear equations with a symmetric, positive definite matrix.

/// Solves `matrix` · x = `right` by Cholesky's decomposition; `matrix` is n × n, row by row. None where it is not
/// positive definite.
pub(super) fn solve(matrix: &[f64], right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    let factor = cholesky(matrix, n)?;
    let mut x = right.to_vec();
    for row in 0..n {
        let known: f64 = (0..row).map(|col| factor[row * n + col] * x[col]).sum();
        x[row] = (x[row] - known) / factor[row * n + row];
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|col| factor[col * n + row] * x[col]).sum();
        x[row] = (x[row] - known) / factor[row * n + row];
    }
    Some(x)
}

/// The inverse of such a matrix.
pub(super) fn inverse(matrix: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut inverse = vec![0.0; n * n];
    for col in 0..n {
        let mut unit = vec![0.0; n];
        unit[col] = 1.0;
        for (row, value) in solve(matrix, &unit)?.into_iter().enumerate() {
            inverse[row * n + col] = value;
        }
    }
    Some(inverse)
}

fn cholesky(matrix: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; n * n];
    for row in 0..n {
        for col in 0..=row {
            let known: f64 = (0..col).map(|it| factor[row * n + it] * factor[col * n + it]).sum();
            let rest = matrix[row * n + col] - known;
            if row == col {
                // Written so that NaN is refused as well.
                if !(rest > 0.0 && rest.is_finite()) {
                    return None;
                }
                factor[row * n + row] = rest.sqrt();
            } else {
                factor[row * n + col] = rest / factor[col * n + col];
            }
        }
    }
    Some(factor)
}
