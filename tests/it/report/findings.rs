//! Findings made by hand: eight pictures, four ladders, plausible scores, and everything that can go wrong.

use std::path::Path;

use jobctl::image::{Rgb, jpeg};
use jobctl::job::task::{MetricId, Picture, Step};
use jobctl::job::{Hash, JobId, State};
use jobctl::metrics;
use jobctl::store::findings::{Failure, Findings, Image, Rung, Score, SetScore, Source};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::models::items;

pub const SIDE: u32 = 448;
pub const HOSTILE: [&str; 2] = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(2)>"];
const SAMPLES: [&str; 8] =
    ["bridge", HOSTILE[0], "coast/evening", "forest", HOSTILE[1], "market", "peak & valley", "street"];
const METRICS: [(&str, &str); 7] = [
    ("glcm_score", "authors"),
    ("glcm_entropy", "bits"),
    ("compression_ratio", "jpeg95"),
    ("psnr", "rgb"),
    ("ssim", "torchmetrics"),
    ("ssim", "skimage"),
    ("nmse", "rmse_over_mean"),
];

/// A picture with fine and coarse texture, different for each seed.
pub fn picture(seed: u64, width: u32, height: u32) -> Rgb {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let waves: Vec<[f64; 4]> = (0..12)
        .map(|it| {
            let pitch = 0.006 * 1.6_f64.powi(it) * (0.6 + unit());
            let turn = unit() * std::f64::consts::TAU;
            [pitch * turn.cos(), pitch * turn.sin(), unit() * 6.0, 60.0 / (1.0 + f64::from(it))]
        })
        .collect();
    let mut pixels = Vec::with_capacity((3 * width * height) as usize);
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (f64::from(x), f64::from(y));
            // Detail fades towards the left, so that one place is worth a look.
            let sharp = x / f64::from(width);
            let value = |shift: f64| {
                let sum: f64 = waves
                    .iter()
                    .enumerate()
                    .map(|(idx, [a, b, c, d])| {
                        d * (a * x + b * y + c + shift).sin() * if idx > 6 { 3.0 * sharp } else { 1.0 }
                    })
                    .sum();
                (120.0 + sum).clamp(0.0, 255.0) as u8
            };
            pixels.extend([value(0.0), value(0.25), value(0.6)]);
        }
    }
    Rgb { width, height, pixels }
}

fn source(name: &str, rung: Option<Rung>) -> Source {
    Source { name: name.to_owned(), model: None, rung, making: None }
}

/// The sources in the order of a sweep, and what is done to a file for each.
fn sources() -> Vec<(Source, Vec<Step>)> {
    let crop = Step::Crop { size: SIDE };
    let mut sources = vec![(source("photos", None), vec![]), (source("crops", None), vec![crop])];
    let ladders: [(&str, &str, &[f64]); 4] = [
        ("blur", "sigma", &[0.5, 1.0, 2.0, 4.0]),
        ("resize", "factor", &[2.0, 4.0, 8.0, 16.0]),
        ("jpeg", "quality", &[90.0, 70.0, 50.0, 30.0, 10.0]),
        ("noise", "sigma", &[2.0, 4.0, 8.0, 16.0]),
    ];
    for (kind, parameter, levels) in ladders {
        for &level in levels {
            let step = match kind {
                "blur" => Step::Blur { sigma: level },
                "resize" => Step::Resize { factor: level },
                "jpeg" => Step::Jpeg { quality: level as u8 },
                _ => Step::Noise { sigma: level, seed: 1 },
            };
            let rung = Rung {
                ladder: format!("crops {kind}"),
                of: "crops".to_owned(),
                kind: kind.to_owned(),
                parameter: parameter.to_owned(),
                level,
                severity: if kind == "jpeg" { -level } else { level },
            };
            sources.push((source(&format!("crops {kind} {parameter}={level}"), Some(rung)), vec![crop, step]));
        }
    }
    sources
}

fn id(name: &str, variant: &str) -> MetricId {
    metrics::TABLE
        .iter()
        .find(|it| it.name == name && it.variant == variant)
        .unwrap_or_else(|| panic!("{name}:{variant} is a metric"))
        .id()
}

/// A plausible score: what kind of damage, how far up its ladder (0 to 1), how textured the sample is, and chance.
fn score(metric: &str, kind: Option<&str>, harm: f64, texture: f64, chance: f64) -> Option<f64> {
    let smoothing = match kind {
        Some("noise") => -0.9 * harm,
        Some("jpeg") => 0.35 * harm,
        _ => harm,
    };
    match metric {
        "glcm_score" => Some(2.2 + 1.1 * texture - 1.3 * smoothing + 0.05 * chance),
        "glcm_entropy" => Some(7.5 + 2.0 * texture - 2.0 * smoothing + 0.05 * chance),
        // Too much chance to see the mild end of the JPEG ladder.
        "compression_ratio" => {
            let slope = if kind == Some("jpeg") { 0.6 } else { 5.5 };
            Some((11.0 - 5.0 * texture + slope * smoothing + 1.2 * chance).max(1.5))
        }
        "psnr" => kind.map(|_| 44.0 - 20.0 * harm - 3.0 * texture + 0.4 * chance),
        "ssim" => Some(if kind.is_some() { 1.0 - 0.5 * harm.powf(1.3) - 0.004 * (chance + 1.0) } else { 1.0 }),
        _ => Some(if kind.is_some() { 0.002 + 0.2 * harm * harm + 0.0005 * chance } else { 0.0 }),
    }
}

/// Findings whose pictures lie in `directory`, where they are made.
pub fn findings(directory: &Path) -> Findings {
    let files: Vec<Vec<u8>> =
        (0..SAMPLES.len()).map(|it| jpeg::encode(&picture(it as u64, SIDE + 192, SIDE + 32), 92).unwrap()).collect();
    for (idx, bytes) in files.iter().enumerate() {
        std::fs::write(directory.join(format!("{idx}.jpg")), bytes).unwrap();
    }
    let sources = sources();
    let mut rng = Pcg64::seed_from_u64(3);
    let (mut images, mut scores) = (Vec::new(), Vec::new());
    for (source_idx, (source, steps)) in sources.iter().enumerate() {
        for (sample_idx, sample) in SAMPLES.iter().enumerate() {
            let picture = Picture::of_file(Hash::of(&files[sample_idx]), steps.clone());
            let path = directory.join(format!("{sample_idx}.jpg"));
            images.push(Image {
                source: source_idx,
                sample: (*sample).to_owned(),
                key: picture.key(),
                size: Some(if steps.is_empty() { (SIDE + 192, SIDE + 32) } else { (SIDE, SIDE) }),
                content: picture.content,
                picture,
                path: Some(path),
                prompt: None,
                n_cut: Vec::new(),
                original: None,
                preview: None,
            });
            let rung = source.rung.as_ref();
            let harm = rung.map_or(0.0, |it| {
                let most = match it.kind.as_str() {
                    "blur" => 4.0,
                    "jpeg" => 90.0,
                    _ => 16.0,
                };
                if it.kind == "jpeg" { (100.0 - it.level) / most } else { it.level / most }
            });
            let texture = (sample_idx as f64 * 0.37 + 0.2).fract();
            for (metric, variant) in METRICS {
                let chance = 2.0 * ((rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64) - 1.0;
                // One failed job: the sixth sample of the third source has no scores at all.
                if (source_idx, sample_idx) == (2, 5) {
                    continue;
                }
                let value = score(metric, rung.map(|it| it.kind.as_str()), harm, texture, chance);
                let note = (metric == "glcm_score").then(|| "leaves out 32 rows of pixels".to_owned());
                let why = value.is_none().then(|| "the images are equal".to_owned());
                scores.push(Score { image: images.len() - 1, metric: id(metric, variant), value, why, note });
            }
        }
    }
    let set_scores = (0..sources.len())
        .map(|source| SetScore {
            source,
            metric: id("compression_ratio", "jpeg95"),
            // That of the last source was computed of other scores than it has now.
            value: match metrics::pool(
                metrics::find(&id("compression_ratio", "jpeg95")).unwrap(),
                &items(source, &images, &scores),
            ) {
                Some(it) if source == sources.len() - 1 => Some(it + 1.0),
                it => it,
            },
            why: None,
            n: if source == 2 { 7 } else { 8 },
        })
        .collect();
    Findings {
        sweep: "demo-3f9a2c01".to_owned(),
        name: "demo <b>& more</b>".to_owned(),
        definition: "name = \"demo\"\n\n[[images]]\nname = \"photos\" # </pre><script>alert(3)</script>\n".to_owned(),
        enqueued_at: "2026-11-22T19:50:00Z".to_owned(),
        read_at: "2026-11-22T19:52:31Z".to_owned(),
        program: "jobctl 0.1.0 (e35de98)".to_owned(),
        machines: vec!["alder: 2 cores, 24 GiB".to_owned(), "<i>birch</i>: 16 cores".to_owned()],
        busy_seconds: 147.3,
        jobs: vec![(State::Done, 153), (State::Failed, 1), (State::Skipped, 1)],
        sources: sources.into_iter().map(|it| it.0).collect(),
        images,
        scores,
        trainings: Vec::new(),
        ratings: Vec::new(),
        verdicts: Vec::new(),
        asked: Vec::new(),
        captions: Vec::new(),
        efforts: Vec::new(),
        set_scores,
        failures: vec![
            Failure {
                job: JobId(41),
                kind: "evaluate".to_owned(),
                state: State::Failed,
                source: Some(2),
                sample: Some(SAMPLES[5].to_owned()),
                error: "decode <market.jpg>: premature end of JPEG data at byte 18,211".to_owned(),
                n_attempts: 3,
                out_of_memory: false,
            },
            Failure {
                job: JobId(154),
                kind: "pool".to_owned(),
                state: State::Skipped,
                source: None,
                sample: None,
                error: "job 41 ended without a result".to_owned(),
                n_attempts: 0,
                out_of_memory: false,
            },
        ],
    }
}
