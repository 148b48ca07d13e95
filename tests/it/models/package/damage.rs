//! Each kind of damage is refused with a message that names the file.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use jobctl::models::inspect::{self, Inspection};
use jobctl::models::package::Package;
use jobctl::models::pipeline::{Decoder, Denoiser};

use super::copy;
use crate::models::{PACKAGES, golden};

/// What loading a transformer and an autoencoder says after `damage` was done to a copy of a package.
fn fault(name: &str, damage: impl FnOnce(&Path)) -> String {
    let folder = copy(name);
    damage(folder.path());
    let loaded = Package::open(folder.path()).and_then(|package| {
        // What a look at the files finds, loading them finds too.
        let looked = inspect::check(&package);
        let loaded = Denoiser::load(&package, &Device::Cpu, DType::F32)
            .and_then(|_| Decoder::load(&package, &Device::Cpu, DType::F32));
        assert!(looked.is_err(), "a look at the files finds nothing");
        loaded.map(drop).and(looked)
    });
    format!("{:#}", loaded.expect_err("a damaged package is refused"))
}

fn assert_says(fault: &str, words: &[&str]) {
    for word in words {
        assert!(fault.contains(word), "`{word}` is not in: {fault}");
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Changes the tensors of a file.
fn rewrite(path: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

const SHARD: &str = "transformer/diffusion_pytorch_model-00003-of-00005.safetensors";
const INDEX: &str = "transformer/diffusion_pytorch_model.safetensors.index.json";
const WHOLE: &str = "transformer/diffusion_pytorch_model.safetensors";

#[test]
fn golden_packages_have_no_fault() {
    for name in PACKAGES {
        let package = Package::open(&golden(name)).unwrap();
        inspect::check(&package).unwrap();
        let inspection = Inspection::of(&package);
        assert!(inspection.is_usable());
        assert!(inspection.components.iter().all(|it| it.faults.is_empty()), "{name}: {inspection:?}");
    }
}

#[test]
fn a_missing_shard_is_named() {
    assert_says(
        &fault("deep", |it| fs::remove_file(it.join(SHARD)).unwrap()),
        &["names the shard", "00003", "missing"],
    );
    assert_says(&fault("tiny", |it| fs::remove_file(it.join(WHOLE)).unwrap()), &["transformer has no weights"]);
}

#[test]
fn a_truncated_shard_is_named() {
    for (name, file) in [("deep", SHARD), ("tiny", WHOLE)] {
        let whole = fs::read(golden(name).join(file)).unwrap();
        for n in [whole.len() - 1, whole.len() / 2, 100, 8, 0] {
            assert_says(&fault(name, |it| fs::write(it.join(file), &whole[..n]).unwrap()), &[file, "is it complete"]);
        }
    }
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    let name = "diffusion_pytorch_model-00003-of-00005.safetensors";
    for elsewhere in [
        "../vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "/etc/passwd",
        "..",
        "a/../b.safetensors",
        "x.bin",
    ] {
        assert_says(
            &fault("deep", |it| edit(&it.join(INDEX), name, elsewhere)),
            &[INDEX, elsewhere, "no name of a shard"],
        );
    }
    assert_says(
        &fault("deep", |it| fs::write(it.join(INDEX), r#"{"weight_map": 3}"#).unwrap()),
        &[INDEX, "weight_map"],
    );
}

#[test]
fn a_config_that_contradicts_its_tensors_is_told_in_full() {
    let config = "transformer/config.json";
    let said = fault("tiny", |it| edit(&it.join(config), "\"num_layers\": 2", "\"num_layers\": 3"));
    assert_says(&said, &["transformer", "tensors are missing", "transformer_blocks.2.attn.to_q.weight", "contradict"]);
    let said = fault("tiny", |it| edit(&it.join(config), "\"pos_embed_max_size\": 12", "\"pos_embed_max_size\": 10"));
    assert_says(&said, &["pos_embed.pos_embed is [1, 144, 16], wanted [1, 100, 16]"]);
    let said =
        fault("tiny", |it| edit(&it.join("vae/config.json"), "\"latent_channels\": 4", "\"latent_channels\": 8"));
    assert_says(&said, &["decoder.conv_in.weight"]);
}

#[test]
fn configs_that_contradict_each_other_are_told() {
    let folder = copy("tiny");
    rewrite(&folder.path().join("text_encoder/model.safetensors"), |it| {
        it.insert("text_projection.weight".to_owned(), Tensor::zeros((9, 12), DType::F32, &Device::Cpu).unwrap());
    });
    edit(&folder.path().join("text_encoder/config.json"), "\"projection_dim\": 8", "\"projection_dim\": 9");
    let package = Package::open(folder.path()).unwrap();
    let inspection = Inspection::of(&package);
    assert!(!inspection.is_usable());
    assert_says(&inspection.contradictions.join("\n"), &["`pooled_projection_dim` of transformer is 24", "25"]);
    assert_says(&inspect::check(&package).unwrap_err().to_string(), &["pooled_projection_dim"]);
}

#[test]
fn weights_of_whole_numbers_are_refused() {
    let said = fault("tiny", |it| {
        rewrite(&it.join(WHOLE), |it| {
            let whole = it["proj_out.weight"].to_dtype(DType::U8).unwrap();
            it.insert("proj_out.weight".to_owned(), whole);
        });
    });
    assert_says(&said, &["proj_out.weight is U8", "of a type that no weights have"]);
}

#[test]
fn surplus_tensors_are_told_and_do_no_harm() {
    let folder = copy("tiny");
    rewrite(&folder.path().join(WHOLE), |it| {
        it.insert("more.weight".to_owned(), Tensor::zeros(3, DType::U8, &Device::Cpu).unwrap());
    });
    let package = Package::open(folder.path()).unwrap();
    Denoiser::load(&package, &Device::Cpu, DType::F32).unwrap();
    let inspection = Inspection::of(&package);
    let transformer = inspection.components.iter().find(|it| it.name == "transformer").unwrap();
    assert_eq!(transformer.faults.surplus, ["more.weight"]);
    assert!(inspection.is_usable());
    let parameters: usize = candle_core::safetensors::load(golden("tiny").join(WHOLE), &Device::Cpu)
        .unwrap()
        .values()
        .map(Tensor::elem_count)
        .sum();
    assert_eq!((transformer.parameters, transformer.dtypes["F32"]), (parameters as u64, parameters as u64));
}

#[test]
fn what_is_no_package_of_stable_diffusion_3_is_refused() {
    let index = "model_index.json";
    let said = |text: &str| fault("tiny", |it| fs::write(it.join(index), text).unwrap());
    assert_says(&said(r#"{"_class_name": "FluxPipeline"}"#), &[index, "`FluxPipeline`", "StableDiffusion3Pipeline"]);
    assert_says(&said("_class_name: x"), &[index, "understand"]);
    assert_says(&said("[]"), &[index, "understand"]);
    assert_says(&said(r#"{"_class_name": "StableDiffusion3Pipeline"}"#), &[index, "no `transformer`"]);
    assert_says(&fault("tiny", |it| fs::remove_file(it.join(index)).unwrap()), &["no model_index.json", "diffusers"]);
    assert_says(&format!("{:#}", Package::open(Path::new("/nowhere")).unwrap_err()), &["/nowhere is no folder"]);
}

#[test]
fn a_folder_where_a_file_should_be_is_named() {
    for file in [WHOLE, "model_index.json", "vae/config.json", "scheduler/scheduler_config.json"] {
        let said = fault("tiny", |it| {
            fs::remove_file(it.join(file)).unwrap();
            fs::create_dir(it.join(file)).unwrap();
        });
        assert_says(&said, &[file]);
        assert!(said.contains("no file") || said.contains("s a directory") || said.contains("is missing"), "{said}");
    }
}
