//! The configs of random packages, with the keys that diffusers and transformers write.

use serde_json::{Value, json};

/// Which configs a random package has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// 3 MB in f32, pictures from 32×32 to 2048×2048 in a moment on a CPU.
    Tiny,
    /// 4 MB in f32, pictures up to 512×512: small enough to be trained on a CPU, large enough to learn from photographs.
    /// Its autoencoder's factor is 8, with 8 channels.
    Small,
    /// Stable Diffusion 3 Medium in full size, with Diffusion-4K's strided autoencoder: 15 GB in bf16.
    Medium,
}

/// The config of each component that has one, `dtype` being torch's name of what the weights are stored as.
pub fn configs(preset: Preset, dtype: &str, with_t5: bool) -> Vec<(&'static str, Value)> {
    let mut configs = match preset {
        Preset::Tiny => vec![
            ("transformer", transformer([2, 4, 8], 4, [64, 24], 64, 16)),
            ("vae", vae(&[16, 32, 32, 32], 2, 4, 4)),
            ("text_encoder", clip([12, 24, 8], [2, 2], "quick_gelu", 640, dtype)),
            ("text_encoder_2", clip([16, 32, 16], [3, 2], "gelu", 640, dtype)),
            ("text_encoder_3", t5([64, 8, 128], [2, 8], 256, dtype)),
        ],
        Preset::Small => vec![
            ("transformer", transformer([3, 4, 16], 8, [64, 24], 32, 16)),
            ("vae", vae(&[16, 24, 32], 1, 8, 8)),
            ("text_encoder", clip([12, 24, 8], [2, 2], "quick_gelu", 640, dtype)),
            ("text_encoder_2", clip([16, 32, 16], [3, 2], "gelu", 640, dtype)),
            ("text_encoder_3", t5([64, 8, 128], [2, 8], 256, dtype)),
        ],
        // The configs of stabilityai/stable-diffusion-3-medium-diffusers.
        Preset::Medium => vec![
            ("transformer", transformer([24, 24, 64], 16, [4096, 2048], 192, 128)),
            ("vae", vae(&[128, 256, 512, 512], 2, 16, 32)),
            ("text_encoder", clip([768, 3072, 768], [12, 12], "quick_gelu", 49408, dtype)),
            ("text_encoder_2", clip([1280, 5120, 1280], [32, 20], "gelu", 49408, dtype)),
            ("text_encoder_3", t5([4096, 64, 10240], [24, 64], 32128, dtype)),
        ],
    };
    if !with_t5 {
        configs.retain(|(name, _)| *name != "text_encoder_3");
    }
    configs.push(("scheduler", scheduler()));
    configs
}

/// model_index.json.
pub fn index(with_t5: bool) -> Value {
    let optional = |library: &str, class: &str| if with_t5 { json!([library, class]) } else { json!([null, null]) };
    json!({
        "_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.42.1",
        "feature_extractor": [null, null], "image_encoder": [null, null],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": optional("transformers", "T5EncoderModel"),
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": optional("transformers", "T5TokenizerFast"),
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

fn transformer(
    [n_layers, n_heads, head]: [usize; 3],
    n_channels: usize,
    [joint, pooled]: [usize; 2],
    side: usize,
    sample: usize,
) -> Value {
    json!({
        "_class_name": "SD3Transformer2DModel", "_diffusers_version": "0.42.1", "attention_head_dim": head,
        "caption_projection_dim": n_heads * head, "dual_attention_layers": [], "in_channels": n_channels,
        "joint_attention_dim": joint, "num_attention_heads": n_heads, "num_layers": n_layers,
        "out_channels": n_channels, "patch_size": 2, "pooled_projection_dim": pooled, "pos_embed_max_size": side,
        "qk_norm": null, "sample_size": sample,
    })
}

/// diffusers ignores `stride`, and makes pictures half as wide and high.
fn vae(channels: &[usize], n_layers: usize, n_latent: usize, n_groups: usize) -> Value {
    json!({
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.42.1", "act_fn": "silu",
        "block_out_channels": channels, "down_block_types": vec!["DownEncoderBlock2D"; channels.len()],
        "force_upcast": true, "in_channels": 3, "latent_channels": n_latent, "latents_mean": null, "latents_std": null,
        "layers_per_block": n_layers, "mid_block_add_attention": true, "norm_num_groups": n_groups, "out_channels": 3,
        "sample_size": 1024, "scaling_factor": 1.5305, "shift_factor": 0.0609, "stride": 2,
        "up_block_types": vec!["UpDecoderBlock2D"; channels.len()], "use_post_quant_conv": false,
        "use_quant_conv": false,
    })
}

fn clip(
    [width, inner, projection]: [usize; 3],
    [n_layers, n_heads]: [usize; 2],
    act: &str,
    n_rows: usize,
    dtype: &str,
) -> Value {
    json!({
        "architectures": ["CLIPTextModelWithProjection"], "attention_dropout": 0.0, "bos_token_id": n_rows - 2,
        "dtype": dtype, "eos_token_id": n_rows - 1, "hidden_act": act, "hidden_size": width,
        "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": inner, "layer_norm_eps": 1e-5,
        "max_position_embeddings": 77, "model_type": "clip_text_model", "num_attention_heads": n_heads,
        "num_hidden_layers": n_layers, "pad_token_id": 1, "projection_dim": projection, "vocab_size": n_rows,
    })
}

fn t5([width, head, inner]: [usize; 3], [n_layers, n_heads]: [usize; 2], n_rows: usize, dtype: &str) -> Value {
    json!({
        "architectures": ["T5EncoderModel"], "classifier_dropout": 0.0, "d_ff": inner, "d_kv": head, "d_model": width,
        "dense_act_fn": "gelu_new", "dropout_rate": 0.1, "dtype": dtype, "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0, "is_decoder": false,
        "is_encoder_decoder": false, "is_gated_act": true, "layer_norm_epsilon": 1e-6, "model_type": "t5",
        "num_decoder_layers": n_layers, "num_heads": n_heads, "num_layers": n_layers, "pad_token_id": 0,
        "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "tie_word_embeddings": true,
        "use_cache": false, "vocab_size": n_rows,
    })
}

fn scheduler() -> Value {
    json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1", "base_image_seq_len": 256,
        "base_shift": 0.5, "invert_sigmas": false, "max_image_seq_len": 4096, "max_shift": 1.15,
        "num_train_timesteps": 1000, "shift": 3.0, "shift_terminal": null, "stochastic_sampling": false,
        "time_shift_type": "exponential", "use_beta_sigmas": false, "use_dynamic_shifting": false,
        "use_exponential_sigmas": false, "use_karras_sigmas": false,
    })
}
