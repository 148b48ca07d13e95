"""Writes manifests/: the name and shape of every tensor of the full-size SD3 and SD3.5 models and of the vision encoder of
openai/clip-vit-large-patch14, and their configs.

Usage: python make_manifests.py

Made with torch 2.13, diffusers 0.42.1 and transformers 5.23 on torch's meta device: nothing is allocated or loaded.
A file is one component: {"config": its config.json, "tensors": {name: shape}}, with the names of the files of weights.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection, T5Config, T5EncoderModel

HERE = Path(__file__).parent / "manifests"

# The configs of stable-diffusion-3-medium-diffusers, stable-diffusion-3.5-medium and stable-diffusion-3.5-large.
SD3 = dict(patch_size=2, in_channels=16, out_channels=16, attention_head_dim=64, joint_attention_dim=4096, pooled_projection_dim=2048, sample_size=128)
TRANSFORMERS = {
    "sd3-medium-transformer": SD3 | dict(num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=192),
    "sd3.5-medium-transformer": SD3 | dict(
        num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=384, qk_norm="rms_norm",
        dual_attention_layers=tuple(range(13)),
    ),
    "sd3.5-large-transformer": SD3 | dict(
        num_layers=38, num_attention_heads=38, caption_projection_dim=2432, pos_embed_max_size=192, qk_norm="rms_norm", dual_attention_layers=(),
    ),
}
CLIPS = {
    "sd3-text-encoder": dict(
        hidden_size=768, intermediate_size=3072, projection_dim=768, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    ),
    "sd3-text-encoder-2": dict(
        hidden_size=1280, intermediate_size=5120, projection_dim=1280, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu",
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    ),
}
VISION = dict(
    hidden_size=1024, intermediate_size=4096, projection_dim=768, num_hidden_layers=24, num_attention_heads=16, image_size=224, patch_size=14,
)
T5 = dict(
    vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
    relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6, is_encoder_decoder=True,
)
VAE = dict(
    in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16, norm_num_groups=32, sample_size=1024,
    scaling_factor=1.5305, shift_factor=0.0609, force_upcast=True, use_quant_conv=False, use_post_quant_conv=False,
)


def config_of(module):
    """What save_pretrained writes as config.json."""
    config = json.loads(module.config.to_json_string() if hasattr(module.config, "to_json_string") else module.to_json_string())
    if "_class_name" not in config:
        config["architectures"] = [type(module).__name__]
    return {k: v for k, v in config.items() if k != "_use_default_values"}


def write(name, module):
    """One component's manifest; a tensor that is only another's alias is left out, as it is in the files."""
    tensors, seen = {}, set()
    for key, it in module.state_dict(keep_vars=True).items():
        if id(it) not in seen:
            tensors[key] = list(it.shape)
            seen.add(id(it))
    text = json.dumps({"config": config_of(module), "tensors": dict(sorted(tensors.items()))}, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n")
    count = sum(torch.Size(it).numel() for it in tensors.values())
    print(f"{name}: {len(tensors)} tensors, {count:,} numbers, {len(text):,} bytes")


def main():
    HERE.mkdir(exist_ok=True)
    with torch.device("meta"):
        for name, config in TRANSFORMERS.items():
            write(name, SD3Transformer2DModel(**config))
        for name, config in CLIPS.items():
            write(name, CLIPTextModelWithProjection(CLIPTextConfig(**config)))
        write("clip-vit-large-patch14-vision", CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)))
        write("sd3-text-encoder-3", T5EncoderModel(T5Config(**T5)))
        write("sd3-vae", AutoencoderKL(**VAE))


if __name__ == "__main__":
    main()
