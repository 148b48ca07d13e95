//! Packages that are damaged or contradict themselves.

use std::fs;
use std::path::Path;

use super::{DType, Device, Kind, TextEncoders, Tokenizer, copy, golden};

/// What loading and encoding says after `damage` was done to a copy of a package.
fn fault(package: &str, damage: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(package), folder.path());
    damage(folder.path());
    let encoded = TextEncoders::load(folder.path(), &Device::Cpu, DType::F32).and_then(|it| it.encode("a red fox", 8));
    format!("{:#}", encoded.expect_err("a damaged package is refused"))
}

fn assert_says(fault: &str, words: &[&str]) {
    for word in words {
        assert!(fault.contains(word), "`{word}` is not in: {fault}");
    }
}

/// Replaces text in a file, which must be there.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    for file in
        ["tokenizer/vocab.json", "tokenizer_2/merges.txt", "tokenizer_3/spiece.model", "text_encoder/config.json"]
    {
        assert_says(&fault("tiny", |it| fs::remove_file(it.join(file)).unwrap()), &[file]);
    }
}

#[test]
fn truncated_merges_are_seen() {
    let file = "tokenizer/merges.txt";
    let text = fs::read_to_string(golden("tiny").join(file)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let half = lines.len() / 2;
    let between = lines[..half].join("\n") + "\n";
    let fault_of = |text: String| fault("tiny", |it| fs::write(it.join(file), text).unwrap());
    assert_says(&fault_of(between.clone()), &[file, "ends after"]);
    let left = lines[half].split(' ').next().unwrap();
    assert_says(&fault_of(format!("{between}{left}")), &[file, "is no merge", &format!("line {}", half + 1)]);
    assert_says(&fault_of(format!("{between}zqx zqy\n")), &[file, "zqx zqy", "no id"]);
}

#[test]
fn a_truncated_sentencepiece_file_is_refused() {
    let bytes = fs::read(golden("tiny/tokenizer_3/spiece.model")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spiece.model");
    let lengths = (0..500).chain((500..bytes.len()).step_by(5001)).chain([bytes.len() - 100]);
    for n in lengths {
        fs::write(&path, &bytes[..n]).unwrap();
        assert!(Tokenizer::open(folder.path(), Kind::T5).is_err(), "{n} of {} bytes", bytes.len());
    }
}

#[test]
fn what_is_no_json_is_named() {
    for file in ["text_encoder/config.json", "text_encoder_3/config.json", "tokenizer/tokenizer_config.json"] {
        assert_says(&fault("tiny", |it| fs::write(it.join(file), "hidden_size: 12").unwrap()), &[file]);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_key() {
    let clip = |from: &'static str, to: &'static str| {
        fault("tiny", move |it| edit(&it.join("text_encoder/config.json"), from, to))
    };
    assert_says(
        &clip("\"hidden_size\": 12", "\"hidden_size\": \"12\""),
        &["text_encoder/config.json", "`hidden_size`"],
    );
    assert_says(&clip("\"hidden_size\"", "\"hidden\""), &["text_encoder/config.json", "`hidden_size` is missing"]);
    assert_says(&clip("quick_gelu", "mish"), &["text_encoder/config.json", "`hidden_act`", "`mish`"]);
    assert_says(&clip("\"num_attention_heads\": ", "\"num_attention_heads\": 7"), &["does not divide"]);
    assert_says(&clip("\"max_position_embeddings\": 77", "\"max_position_embeddings\": 76"), &["77 tokens"]);
    let t5 = |from: &'static str, to: &'static str| {
        fault("tiny", move |it| edit(&it.join("text_encoder_3/config.json"), from, to))
    };
    assert_says(&t5("\"d_kv\": 8", "\"d_kv\": 0"), &["text_encoder_3/config.json", "`d_kv` is 0"]);
    assert_says(&t5("gated-gelu", "fenced-gelu"), &["text_encoder_3/config.json", "`feed_forward_proj`"]);
}

#[test]
fn a_config_that_contradicts_its_tensors_is_told_in_full() {
    let said = fault("tiny", |it| edit(&it.join("text_encoder_3/config.json"), "\"d_ff\": 64", "\"d_ff\": 65"));
    assert_says(&said, &["text_encoder_3", "contradict", "encoder.block.0.layer.1.DenseReluDense.wo.weight"]);
    let said =
        fault("tiny", |it| edit(&it.join("text_encoder_3/config.json"), "\"num_layers\": 2", "\"num_layers\": 3"));
    assert_says(&said, &["text_encoder_3", "missing", "encoder.block.2.layer.0.SelfAttention.q.weight"]);
}

#[test]
fn ids_without_a_row_are_refused() {
    let said = fault("odd", |it| {
        edit(
            &it.join("tokenizer/tokenizer_config.json"),
            "\"pad_token\": \"<|endoftext|>\"",
            "\"pad_token\": \"<new>\"",
        );
    });
    assert_says(&said, &["2014", "text_encoder", "`vocab_size`"]);
}

#[test]
fn more_t5_tokens_than_diffusers_allows_are_refused() {
    let encoders = TextEncoders::load(&golden("tiny"), &Device::Cpu, DType::F32).unwrap();
    assert_says(&format!("{:#}", encoders.encode("a", 513).unwrap_err()), &["513", "512"]);
    assert_says(&format!("{:#}", encoders.encode("a", 0).unwrap_err()), &["no room"]);
}
