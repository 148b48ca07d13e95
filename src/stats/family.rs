//! Several tests at once: p-values that stay honest over all of them.

/// Holm's adjustment (1979): rejecting where the adjusted p-value is at most α keeps the chance of any false rejection
/// among all of `p` below α, whatever depends on what.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut most: f64 = 0.0;
    for (n_before, &it) in order.iter().enumerate() {
        most = most.max((p.len() - n_before) as f64 * p[it]).min(1.0);
        adjusted[it] = most;
    }
    adjusted
}
