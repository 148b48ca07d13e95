"""The three tiny SD3 packages: their configurations, tokenizers and seeded weights. make_sd3.py writes them.

Weights of a matrix are N(0, 1/sqrt(fan-in)) (at least 0.05), of a norm 1 + N(0, 0.1), biases N(0, 0.02), biases of
modulations N(0, 0.3): with smaller ones a block of so small a width would hardly move its stream, and its faults would hide.
A tensor's values depend on the package, the component and its own name alone.
"""

import gzip
import json
import zlib
from pathlib import Path

import open_clip
import sentencepiece
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from captions import corpus

N_MERGES = 1500
VOCAB = 512 + N_MERGES + 2
BOS, EOS = VOCAB - 2, VOCAB - 1

PACKAGES = {
    # Diffusion-4K's VAE: stride 2 in the encoder's first convolution makes 8 into 16.
    "tiny": {
        "transformer": dict(
            num_layers=2, num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, joint_attention_dim=32,
            pooled_projection_dim=24, caption_projection_dim=16, pos_embed_max_size=12, sample_size=8,
        ),
        "clip": dict(hidden_size=12, num_attention_heads=2, intermediate_size=24, num_hidden_layers=2, projection_dim=8, hidden_act="quick_gelu", eos_token_id=2),
        "clip_2": dict(hidden_size=16, num_attention_heads=2, intermediate_size=32, num_hidden_layers=3, projection_dim=16, hidden_act="gelu", eos_token_id=EOS),
        "t5": dict(d_model=32, d_kv=8, num_heads=4, d_ff=64, num_layers=2, vocab_size=704, relative_attention_max_distance=128),
        "vae": dict(block_out_channels=(8, 16, 16, 16), layers_per_block=2, latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609),
        "stride": 2,
        "scheduler": dict(shift=3.0),
    },
    # SD3.5's kind: normed queries and keys, a second attention in the first blocks; no T5; a table that is no sine.
    "odd": {
        "transformer": dict(
            num_layers=3, num_attention_heads=3, attention_head_dim=8, in_channels=16, out_channels=16, joint_attention_dim=40,
            pooled_projection_dim=23, caption_projection_dim=24, pos_embed_max_size=9, sample_size=16,
            dual_attention_layers=(0, 1), qk_norm="rms_norm",
        ),
        "clip": dict(hidden_size=15, num_attention_heads=3, intermediate_size=40, num_hidden_layers=2, projection_dim=9, hidden_act="quick_gelu", eos_token_id=2),
        "clip_2": dict(hidden_size=20, num_attention_heads=5, intermediate_size=28, num_hidden_layers=4, projection_dim=14, hidden_act="gelu", eos_token_id=EOS),
        "t5": None,
        "vae": dict(block_out_channels=(8, 8, 12, 16), layers_per_block=2, latent_channels=16, scaling_factor=1.2, shift_factor=-0.03),
        "stride": 1,
        "scheduler": dict(shift=2.5),
        "clip_json": True,
    },
    # Shards, 16-bit files, dynamic shift, three levels in the VAE: 2^(3-1) * 2 = 8.
    "deep": {
        "transformer": dict(
            num_layers=4, num_attention_heads=5, attention_head_dim=8, in_channels=8, out_channels=8, joint_attention_dim=48,
            pooled_projection_dim=28, caption_projection_dim=40, pos_embed_max_size=10, sample_size=12,
        ),
        "clip": dict(hidden_size=16, num_attention_heads=4, intermediate_size=48, num_hidden_layers=3, projection_dim=16, hidden_act="quick_gelu", eos_token_id=EOS),
        "clip_2": dict(hidden_size=24, num_attention_heads=3, intermediate_size=36, num_hidden_layers=2, projection_dim=12, hidden_act="gelu", eos_token_id=2),
        "t5": dict(d_model=48, d_kv=12, num_heads=3, d_ff=80, num_layers=3, vocab_size=600, relative_attention_max_distance=64, relative_attention_num_buckets=16),
        "vae": dict(block_out_channels=(8, 12, 16), layers_per_block=1, latent_channels=8, scaling_factor=0.9, shift_factor=0.1),
        "stride": 2,
        "scheduler": dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.4, max_shift=1.3, base_image_seq_len=16, max_image_seq_len=64),
        "t5_json": True,
        "transformer_dtype": torch.bfloat16,
        "text_dtype": torch.float16,
        "shard": "120KB",
    },
}


def fill(module, seed):
    """Seeded weights for every tensor of a module, positional tables included."""
    for name, it in sorted(module.state_dict(keep_vars=True).items()):
        noise = torch.randn(it.shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode())))
        is_modulation = name.endswith(("norm1.linear.bias", "norm1_context.linear.bias", "norm_out.linear.bias"))
        if name.endswith("position_ids"):
            continue
        if name == "pos_embed.pos_embed":
            value = 0.5 * noise if seed.startswith("odd/") else it.data
        elif name.endswith("bias"):
            value = (0.3 if is_modulation else 0.02) * noise
        elif it.ndim == 1:
            value = 1 + 0.1 * noise
        elif "embedding" in name and "context_embedder" not in name and it.ndim == 2 and "embedder" not in name:
            value = 0.4 * noise
        elif name in ("shared.weight", "encoder.embed_tokens.weight"):
            value = torch.randn(it.shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}/shared".encode())))
        elif "relative_attention_bias" in name:
            value = 0.5 * noise
        else:
            value = max(0.05, it[0].numel() ** -0.5) * noise
        with torch.no_grad():
            it.copy_(value)
    return module


def clip_words():
    """The small CLIP vocabulary: bytes, bytes that end a word, the first merges, the specials; and those merges."""
    with gzip.open(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 1 + N_MERGES]
    return words_of(merges), merges


def words_of(merges):
    """The words that merges make, in the order of their ids."""
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    words = letters + [it + "</w>" for it in letters] + ["".join(it.split()) for it in merges]
    return words + ["<|startoftext|>", "<|endoftext|>"]


def token(text, normalized):
    return {"content": text, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


def write_clip_tokenizer(folder, words, merges, pad):
    """vocab.json and merges.txt with the settings of SD3's own tokenizers; `pad` is "!" for the second of them."""
    folder.mkdir(parents=True, exist_ok=True)
    bos, eos = len(words) - 2, len(words) - 1
    vocab = json.dumps({it: i for i, it in enumerate(words)}, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(vocab, encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    specials = {"bos_token": token(words[bos], True), "eos_token": token(words[eos], True), "pad_token": pad, "unk_token": token(words[eos], True)}
    added = {str(bos): token(words[bos], True) | {"special": True}, str(eos): token(words[eos], True) | {"special": True}}
    if pad == "!":
        added = {"0": token("!", False) | {"special": True}} | added
    config = {
        "add_prefix_space": False, "added_tokens_decoder": added, "bos_token": words[bos], "clean_up_tokenization_spaces": True,
        "do_lower_case": True, "eos_token": words[eos], "errors": "replace", "model_max_length": 77, "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer", "unk_token": words[eos],
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def train_sentencepiece(folder):
    """spiece.model with T5's settings: unigram, nmt_nfkc, pad 0, eos 1, unk 2, no bos."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_prefix=str(folder / "spiece"), vocab_size=600, model_type="unigram",
        normalization_rule_name="nmt_nfkc", add_dummy_prefix=True, remove_extra_whitespaces=True, character_coverage=1.0,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, hard_vocab_limit=True, minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    config = {
        "additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)], "clean_up_tokenization_spaces": True, "eos_token": "</s>",
        "extra_ids": 100, "legacy": True, "model_max_length": 512, "pad_token": "<pad>", "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer", "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def write(name, root):
    """Writes package `name` below `root` as StableDiffusion3Pipeline.save_pretrained lays it out."""
    spec, folder = PACKAGES[name], root / name
    words, merges = clip_words()
    write_clip_tokenizer(folder / "tokenizer", words, merges, "<|endoftext|>")
    write_clip_tokenizer(folder / "tokenizer_2", words, merges, "!")
    tokenizers = [CLIPTokenizer.from_pretrained(folder / it) for it in ("tokenizer", "tokenizer_2")]
    encoders = []
    for key in ("clip", "clip_2"):
        config = CLIPTextConfig(vocab_size=VOCAB, max_position_embeddings=77, bos_token_id=BOS, pad_token_id=1, **spec[key])
        encoders.append(fill(CLIPTextModelWithProjection(config), f"{name}/{key}"))
    t5 = tokenizer_3 = None
    if spec["t5"]:
        train_sentencepiece(folder / "tokenizer_3")
        tokenizer_3 = T5TokenizerFast.from_pretrained(folder / "tokenizer_3", **({"extra_ids": 0, "additional_special_tokens": None} if spec.get("t5_json") else {}))
        t5 = fill(T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", **spec["t5"])), f"{name}/t5")
    n_blocks = len(spec["vae"]["block_out_channels"])
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * n_blocks, up_block_types=("UpDecoderBlock2D",) * n_blocks, norm_num_groups=4,
        sample_size=96, use_quant_conv=False, use_post_quant_conv=False, force_upcast=True, **spec["vae"],
    )
    fill(vae, f"{name}/vae")
    with torch.no_grad():
        vae.decoder.conv_out.weight *= 0.4
    transformer = fill(SD3Transformer2DModel(patch_size=2, **spec["transformer"]), f"{name}/transformer")
    pipe = StableDiffusion3Pipeline(
        transformer=transformer.to(spec.get("transformer_dtype", torch.float32)), vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, **spec["scheduler"]),
        text_encoder=encoders[0].to(spec.get("text_dtype", torch.float32)), tokenizer=tokenizers[0],
        text_encoder_2=encoders[1].to(spec.get("text_dtype", torch.float32)), tokenizer_2=tokenizers[1],
        text_encoder_3=t5 and t5.to(spec.get("text_dtype", torch.float32)), tokenizer_3=tokenizer_3,
    )
    kept = {it.relative_to(folder): it.read_bytes() for it in sorted(folder.rglob("*")) if it.is_file()}
    pipe.save_pretrained(folder, **({"max_shard_size": spec["shard"]} if "shard" in spec else {}))
    restore_tokenizers(folder, spec, kept)
    config = json.loads((folder / "vae" / "config.json").read_text())
    if spec["stride"] != 1:
        config["stride"] = spec["stride"]
        (folder / "vae" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    index = json.loads((folder / "model_index.json").read_text())
    if index["tokenizer_3"][1]:
        index["tokenizer_3"][1] = "T5TokenizerFast"
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for it in folder.rglob("*.safetensors"):
        it.chmod(0o644)
    for it in folder.rglob("*.json"):
        it.write_text(it.read_text(encoding="utf-8").replace(str(folder), name), encoding="utf-8")


def restore_tokenizers(folder, spec, kept):
    """Puts back the files of the released packages where a newer library has replaced them by tokenizer.json."""
    json_only = {"tokenizer": spec.get("clip_json"), "tokenizer_2": False, "tokenizer_3": spec.get("t5_json")}
    for it in json_only:
        if json_only[it]:
            compact = json.loads((folder / it / "tokenizer.json").read_text(encoding="utf-8"))
            (folder / it / "tokenizer.json").write_text(json.dumps(compact, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
            (folder / it / "spiece.model").unlink(missing_ok=True)
            for legacy in ("vocab.json", "merges.txt", "special_tokens_map.json"):
                (folder / it / legacy).unlink(missing_ok=True)
        elif (folder / it).exists():
            (folder / it / "tokenizer.json").unlink()
            for path, data in kept.items():
                if path.parts[0] == it:
                    (folder / path).write_bytes(data)
