//! The means of the SSIM map of two pictures, tile by tile: the map itself is never stored.

use rayon::prelude::*;

use crate::image::Rgb;

/// Tile width in pixels: with its margins, what a tile needs of `N` rows stays in the second-level cache.
const TILE_WIDTH: usize = 128;
/// Tile height in pixels.
const TILE_HEIGHT: usize = 128;
/// The widest window's radius.
const MAX_RADIUS: usize = 5;
/// Samples (three a pixel) of a tile's row.
const INNER: usize = 3 * TILE_WIDTH;
/// The same with the margins that windows reach into.
const OUTER: usize = INNER + 6 * MAX_RADIUS;

/// A separable, symmetric window of `N` × `N` pixels.
pub struct Window<const N: usize> {
    /// Weights along one axis; they add up to 1.
    weights: [f64; N],
    /// What variances and covariance are multiplied by.
    covariance_factor: f64,
}

impl Window<11> {
    /// σ = 1.5, population covariance (Wang et al. 2004).
    pub fn gaussian() -> Self {
        let weights: [f64; 11] = std::array::from_fn(|it| (-((it as f64 - 5.0) / 1.5).powi(2) / 2.0).exp());
        let sum: f64 = weights.iter().sum();
        Self { weights: weights.map(|it| it / sum), covariance_factor: 1.0 }
    }
}

impl Window<7> {
    /// All weights equal, sample covariance.
    pub fn uniform() -> Self {
        Self { weights: [1.0 / 7.0; 7], covariance_factor: 49.0 / 48.0 }
    }
}

/// Means of the map over pixels and channels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Means {
    /// Over all pixels, the picture mirrored at its edges without repeating them; none if it is too small for that.
    pub all: Option<f64>,
    /// Over the pixels whose window lies in the picture; none if there are none.
    pub inner: Option<f64>,
}

/// Means of the SSIM map (k1 = 0.01, k2 = 0.03, values 0 to 255) of two pictures of equal size, in double precision.
///
/// Tiles are shared among the rayon pool's threads; each needs about 150 KiB.
pub fn means<const N: usize>(x: &Rgb, y: &Rgb, window: &Window<N>) -> Means {
    let (width, height, radius) = (x.width as usize, x.height as usize, N / 2);
    if width.min(height) <= radius {
        return Means { all: None, inner: None };
    }
    let tiles: Vec<(usize, usize)> = (0..height)
        .step_by(TILE_HEIGHT)
        .flat_map(|top| (0..width).step_by(TILE_WIDTH).map(move |left| (top, left)))
        .collect();
    let sums: Vec<[f64; 2]> = tiles
        .into_par_iter()
        .map_init(|| Box::new(Tile::new()), |tile, (top, left)| sum_tile(tile, x, y, window, top, left))
        .collect();
    // Summed in the order of tiles, so that the number of threads changes no digit.
    let [all, inner] = sums.into_iter().fold([0.0; 2], |sum, it| [sum[0] + it[0], sum[1] + it[1]]);
    let n_inner = 3 * width.saturating_sub(2 * radius) * height.saturating_sub(2 * radius);
    Means { all: Some(all / (3 * width * height) as f64), inner: (n_inner > 0).then(|| inner / n_inner as f64) }
}

/// x, y, x² + y² and xy. The variances are only ever needed as a sum.
type Moments<const LEN: usize> = [[f64; LEN]; 4];

/// The working memory of one tile.
struct Tile<const N: usize> {
    /// The last `N` rows of the pictures, row `r` at `r % N`.
    rows: [Moments<OUTER>; N],
    /// Weighted down the columns.
    vertical: Moments<OUTER>,
    /// And then along the row.
    horizontal: Moments<INNER>,
    /// The map's row.
    map: [f64; INNER],
}

impl<const N: usize> Tile<N> {
    fn new() -> Self {
        Self {
            rows: [[[0.0; OUTER]; 4]; N],
            vertical: [[0.0; OUTER]; 4],
            horizontal: [[0.0; INNER]; 4],
            map: [0.0; INNER],
        }
    }
}

/// The map's sum over a tile, and over those of its pixels whose window lies in the picture.
#[multiversion::multiversion(targets = "simd")]
fn sum_tile<const N: usize>(
    tile: &mut Tile<N>,
    x: &Rgb,
    y: &Rgb,
    window: &Window<N>,
    top: usize,
    left: usize,
) -> [f64; 2] {
    let (width, height, radius) = (x.width as usize, x.height as usize, N / 2);
    let bottom = height.min(top + TILE_HEIGHT);
    let n_columns = TILE_WIDTH.min(width - left);
    let inner_columns =
        radius.saturating_sub(left).min(n_columns)..n_columns.min((width - radius).saturating_sub(left));
    let (mut all, mut inner) = ([0.0; 8], [0.0; 8]);
    // Rows are counted from `radius` above the picture, so that their numbers are not negative.
    for row in top..bottom + 2 * radius {
        let source = mirror(row, radius, height);
        load(&mut tile.rows[row % N], x, y, source, left, radius);
        if row < top + 2 * radius {
            continue;
        }
        weigh_columns(tile, row + 1, &window.weights);
        weigh_rows(tile, window);
        add(&mut all, &tile.map[..3 * n_columns]);
        let center = row - 2 * radius;
        if center >= radius && center + radius < height && !inner_columns.is_empty() {
            add(&mut inner, &tile.map[3 * inner_columns.start..3 * inner_columns.end]);
        }
    }
    [all.iter().sum(), inner.iter().sum()]
}

/// The row or column that stands for number `at`, counted from `radius` before the first of `n`.
#[inline(always)]
fn mirror(at: usize, radius: usize, n: usize) -> usize {
    let at = at.abs_diff(radius);
    if at < n { at } else { 2 * (n - 1) - at.min(2 * (n - 1)) }
}

/// Moments of one row of the pictures, from `radius` pixels left of `left` on.
#[inline(always)]
fn load(moments: &mut Moments<OUTER>, x: &Rgb, y: &Rgb, row: usize, left: usize, radius: usize) {
    let width = x.width as usize;
    let line = 3 * row * width..3 * (row + 1) * width;
    let (x, y) = (samples(&x.pixels[line.clone()], left, radius), samples(&y.pixels[line], left, radius));
    for s in 0..OUTER {
        let (x, y) = (f64::from(x[s]), f64::from(y[s]));
        moments[0][s] = x;
        moments[1][s] = y;
        moments[2][s] = x * x + y * y;
        moments[3][s] = x * y;
    }
}

/// A tile's part of one line, mirrored at the picture's edges; 0 where no window reaches.
#[inline(always)]
fn samples(line: &[u8], left: usize, radius: usize) -> [u8; OUTER] {
    let mut samples = [0; OUTER];
    let width = line.len() / 3;
    let first = radius.saturating_sub(left);
    let last = (width + radius - left).min(OUTER / 3);
    let from = left + first - radius;
    samples[3 * first..3 * last].copy_from_slice(&line[3 * from..3 * (from + last - first)]);
    let beyond = (last + radius).min(OUTER / 3);
    for column in (0..first).chain(last..beyond) {
        let source = mirror(left + column, radius, width);
        samples[3 * column..3 * column + 3].copy_from_slice(&line[3 * source..3 * source + 3]);
    }
    samples
}

/// Weighs `N` rows, the oldest of which is at `oldest % N`.
#[inline(always)]
fn weigh_columns<const N: usize>(tile: &mut Tile<N>, oldest: usize, weights: &[f64; N]) {
    let Tile { rows, vertical, .. } = tile;
    for (moment, out) in vertical.iter_mut().enumerate() {
        weigh(out, std::array::from_fn(|it| &rows[(oldest + it) % N][moment]), weights);
    }
}

/// Weighs the columns' sums along the row, and makes the map's row of them.
#[inline(always)]
fn weigh_rows<const N: usize>(tile: &mut Tile<N>, window: &Window<N>) {
    let Tile { vertical, horizontal, map, .. } = tile;
    for (out, line) in horizontal.iter_mut().zip(vertical.iter()) {
        weigh(
            out,
            std::array::from_fn(|it| line[3 * it..].first_chunk().expect("the margins are as wide")),
            &window.weights,
        );
    }
    compare(map, horizontal, window.covariance_factor);
}

/// The sum of the lines by their weights, which are symmetric.
#[inline(always)]
fn weigh<const N: usize, const LEN: usize>(out: &mut [f64; LEN], lines: [&[f64; LEN]; N], weights: &[f64; N]) {
    for s in 0..LEN {
        let mut sum = weights[N / 2] * lines[N / 2][s];
        for k in 0..N / 2 {
            sum += weights[k] * (lines[k][s] + lines[N - 1 - k][s]);
        }
        out[s] = sum;
    }
}

/// SSIM of windows whose moments are these.
#[inline(always)]
fn compare(map: &mut [f64; INNER], [x, y, squares, product]: &Moments<INNER>, covariance_factor: f64) {
    const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
    const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
    for s in 0..INNER {
        let (means, mean_squares) = (x[s] * y[s], x[s] * x[s] + y[s] * y[s]);
        let covariance = covariance_factor * (product[s] - means);
        let variances = covariance_factor * (squares[s] - mean_squares);
        map[s] = ((2.0 * means + C1) * (2.0 * covariance + C2)) / ((mean_squares + C1) * (variances + C2));
    }
}

/// Adds `values` to eight sums in turn: one order of additions for every processor.
#[inline(always)]
fn add(sums: &mut [f64; 8], values: &[f64]) {
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for lane in 0..8 {
            sums[lane] += chunk[lane];
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value;
    }
}
