"""Writes clip/: a tiny random CLIP, its vision encoder alone, and what transformers makes of pictures with both.

Made with torch 2.13, transformers 5.23 and Pillow 13.0. Pictures are prepared by CLIPImageProcessorPil, whose resizing is
Pillow's own. Embeddings have 768 numbers, so that LAION's head fits; scores are the head of
src/metrics/aesthetics.safetensors on embeddings of length 1, in double precision. clip/ratings.f32 is no work of this
script: the five embeddings of CLIP ViT-L/14 that LAION-AI/aesthetic-predictor (MIT) publishes, [5, 768] in f32.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = Path(__file__).parent / "clip"
IMAGES = Path(__file__).parent / "images"
HEAD = load_file(Path(__file__).parents[2] / "src/metrics/aesthetics.safetensors")
# Square, wide, high, small, of one pixel; and by rule, larger than the network's picture and of odd sizes.
PICTURES = ["64x64.png", "plain.jpg", "1x1.png", "grey.png", "turned6.jpg", (301, 517), (640, 233), (1000, 37)]


def tiny(side):
    """A CLIP of `side` pixels whose weights are as large as those that training gives."""
    torch.manual_seed(11)
    vision = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=side, patch_size=8 if side < 64 else 32)
    text = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=32, max_position_embeddings=8,
                eos_token_id=31, bos_token_id=30, pad_token_id=1)
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)).eval()
    with torch.no_grad():
        for name, it in model.named_parameters():
            is_scale = "norm" in name and name.endswith("weight")
            it.copy_(torch.randn_like(it) * (0.1 if it.ndim == 1 else 0.25) + float(is_scale))
    return model


def by_rule(width, height):
    """Channel c of the pixel at x, y is (x² / 40 + 3y + xy / 50·c + 40c) mod 256, cut off."""
    y, x, c = np.mgrid[:height, :width, :3]
    return Image.fromarray(((x * x // 40 + 3 * y + x * y // 50 * c + 40 * c) % 256).astype(np.uint8))


def scores(model, processor, name):
    if isinstance(name, tuple):
        picture = by_rule(*name)
    else:
        picture = ImageOps.exif_transpose(Image.open(IMAGES / name)).convert("RGB")
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found = model.get_image_features(pixel_values=pixels)
    embedding = getattr(found, "pooler_output", found)[0].double().numpy()
    unit = embedding / np.linalg.norm(embedding)
    value = float(unit @ HEAD["weight"][0].double().numpy() + HEAD["bias"].double().item())
    return {"size": picture.size, "score": value, "embedding": [round(float(it), 7) for it in embedding], "pixels": round(float(pixels.double().sum()), 4)}


def called(name):
    return f"{name[0]}x{name[1]}" if isinstance(name, tuple) else name


def main():
    HERE.mkdir(exist_ok=True)
    model = tiny(32)
    model.save_pretrained(HERE / "whole")
    processor = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(HERE / "whole")
    expected = {"whole": {called(it): scores(model, processor, it) for it in PICTURES}}

    # As older files are: sizes as numbers, no settings but OpenAI's, in half precision, the text encoder left out.
    model = tiny(224)
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items() if k.startswith("vi")}
    model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    folder = HERE / "vision"
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size"]
    config = {it: getattr(model.config.vision_config, it) for it in keys}
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", "projection_dim": 768} | config, indent=2) + "\n")
    expected["vision"] = {called(it): scores(model, CLIPImageProcessorPil(), it) for it in PICTURES}
    (HERE / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    for package, found in expected.items():
        print(package, {name: (it["size"], round(it["score"], 4)) for name, it in found.items()})


if __name__ == "__main__":
    main()
