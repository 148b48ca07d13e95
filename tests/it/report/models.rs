//! Findings of models made by hand: two that were generated from two seeds each, two from elsewhere, a reconstruction, and
//! one model in several shapes.

use std::path::Path;

use jobctl::image::{Rgb, jpeg, thumbnail};
use jobctl::job::task::making::{FileFormat, Latent, Partition, Precision};
use jobctl::job::task::{MetricId, Picture};
use jobctl::job::{Hash, State};
use jobctl::metrics::{self, PoolItem, TABLE};
use jobctl::store::findings::{Caption, Effort, Findings, Image, Making, Original, Score, SetScore, Source};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// As many pixels as count as the paper's 2048 class.
pub const SIDE: u32 = 1472;
/// Room for two details beside each other.
const SMALL_SIDE: u32 = 640;
pub const PROMPTS: [(&str, &str); 6] = [
    ("bridge", "A stone bridge over a mountain stream after rain, moss on every stone"),
    ("evil", "</p><script>alert(7)</script><img src=x onerror=alert(8)>"),
    ("harbour", "Fishing boats in a harbour at dawn, ropes and nets in fine detail"),
    ("lady", "An elegant lady in a flowing red dress stands among autumn leaves"),
    ("shop", "A shop window with the words \"FRESH BREAD\" painted on the glass"),
    ("valley", "A valley seen from a ridge, pines in the foreground, haze behind"),
];

/// Who made a source's pictures, how rough they are, and how good its scores.
struct Maker {
    name: &'static str,
    model: Option<&'static str>,
    making: Option<Making>,
    size: (u32, u32),
    roughness: f64,
    quality: f64,
}

fn generated(model: &str, (width, height): (u32, u32), seed: u64) -> Making {
    Making::Generated {
        model: model.to_owned(),
        width,
        height,
        steps: 28,
        guidance: 7.0,
        negative: Some(String::new()),
        seed,
        t5_tokens: 77,
        dtype: Precision::Bf16,
        partition: Partition::Exact,
        format: FileFormat::Jpeg95,
    }
}

fn makers(square: (u32, u32)) -> Vec<Maker> {
    let (plain, tuned) = ("models/sd3-f16", "models/sd3-f16-wlf");
    let made = |name, model, size, seed, roughness, quality| Maker {
        name,
        model: Some(model),
        making: Some(generated(model, size, seed)),
        size,
        roughness,
        quality,
    };
    let elsewhere =
        |name, model, roughness, quality| Maker { name, model, making: None, size: square, roughness, quality };
    let reconstructed = Making::Reconstructed {
        model: plain.to_owned(),
        of: "photographs".to_owned(),
        latent: Latent::Mean,
        partition: Partition::Exact,
        dtype: Precision::F32,
    };
    vec![
        elsewhere("photographs", None, 1.0, 0.2),
        made("SD3-F16@2048 seed=0", plain, square, 0, 0.5, 0.0),
        made("SD3-F16@2048 seed=1", plain, square, 1, 0.5, 0.0),
        made("SD3-F16-WLF@2048 seed=0", tuned, square, 0, 0.9, 0.14),
        made("SD3-F16-WLF@2048 seed=1", tuned, square, 1, 0.9, 0.14),
        elsewhere("Sana", Some("Sana"), 0.35, -0.3),
        elsewhere("PixArt", Some("PixArt-Σ"), 0.55, 0.005),
        made("shapes size=192x256 seed=0", tuned, (192, 256), 0, 0.9, 0.1),
        made("shapes size=192x256 seed=1", tuned, (192, 256), 1, 0.9, 0.1),
        made("shapes size=256x192 seed=0", tuned, (256, 192), 0, 0.9, 0.1),
        made("shapes size=256x192 seed=1", tuned, (256, 192), 1, 0.9, 0.1),
        Maker {
            name: "SD3-VAE-F16",
            model: None,
            making: Some(reconstructed),
            size: square,
            roughness: 0.8,
            quality: 0.1,
        },
    ]
}

/// Grain of its own for every sample, `roughness` times as strong on the right half, in rows that repeat.
fn texture(sample: usize, (width, height): (u32, u32), roughness: f64) -> Rgb {
    let mut rng = Pcg64::seed_from_u64(sample as u64);
    let mut rows = Vec::new();
    for _ in 0..32 {
        for x in 0..width {
            let grain = (rng.next_u64() >> 56) as f64 - 128.0;
            let strength = if x > width / 2 { roughness } else { 0.3 };
            let value = (120.0 + 10.0 * sample as f64 + 0.5 * strength * grain) as u8;
            rows.extend([value, value.saturating_sub(12), value / 2]);
        }
    }
    let n_bytes = 3 * width as usize * height as usize;
    let mut pixels = Vec::with_capacity(n_bytes);
    while pixels.len() < n_bytes {
        pixels.extend_from_slice(&rows[..rows.len().min(n_bytes - pixels.len())]);
    }
    Rgb { width, height, pixels }
}

fn id(name: &str) -> MetricId {
    TABLE.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name} is a metric")).id()
}

/// The compression ratios of a source, as its set is scored from them.
pub fn items(source: usize, images: &[Image], scores: &[Score]) -> Vec<PoolItem> {
    let of_source = |it: &&Score| images[it.image].source == source && it.metric == id("compression_ratio");
    let item = |it: &Score| {
        let (width, height) = images[it.image].size?;
        Some(PoolItem { width, height, value: it.value? })
    };
    scores.iter().filter(of_source).filter_map(item).collect()
}

/// Findings whose pictures lie in `directory`, where they are made by `picture` of sample, size and roughness.
fn findings_of(directory: &Path, side: u32, picture: impl Fn(usize, (u32, u32), f64) -> Rgb) -> Findings {
    let makers = makers((side, side));
    let mut rng = Pcg64::seed_from_u64(5);
    let (mut images, mut scores): (Vec<Image>, Vec<Score>) = (Vec::new(), Vec::new());
    for (source, maker) in makers.iter().enumerate() {
        for (sample, (name, prompt)) in PROMPTS.iter().enumerate() {
            let pixels = picture(sample, maker.size, maker.roughness);
            let mut bytes = jpeg::encode(&pixels, 90).unwrap();
            // Two seeds of one model have the same pixels here, but not the same file.
            bytes.extend([source as u8, sample as u8]);
            let path = directory.join(format!("{source}-{sample}.jpg"));
            std::fs::write(&path, &bytes).unwrap();
            let preview = directory.join(format!("{source}-{sample}-small.jpg"));
            std::fs::write(&preview, jpeg::encode(&thumbnail(&pixels, 256), 80).unwrap()).unwrap();
            let file = Picture::of_file(Hash::of(&bytes), Vec::new());
            let is_reconstruction = matches!(maker.making, Some(Making::Reconstructed { .. }));
            let original = is_reconstruction
                .then(|| Original { picture: images[sample].picture.clone(), path: images[sample].path.clone() });
            images.push(Image {
                source,
                sample: (*name).to_owned(),
                key: file.key(),
                picture: file.clone(),
                size: Some(maker.size),
                path: Some(path),
                content: file.content,
                prompt: matches!(maker.making, Some(Making::Generated { .. })).then(|| (*prompt).to_owned()),
                n_cut: Vec::new(),
                original,
                preview: Some(preview),
            });
            let mut score = |metric: &str, base: f64, scale: f64| {
                // The sample's own share is the same for all models; chance is small beside quality.
                let share = (sample as f64 * 0.37).fract();
                let chance = 0.03 * ((rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 - 0.5);
                let value = Some(base + scale * (share + maker.quality + chance));
                let (metric, image) = (id(metric), images.len() - 1);
                scores.push(Score { image, metric, value, why: None, note: None });
            };
            score("glcm_score", 0.7, 0.5);
            score("compression_ratio", 12.0, -3.0);
            if is_reconstruction {
                score("psnr", 28.0, 4.0);
                score("ssim", 0.8, 0.1);
                score("nmse", 0.1, -0.02);
            }
        }
    }
    let ratio = metrics::find(&id("compression_ratio")).unwrap();
    let pooled = |source: usize| SetScore {
        source,
        metric: ratio.id(),
        value: metrics::pool(ratio, &items(source, &images, &scores)),
        why: None,
        n: PROMPTS.len() as u64,
    };
    // The files say what most photographs show, a machine what one of them does.
    let said = |image: usize, by: Option<&str>, text: &str| Caption {
        image,
        by: by.map(str::to_owned),
        text: text.to_owned(),
    };
    let mut captions: Vec<Caption> = PROMPTS[..5].iter().enumerate().map(|(idx, it)| said(idx, None, it.1)).collect();
    captions.push(said(2, Some("gpt-4o-2024-08-06"), "Boats, ropes & <b>nets</b> at dawn"));
    let generated = |it: &&Image| matches!(makers[it.source].making, Some(Making::Generated { .. }));
    let efforts = images.iter().enumerate().filter(|it| generated(&it.1)).map(|(image, it)| Effort {
        image,
        step_s: Some(0.5 + it.source as f64 + 0.01 * (image % PROMPTS.len()) as f64),
        denoise_gib: Some(6.5),
        decode_gib: Some(7.75),
        device: Some("NVIDIA H100 80GB HBM3".to_owned()),
    });
    Findings {
        efforts: efforts.collect(),
        captions,
        trainings: Vec::new(),
        sweep: "models-0a1b2c3d".to_owned(),
        name: "models".to_owned(),
        definition: "name = \"models\"\n".to_owned(),
        enqueued_at: "2026-11-22T19:50:00Z".to_owned(),
        read_at: "2026-11-22T23:52:31Z".to_owned(),
        program: "jobctl 0.1.0".to_owned(),
        machines: vec!["alder: 1 GPU".to_owned()],
        busy_seconds: 14_700.0,
        jobs: vec![(State::Done, 153)],
        ratings: Vec::new(),
        verdicts: Vec::new(),
        asked: Vec::new(),
        set_scores: (0..makers.len()).map(pooled).collect(),
        sources: makers
            .into_iter()
            .map(|it| Source {
                name: it.name.to_owned(),
                model: it.model.map(str::to_owned),
                rung: None,
                making: it.making,
            })
            .collect(),
        images,
        scores,
        failures: Vec::new(),
    }
}

/// Findings with grain for pictures.
pub fn findings(directory: &Path) -> Findings {
    findings_of(directory, SMALL_SIDE, texture)
}

/// The same of pictures of [`SIDE`] pixels, with files that nobody looks at.
pub fn numbers(directory: &Path) -> Findings {
    findings_of(directory, SIDE, |_, _, _| Rgb::new(8, 8))
}
