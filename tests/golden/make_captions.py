"""Writes sd3/captions.json: 1,000 captions and the ids that transformers' tokenizers of the tiny packages give.

Usage: python make_captions.py [FOLDER]

With FOLDER, CLIP's whole vocabulary and its ids of the same captions are written there too; they are not kept here.
Made with transformers 5.23, tokenizers 0.23.3 and open_clip 3.3. Run make_sd3.py first.
"""

import gzip
import json
import sys
from pathlib import Path

import open_clip
import transformers
from transformers import CLIPTokenizer, T5TokenizerFast

from captions import captions
from sd3_packages import words_of, write_clip_tokenizer

HERE = Path(__file__).parent / "sd3"


def ids(tokenizer, text):
    return tokenizer(text, max_length=77, truncation=True).input_ids


def full(folder):
    """The whole vocabulary: lines 1 to 48894 of the merges, and SD3's two paddings."""
    with gzip.open(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    words = words_of(merges)
    assert len(words) == 49408
    for name, pad in (("", "<|endoftext|>"), ("2", "!")):
        write_clip_tokenizer(folder / name, words, merges, pad)
    first, second = CLIPTokenizer.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder / "2")
    found = [{"text": it, "clip": ids(first, it), "clip_2": ids(second, it)} for it in captions()]
    (folder / "ids.json").write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def main():
    transformers.utils.logging.set_verbosity_error()
    clip = CLIPTokenizer.from_pretrained(HERE / "tiny" / "tokenizer")
    clip_json = CLIPTokenizer.from_pretrained(HERE / "odd" / "tokenizer")
    clip_2 = CLIPTokenizer.from_pretrained(HERE / "tiny" / "tokenizer_2")
    t5 = T5TokenizerFast.from_pretrained(HERE / "tiny" / "tokenizer_3")
    t5_json = T5TokenizerFast.from_pretrained(HERE / "deep" / "tokenizer_3")
    lines = []
    for text in captions():
        it = {"text": text, "clip": ids(clip, text), "t5": ids(t5, text)}
        assert it["clip"] == ids(clip_json, text)
        for key, tokenizer, other in (("clip_2", clip_2, "clip"), ("t5_json", t5_json, "t5")):
            found = ids(tokenizer, text)
            if found != it[other]:
                it[key] = found
        lines.append(json.dumps(it, ensure_ascii=False, separators=(",", ":")))
    (HERE / "captions.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    if len(sys.argv) > 1:
        full(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
