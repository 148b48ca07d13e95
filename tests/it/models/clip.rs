//! CLIP's vision encoder and LAION's predictor against transformers; networks that are not what they ought to be.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use jobctl::image::{Rgb, files, resize};
use jobctl::metrics::{self, Metric, Network, Subject};
use jobctl::models::clip::picture::Preparation;
use jobctl::models::clip::vision::ClipVision;
use jobctl::models::package::{Layout, Package};
use jobctl::models::weights::Weights;
use serde_json::Value;

use crate::support::golden;

fn package(path: &Path) -> Package {
    Package::open_as(path, Layout::Transformers).unwrap()
}

fn aesthetics() -> (&'static Metric, &'static Network) {
    let metric = metrics::parse("aesthetics").unwrap()[0];
    (metric, metrics::network(metric).unwrap())
}

/// One of the goldens' pictures: a file, or `WxH` by the rule of make_clip.py.
fn picture(name: &str) -> Rgb {
    let Some((width, height)) = name.split_once('x').filter(|_| !name.ends_with(".png")) else {
        return files::read(&golden("images").join(name), u64::MAX).unwrap().0;
    };
    let (width, height): (u32, u32) = (width.parse().unwrap(), height.parse().unwrap());
    let places = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (x, y, c))));
    let level = |(x, y, c): (u32, u32, u32)| (x * x / 40 + 3 * y + x * y / 50 * c + 40 * c) as u8;
    Rgb { width, height, pixels: places.map(level).collect() }
}

/// The folder of one of the networks, copied to be spoilt.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for it in fs::read_dir(golden("clip").join(name)).unwrap() {
        let it = it.unwrap();
        fs::copy(it.path(), folder.path().join(it.file_name())).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

/// Changes a text of one of the folder's files.
fn change(folder: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    assert!(text.contains(from), "{file}: {text}");
    fs::write(folder.join(file), text.replace(from, to)).unwrap();
}

#[test]
fn embeddings_and_scores_are_those_of_transformers() {
    let expected: Value = serde_json::from_str(&fs::read_to_string(golden("clip/expected.json")).unwrap()).unwrap();
    let (metric, network) = aesthetics();
    for (name, pictures) in expected.as_object().unwrap() {
        let package = package(&golden("clip").join(name));
        network.check(&package).unwrap();
        let weights = Weights::open(&package.weights("").unwrap(), &Device::Cpu, DType::F32).unwrap();
        let clip = ClipVision::open(&package, &weights).unwrap();
        let scorer = network.open(&package, &Device::Cpu).unwrap();
        let preparation = Preparation::read(&package.root).unwrap();
        assert!(pictures.as_object().unwrap().len() >= 8);
        for (shown, it) in pictures.as_object().unwrap() {
            let rgb = picture(shown);
            assert_eq!(it["size"], serde_json::json!([rgb.width, rgb.height]), "{shown}");
            let pixels = preparation.prepare(&rgb).unwrap().to_dtype(DType::F64).unwrap().sum_all().unwrap();
            let pixels: f64 = pixels.to_scalar().unwrap();
            assert!(
                (pixels - it["pixels"].as_f64().unwrap()).abs() < 0.02,
                "{name} {shown}: {pixels} {}",
                it["pixels"]
            );
            let embedding = clip.embed(&rgb).unwrap();
            let wanted = it["embedding"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap());
            let most = embedding.iter().zip(wanted).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(embedding.len() == 768 && most < 1e-5, "{name} {shown}: {most}");
            let subject = Subject { rgb: &rgb, file_bytes: None, reference: None };
            let score = scorer.score(&[metric], &subject).unwrap().remove(0).value.unwrap();
            assert!((score - it["score"].as_f64().unwrap()).abs() < 1e-4, "{name} {shown}: {score} {}", it["score"]);
        }
    }
}

#[test]
fn a_part_of_a_resized_picture_is_a_part_of_the_whole_one() {
    let rgb = picture("301x517");
    for (width, height) in [(301, 517), (224, 384), (90, 1000), (301, 60)] {
        let whole = resize::resize(&rgb, width, height, resize::Filter::Bicubic);
        let (x, y, w, h) = (width / 3, height / 4, width / 2, height / 2);
        let part = resize::resize_part(&rgb, (width, height), (x, y, w, h), resize::Filter::Bicubic);
        for row in 0..h as usize {
            let at = 3 * ((y as usize + row) * width as usize + x as usize);
            let n = 3 * w as usize;
            assert_eq!(part.pixels[row * n..(row + 1) * n], whole.pixels[at..at + n], "{width}x{height}");
        }
    }
}

#[test]
fn a_strip_takes_no_more_memory_than_its_middle() {
    // Its shorter side is enlarged to 224 pixels, the longer one would have 14 million.
    let strip = Rgb { width: 65_000, height: 1, pixels: [9, 200, 77].repeat(65_000) };
    let pixels = Preparation::default().prepare(&strip).unwrap();
    let first: Vec<f32> = pixels.flatten_all().unwrap().to_vec1().unwrap();
    assert!(first[..224 * 224].iter().all(|it| *it == first[0]));
}

#[test]
fn what_a_network_asks_for_is_done_or_refused() {
    let asked = |from: &str, to: &str| -> Result<Vec<f32>, String> {
        let (_folder, path) = copy("whole");
        change(&path, "preprocessor_config.json", from, to);
        let preparation = Preparation::read(&path).map_err(|it| format!("{it:#}"))?;
        Ok(preparation.prepare(&picture("301x517")).unwrap().flatten_all().unwrap().to_vec1().unwrap())
    };
    let plain = asked("\"resample\": 3", "\"resample\": 3").unwrap();
    for (from, to) in [
        ("\"resample\": 3", "\"resample\": 2"),
        ("\"shortest_edge\": 40", "\"shortest_edge\": 36"),
        ("0.48145466", "0.5"),
        ("0.26862954", "0.25"),
        ("0.00392156862745098", "0.0078"),
    ] {
        let other = asked(from, to).unwrap();
        assert!(other.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 0.01), "{to}");
    }
    for (from, to, words) in [
        ("\"do_center_crop\": true", "\"do_center_crop\": false", "`do_center_crop` is false"),
        ("\"shortest_edge\": 40", "\"height\": 40, \"width\": 40", "`size` is"),
        ("\"width\": 32", "\"width\": 48", "`crop_size` is"),
        ("\"resample\": 3", "\"resample\": 0", "`resample` is 0"),
        ("\"shortest_edge\": 40", "\"shortest_edge\": 31", "`crop_size` 32 is more than `size` 31"),
        ("0.26862954", "0", "`image_std` is not above 0"),
        ("\"image_mean\": [", "\"image_mean\": [1,", "`image_mean` is"),
    ] {
        let error = asked(from, to).unwrap_err();
        assert!(error.contains(words) && error.contains("preprocessor_config.json"), "{error}");
    }
}

#[test]
fn another_network_is_refused_and_told_why() {
    let (_, network) = aesthetics();
    let check = |change: &dyn Fn(&Path), words: &[&str]| {
        let (_folder, path) = copy("whole");
        change(&path);
        let error = Package::open_as(&path, Layout::Transformers).and_then(|it| network.check(&it)).unwrap_err();
        let error = format!("{error:#}");
        assert!(words.iter().all(|it| error.contains(it)), "{words:?}: {error}");
    };
    let config = |from: &'static str, to: &'static str| move |path: &Path| change(path, "config.json", from, to);
    check(
        &config("\"projection_dim\": 768", "\"projection_dim\": 512"),
        &["have 512 numbers", "768", "for aesthetics"],
    );
    check(&config("\"hidden_size\": 24", "\"hidden_size\": 48"), &["contradict the config", "vision_model.", "wanted"]);
    check(&config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"), &["are missing", "layers.3."]);
    check(&config("\"model_type\": \"clip\"", "\"model_type\": \"bert\""), &["type `bert`"]);
    check(&config("\"image_size\": 32", "\"image_size\": 40"), &["`image_size` is 40", "crops to 32"]);
    check(&config("\"num_attention_heads\": 3", "\"num_attention_heads\": 5"), &["does not divide"]);
    check(&|path| fs::remove_file(path.join("model.safetensors")).unwrap(), &["has no weights"]);
    check(&|path| fs::write(path.join("model.safetensors"), "no").unwrap(), &["model.safetensors", "complete"]);
    check(&|path| fs::remove_file(path.join("config.json")).unwrap(), &["no config.json"]);
    let pipeline = Package::open_as(&golden("sd3/tiny"), Layout::Transformers).unwrap_err();
    assert!(pipeline.to_string().contains("the package of a pipeline"), "{pipeline}");
}

#[test]
fn an_older_config_and_shards_mean_the_same() {
    let (_, network) = aesthetics();
    let (_folder, path) = copy("whole");
    let read = || jobctl::models::clip::vision::Config::read(&path.join("config.json")).unwrap();
    let new = read();
    // transformers lets `vision_config_dict` win, all of it.
    change(
        &path,
        "config.json",
        "\"vision_config\"",
        "\"vision_config\": {\"hidden_size\": 1}, \"vision_config_dict\"",
    );
    assert_eq!(read(), new);
    let weights = candle_core::safetensors::load(path.join("model.safetensors"), &Device::Cpu).unwrap();
    let (front, back): (std::collections::HashMap<_, _>, _) =
        weights.into_iter().partition(|it| it.0.contains("layers.1"));
    let mut map = serde_json::Map::new();
    for (idx, part) in [front, back].iter().enumerate() {
        let name = format!("model-{idx}.safetensors");
        candle_core::safetensors::save(part, path.join(&name)).unwrap();
        map.extend(part.keys().map(|it| (it.clone(), name.clone().into())));
    }
    fs::remove_file(path.join("model.safetensors")).unwrap();
    fs::write(path.join("model.safetensors.index.json"), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    network.check(&package(&path)).unwrap();
}
