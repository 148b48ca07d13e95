//! Tokenizers and text encoders against transformers, encoded prompts against diffusers.

mod faults;

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use jobctl::models::package::Package;
use jobctl::models::text::tokenizer::{Kind, Tokenizer};
use jobctl::models::text::{Encoded, TextEncoders, clip, t5};
use jobctl::models::weights::Weights;
use serde_json::Value;

use super::{PACKAGES, difference, golden, json, outputs, values};

/// Of the largest value.
const CLOSE: f32 = 2e-5;

fn ids_of(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn encoders(package: &str) -> TextEncoders {
    TextEncoders::load(&golden(package), &Device::Cpu, DType::F32).unwrap()
}

/// Copies a folder of plain files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|it| it.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(entry, target).unwrap();
        }
    }
}

#[test]
fn a_thousand_captions_have_the_ids_of_transformers() {
    let captions = json("captions.json");
    let captions = captions.as_array().unwrap();
    assert_eq!(captions.len(), 1000);
    let mut folders = Vec::new();
    for package in PACKAGES {
        folders.push((format!("{package}/tokenizer"), Kind::Clip, "clip", "clip"));
        folders.push((format!("{package}/tokenizer_2"), Kind::Clip, "clip_2", "clip"));
    }
    folders.push(("tiny/tokenizer_3".to_owned(), Kind::T5, "t5", "t5"));
    folders.push(("deep/tokenizer_3".to_owned(), Kind::T5, "t5_json", "t5"));
    for (folder, kind, key, otherwise) in folders {
        let tokenizer = Tokenizer::open(&golden(&folder), kind).unwrap();
        assert_eq!(tokenizer.max_len(), Some(if kind == Kind::Clip { 77 } else { 512 }));
        for caption in captions {
            let text = caption["text"].as_str().unwrap();
            let wanted = ids_of(caption.get(key).unwrap_or(&caption[otherwise]));
            let found = tokenizer.ids(text, 77).unwrap();
            let (ids, padding) = found.ids.split_at(wanted.len());
            assert_eq!(ids, wanted, "{folder}: {text:?}");
            assert!(padding.windows(2).all(|it| it[0] == it[1]), "{folder}: {text:?}");
            assert!(found.n_cut == 0 || wanted.len() == 77);
        }
    }
}

#[test]
fn settings_of_tokenizers_mean_what_they_mean_to_transformers() {
    let variants = json("text/tokenizers.json");
    assert_eq!(variants.as_array().unwrap().len(), 9);
    for variant in variants.as_array().unwrap() {
        let name = variant["name"].as_str().unwrap();
        let kind = if name.starts_with("T5") { Kind::T5 } else { Kind::Clip };
        let folder = tempfile::tempdir().unwrap();
        for file in ["vocab.json", "merges.txt", "spiece.model"] {
            let source = golden(variant["source"].as_str().unwrap()).join(file);
            if source.exists() {
                fs::copy(source, folder.path().join(file)).unwrap();
            }
        }
        for (file, content) in variant["files"].as_object().unwrap() {
            fs::write(folder.path().join(file), content.to_string()).unwrap();
        }
        let tokenizer = Tokenizer::open(folder.path(), kind).unwrap();
        let length = usize::try_from(variant["length"].as_u64().unwrap()).unwrap();
        for case in variant["cases"].as_array().unwrap() {
            let found = tokenizer.ids(case["text"].as_str().unwrap(), length).unwrap();
            assert_eq!(found.ids, ids_of(&case["ids"]), "{name}: {:?}", case["text"]);
            assert_eq!(Value::from(found.n_cut), case["n_cut"], "{name}: {:?}", case["text"]);
        }
    }
}

#[test]
fn encoders_give_the_states_of_transformers() {
    for name in PACKAGES {
        let package = Package::open(&golden(name)).unwrap();
        let wanted = outputs(name);
        let of = |text: &str, part: &str| &wanted[&format!("text.{text}.{part}")];
        let ids = |text: &str, part: &str| {
            let ids = of(text, &format!("{part}.ids")).flatten_all().unwrap().to_dtype(DType::U32).unwrap();
            ids.to_vec1::<u32>().unwrap()
        };
        for (component, part) in [("text_encoder", "clip_1"), ("text_encoder_2", "clip_2")] {
            let config = clip::Config::read(&package.config(component)).unwrap();
            let weights = Weights::open(&package.weights(component).unwrap(), &Device::Cpu, DType::F32).unwrap();
            let model = clip::ClipText::load(&config, &weights).unwrap();
            assert!(weights.faults().is_empty(), "{}", weights.faults());
            for text in ["empty", "lighthouse", "odd"] {
                let found = model.forward(&ids(text, part)).unwrap();
                let hidden = difference(&found.hidden, of(text, &format!("{part}.hidden")));
                let pooled = difference(&found.pooled, of(text, &format!("{part}.pooled")));
                assert!(hidden < CLOSE && pooled < CLOSE, "{name}, {part}, {text}: {hidden} {pooled}");
            }
        }
        if package.has("text_encoder_3") {
            let config = t5::Config::read(&package.config("text_encoder_3")).unwrap();
            let weights = Weights::open(&package.weights("text_encoder_3").unwrap(), &Device::Cpu, DType::F32).unwrap();
            let model = t5::T5Encoder::load(&config, &weights).unwrap();
            assert!(weights.faults().is_empty(), "{}", weights.faults());
            for text in ["empty", "lighthouse", "odd"] {
                let hidden = model.forward(&ids(text, "t5")).unwrap();
                let hidden = difference(&hidden, of(text, "t5.hidden"));
                assert!(hidden < CLOSE, "{name}, t5, {text}: {hidden}");
            }
        }
    }
}

#[test]
fn a_t5_of_the_first_kind_gives_the_states_of_transformers() {
    let folder = golden("text/t5_relu");
    let config = t5::Config::read(&folder.join("config.json")).unwrap();
    assert!(!config.is_gated_act);
    let weights = Weights::open(&[folder.join("model.safetensors")], &Device::Cpu, DType::F32).unwrap();
    let model = t5::T5Encoder::load(&config, &weights).unwrap();
    assert!(weights.faults().is_empty(), "{}", weights.faults());
    let wanted = candle_core::safetensors::load(golden("text/t5_relu.safetensors"), &Device::Cpu).unwrap();
    let ids = wanted["ids"].flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let hidden = difference(&model.forward(&ids).unwrap(), &wanted["hidden"]);
    assert!(hidden < CLOSE, "{hidden}");
}

#[test]
fn prompts_are_encoded_as_diffusers_does() {
    for name in PACKAGES {
        let (info, wanted, encoders) = (json(&format!("{name}.json")), outputs(name), encoders(name));
        for (key, prompt) in info["prompts"].as_object().unwrap() {
            let n_tokens = usize::try_from(prompt["t5_tokens"].as_u64().unwrap()).unwrap();
            let found = encoders.encode(prompt["text"].as_str().unwrap(), n_tokens).unwrap();
            let context = difference(&found.context.unsqueeze(0).unwrap(), &wanted[&format!("prompt.{key}.embeds")]);
            let pooled = difference(&found.pooled.unsqueeze(0).unwrap(), &wanted[&format!("prompt.{key}.pooled")]);
            assert!(context < CLOSE && pooled < CLOSE, "{name}, {key}: {context} {pooled}");
            assert_eq!(found.n_cut[0] > 0, key.starts_with("long"), "{name}, {key}");
        }
    }
}

#[test]
fn one_encoder_after_the_other_gives_the_same() {
    for name in PACKAGES {
        let prompts = ["", "a red fox", "a red fox", "wow!"];
        let all = TextEncoders::encode_all(&golden(name), &Device::Cpu, DType::F32, &prompts, 9).unwrap();
        let encoders = encoders(name);
        for (prompt, found) in prompts.iter().zip(&all) {
            let alone = encoders.encode(prompt, 9).unwrap();
            assert_eq!(values(&found.context), values(&alone.context));
            assert_eq!(values(&found.pooled), values(&alone.pooled));
        }
        assert_eq!(all[1].to_bytes().unwrap(), all[2].to_bytes().unwrap());
    }
}

#[test]
fn an_encoded_prompt_survives_its_file() {
    let encoded = encoders("tiny").encode(&"a long way home, ".repeat(50), 16).unwrap();
    let bytes = encoded.to_bytes().unwrap();
    let read = Encoded::from_bytes(&bytes).unwrap();
    assert_eq!(values(&read.context), values(&encoded.context));
    assert_eq!(read.context.dims(), encoded.context.dims());
    assert_eq!(values(&read.pooled), values(&encoded.pooled));
    assert_eq!(read.n_cut, encoded.n_cut);
    assert!(encoded.n_cut.iter().all(|it| *it > 0));
    for n in 0..bytes.len() {
        assert!(Encoded::from_bytes(&bytes[..n]).is_err());
    }
}

#[test]
fn five_thousand_tokens_are_cut_and_counted() {
    let found = encoders("tiny").encode(&"a ".repeat(5000), 77).unwrap();
    // Two marks in each CLIP, one in T5; the tiny T5 splits no `a`.
    assert_eq!(found.n_cut, [5000 - 75, 5000 - 75, 5000 - 76]);
    assert_eq!(found.context.dims(), [77 + 77, 32]);
}

#[test]
fn without_t5_there_may_be_no_rows_for_it() {
    let found = encoders("odd").encode("a red fox", 0).unwrap();
    assert_eq!(found.context.dims(), [77, 40]);
    assert_eq!(found.n_cut, [0, 0, 0]);
}

#[test]
fn tensor_names_may_lack_their_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let file = golden("tiny/text_encoder/model.safetensors");
    let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let bare = tensors.into_iter().map(|(name, it)| (name.trim_start_matches("text_model.").to_owned(), it));
    let path = folder.path().join("bare.safetensors");
    candle_core::safetensors::save(&bare.collect(), &path).unwrap();
    let config = clip::Config::read(&golden("tiny/text_encoder/config.json")).unwrap();
    let run = |path| {
        let weights = Weights::open(&[path], &Device::Cpu, DType::F32).unwrap();
        let model = clip::ClipText::load(&config, &weights).unwrap();
        assert!(weights.faults().is_empty(), "{}", weights.faults());
        values(&model.forward(&[7; 77]).unwrap().pooled)
    };
    assert_eq!(run(path), run(file));
}

#[test]
fn a_blueprint_asks_for_what_the_files_have() {
    for name in PACKAGES {
        let package = Package::open(&golden(name)).unwrap();
        for component in ["text_encoder", "text_encoder_2", "text_encoder_3"] {
            if !package.has(component) {
                continue;
            }
            let (blueprint, path) = (Weights::blueprint(), package.config(component));
            if component == "text_encoder_3" {
                t5::T5Encoder::load(&t5::Config::read(&path).unwrap(), &blueprint).unwrap();
            } else {
                clip::ClipText::load(&clip::Config::read(&path).unwrap(), &blueprint).unwrap();
            }
            let mut found = Vec::new();
            for file in package.weights(component).unwrap() {
                let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
                found.extend(tensors.into_iter().map(|(name, it)| (name, it.dims().to_vec())));
            }
            found.sort();
            assert_eq!(blueprint.asked(), found);
        }
    }
}

#[test]
fn the_full_size_encoders_want_the_tensors_that_transformers_has() {
    for (name, n_tensors) in [("sd3-text-encoder", 197), ("sd3-text-encoder-2", 517), ("sd3-text-encoder-3", 219)] {
        let manifest = json(&format!("../manifests/{name}.json"));
        let mut wanted: Vec<(String, Vec<usize>)> = Vec::new();
        for (name, shape) in manifest["tensors"].as_object().unwrap() {
            wanted.push((name.clone(), serde_json::from_value(shape.clone()).unwrap()));
        }
        wanted.sort();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, manifest["config"].to_string()).unwrap();
        let blueprint = Weights::blueprint();
        if name.ends_with('3') {
            t5::T5Encoder::load(&t5::Config::read(&path).unwrap(), &blueprint).unwrap();
        } else {
            clip::ClipText::load(&clip::Config::read(&path).unwrap(), &blueprint).unwrap();
        }
        assert_eq!(blueprint.asked(), wanted);
        assert_eq!(wanted.len(), n_tensors);
    }
}

#[test]
fn bf16_points_the_same_way() {
    for name in PACKAGES {
        let coarse = TextEncoders::load(&golden(name), &Device::Cpu, DType::BF16).unwrap();
        let fine = encoders(name);
        for prompt in ["", "a lighthouse on a hill above the town"] {
            let (coarse, fine) = (coarse.encode(prompt, 16).unwrap(), fine.encode(prompt, 16).unwrap());
            for (a, b) in [(&coarse.context, &fine.context), (&coarse.pooled, &fine.pooled)] {
                let cosine = cosine(&values(a), &values(b));
                assert!(cosine > 0.999, "{name}, {prompt:?}: {cosine}");
            }
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
