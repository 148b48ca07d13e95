"""Writes sd3/text/: tokenizers with other settings, a T5 of the first kind, and what transformers makes of them.

Made with transformers 5.23, tokenizers 0.23.3 and torch 2.13. Run make_sd3.py first.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from captions import captions

SD3 = Path(__file__).parent / "sd3"
HERE = SD3 / "text"
START, END = "<|startoftext|>", "<|endoftext|>"


def token(content, normalized, **more):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False} | more


EXTRA = [f"<extra_id_{it}>" for it in range(4)]
# Name, tokenizer that it is made from, files that replace its settings, length.
VARIANTS = [
    ("no settings", "tiny/tokenizer", {}, 77),
    ("pad token as text", "tiny/tokenizer", {"tokenizer_config.json": {"pad_token": "!"}}, 77),
    (
        "special_tokens_map.json",
        "tiny/tokenizer",
        {
            "tokenizer_config.json": {"model_max_length": 77, "pad_token": "[PAD]"},
            "special_tokens_map.json": {
                "bos_token": token(START, True),
                "eos_token": token(END, True),
                "pad_token": "!",
                "unk_token": token(END, True),
            },
            "added_tokens.json": {"red": 500},
        },
        77,
    ),
    (
        "left, typed tokens, tokens of its own",
        "tiny/tokenizer",
        {
            "tokenizer_config.json": {
                "model_max_length": 20,
                "bos_token": token(START, True, __type="AddedToken"),
                "eos_token": token(END, False, __type="AddedToken"),
                "pad_token": "!",
                "additional_special_tokens": ["<new>", "fox"],
                "padding_side": "left",
                "truncation_side": "left",
            }
        },
        20,
    ),
    (
        "tokens that take spaces along, whole words alone",
        "tiny/tokenizer",
        {
            "tokenizer_config.json": {
                "pad_token": "!",
                "added_tokens_decoder": {
                    "0": token("!", False, special=True) | {"lstrip": True, "rstrip": True},
                    "500": token("in", True, special=False) | {"single_word": True},
                },
            }
        },
        77,
    ),
    ("special tokens as text", "tiny/tokenizer_2", {"tokenizer_config.json": {"split_special_tokens": True}}, 77),
    ("T5 without settings", "tiny/tokenizer_3", {}, 40),
    (
        "T5 with four extra ids",
        "tiny/tokenizer_3",
        {"tokenizer_config.json": {"extra_ids": 4, "additional_special_tokens": EXTRA, "model_max_length": 512}},
        40,
    ),
    (
        "T5 with extra ids that take spaces along",
        "tiny/tokenizer_3",
        {
            "tokenizer_config.json": {
                "extra_ids": 4,
                "added_tokens_decoder": {
                    str(600 + it): token(name, True, special=True) | {"lstrip": True, "rstrip": True}
                    for it, name in enumerate(EXTRA)
                },
            }
        },
        40,
    ),
]
TEXTS = [
    "Hello!World", "! ! !", "wow !!! what", f"x{END}y", f" {START} a", "<|ENDOFTEXT|>", "a <new> fox, a red fox [PAD]",
    "in the inn, within", "a <extra_id_0> b<extra_id_3>c", "</s> <pad> <unk>", "▁▁ a ▁b", "DON'T", "e\u0301 İ ǅ ﬁ ①\u2028x",
    "", "   ", "long " * 300,
]


def tokenizers():
    found = []
    texts = TEXTS + captions()[::25]
    for name, source, files, length in VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            for file in ("vocab.json", "merges.txt", "spiece.model"):
                if (SD3 / source / file).exists():
                    shutil.copy(SD3 / source / file, folder)
            for file, content in files.items():
                (Path(folder) / file).write_text(json.dumps(content))
            cls = T5TokenizerFast if name.startswith("T5") else CLIPTokenizer
            tokenizer = cls.from_pretrained(folder)
            ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids
            whole = tokenizer(texts).input_ids
        found.append({"name": name, "source": source, "files": files, "length": length, "cases": []})
        for text, it, all_of_it in zip(texts, ids, whole):
            found[-1]["cases"].append({"text": text, "ids": it, "n_cut": max(0, len(all_of_it) - length)})
    (HERE / "tokenizers.json").write_text(
        json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace('{"text"', '\n{"text"') + "\n"
    )


def first_t5():
    """ReLU without a gate, heads wider than the model, and only the second name of the token table."""
    config = T5Config(
        vocab_size=50, d_model=12, d_kv=8, d_ff=20, num_layers=2, num_heads=3, feed_forward_proj="relu",
        relative_attention_num_buckets=8, relative_attention_max_distance=20, is_encoder_decoder=False, use_cache=False,
    )
    torch.manual_seed(11)
    model = T5EncoderModel(config).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(1.0 if tensor.dim() == 1 else 0.0, 0.2)
    folder = HERE / "t5_relu"
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, folder / "model.safetensors")
    ids = torch.randint(0, 50, (1, 60))
    with torch.no_grad():
        hidden = model(ids)[0]
    save_file({"ids": ids, "hidden": hidden}, HERE / "t5_relu.safetensors")


def main():
    transformers.utils.logging.set_verbosity_error()
    HERE.mkdir(exist_ok=True)
    tokenizers()
    first_t5()


if __name__ == "__main__":
    main()
