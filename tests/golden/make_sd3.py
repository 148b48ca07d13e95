"""Writes sd3/: three tiny Stable Diffusion 3 packages, and what diffusers makes with them on the CPU in f32.

Usage: python make_sd3.py [packages] [outputs]     (both unless one is named)

Made with torch 2.13 (CPU), diffusers 0.42.1, transformers 5.23, tokenizers 0.23.3, sentencepiece 0.2.3 and open_clip 3.3
(its CLIP merges). sd3/README.md says what every file and tensor is. Equal seeds give equal files.
"""

import json
import math
import random
import shutil
import sys
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
import transformers
from diffusers import StableDiffusion3Pipeline
from diffusers.image_processor import VaeImageProcessor
from safetensors.torch import save_file

import sd3_packages
from captions import long

HERE = Path(__file__).parent / "sd3"
PROMPTS = {
    "lighthouse": "A lighthouse on a hill above the town, golden hour, shot with a macro lens",
    "fox": "two red foxes in the first snow; it's 4096x4096, wow!",
    "odd": "Ein Café in Zürich 🐈‍⬛ 你好, ｆｕｌｌ width e\u0301 <|endoftext|> &amp; don't",
    "empty": "",
    "blurry": "blurry, low quality, watermark",
    "long": long(random.Random(300), 300),
}
# Prompt, negative prompt (None: not given), width, height, steps, guidance, seed, T5 tokens.
RUNS = {
    "tiny": [
        ("lighthouse", None, 64, 64, 28, 7.0, 0, 16),
        ("lighthouse", "blurry", 96, 64, 4, 4.5, 42, 77),
        ("empty", None, 32, 96, 1, 1.0, 0, 16),
        ("long", None, 64, 96, 28, 4.5, 42, 16),
        ("odd", None, 96, 96, 4, 1.0, 42, 5),
        ("fox", None, 96, 32, 4, 1.0, 0, 256),
    ],
    "odd": [
        ("lighthouse", "blurry", 48, 80, 28, 4.5, 42, 16),
        ("fox", None, 64, 64, 4, 1.0, 0, 256),
        ("empty", None, 80, 32, 1, 4.5, 42, 16),
        ("long", None, 32, 64, 28, 1.0, 0, 77),
        ("odd", "long", 96, 48, 4, 7.0, 0, 16),
    ],
    "deep": [
        ("fox", "blurry", 64, 48, 28, 7.0, 42, 16),
        ("lighthouse", None, 80, 64, 4, 1.0, 0, 256),
        ("odd", None, 32, 80, 1, 4.5, 42, 16),
        ("long", "empty", 48, 48, 28, 4.5, 0, 77),
        ("empty", None, 96, 32, 4, 7.0, 42, 16),
    ],
}


class PartitionedDecoder(torch.nn.Module):
    """The stock decoder with nearest x2 before its last convolution, whole or quadrant by quadrant."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.partition = decoder, "off"

    def forward(self, z, latent_embeds=None):
        last, self.decoder.conv_out = self.decoder.conv_out, torch.nn.Identity()
        try:
            s = self.decoder(z, latent_embeds)
        finally:
            self.decoder.conv_out = last
        if self.partition == "off":
            return last(F.interpolate(s, scale_factor=2.0, mode="nearest"))
        # One row and column of the neighbours where there are any, zeros elsewhere. Cropping at 1 instead of 2 is what
        # Diffusion-4K's release does, and moves the image down and right by one pixel.
        at = {"legacy": 1, "exact": 2}[self.partition]
        ph, pw = s.shape[2] // 2, s.shape[3] // 2
        padded = F.pad(s, (1, 1, 1, 1))
        rows = []
        for i in (0, ph):
            row = []
            for j in (0, pw):
                part = padded[:, :, i : i + ph + 2, j : j + pw + 2]
                part = last(F.interpolate(part, scale_factor=2.0, mode="nearest"))
                row.append(part[:, :, at : at + 2 * ph, at : at + 2 * pw])
            rows.append(torch.cat(row, dim=3))
        return torch.cat(rows, dim=2)


def load(name, dtype=torch.float32):
    """A package as diffusers loads it, with the VAE that its config asks for."""
    absent = {} if sd3_packages.PACKAGES[name]["t5"] else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline.from_pretrained(HERE / name, dtype=dtype, **absent)
    pipe.set_progress_bar_config(disable=True)
    config = json.loads((HERE / name / "vae" / "config.json").read_text())
    if config.get("stride", 1) == 2:
        pipe.vae.encoder.conv_in.stride = (2, 2)
        pipe.vae.decoder = PartitionedDecoder(pipe.vae.decoder)
        pipe.vae_scale_factor *= 2
        pipe.image_processor = VaeImageProcessor(vae_scale_factor=pipe.vae_scale_factor)
    return pipe


def save(tensors, path):
    save_file({k: v.detach().contiguous().clone() for k, v in sorted(tensors.items())}, path)
    path.chmod(0o644)


def sample(pipe, run, embeds, noise):
    """One run from given embeddings and noise: the last latent, the image in [0, 1] and the first call of the transformer."""
    _, _, width, height, steps, guidance, _, _ = run
    first = []
    hook = pipe.transformer.register_forward_hook(lambda _m, _a, kw, out: first.append((kw, out[0])), with_kwargs=True)
    call = dict(embeds, width=width, height=height, num_inference_steps=steps, guidance_scale=guidance, latents=noise, return_dict=False)
    latent = pipe(**call, output_type="latent")[0]
    hook.remove()
    image = pipe.vae.decode(latent / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor, return_dict=False)[0]
    return latent, image, first[0]


def inside(pipe, arguments):
    """What the parts of the transformer give in one call: embeddings, then both streams after each block."""
    found, hooks = {}, []

    def watch(module, key):
        hooks.append(module.register_forward_hook(lambda _m, _a, out: found.__setitem__(key, out)))

    watch(pipe.transformer.pos_embed, "patches")
    watch(pipe.transformer.time_text_embed, "condition")
    watch(pipe.transformer.context_embedder, "context")
    for i, block in enumerate(pipe.transformer.transformer_blocks):
        watch(block, f"block.{i}")
    pipe.transformer(**arguments)
    for it in hooks:
        it.remove()
    blocks = [k for k in found if k.startswith("block.")]
    for key in blocks:
        context, image = found.pop(key)
        found[f"{key}.image"] = image
        if context is not None:
            found[f"{key}.context"] = context
    return found


def text_goldens(pipe, tensors):
    """Ids and outputs of each encoder alone, for three prompts."""
    for key in ("lighthouse", "odd", "empty"):
        for i, (tokenizer, encoder) in enumerate([(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)], 1):
            ids = tokenizer([PROMPTS[key]], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            out = encoder(ids, output_hidden_states=True)
            tensors |= {f"text.{key}.clip_{i}.ids": ids, f"text.{key}.clip_{i}.hidden": out.hidden_states[-2], f"text.{key}.clip_{i}.pooled": out[0]}
        if pipe.text_encoder_3 is not None:
            ids = pipe.tokenizer_3([PROMPTS[key]], padding="max_length", max_length=64, truncation=True, return_tensors="pt").input_ids
            tensors |= {f"text.{key}.t5.ids": ids, f"text.{key}.t5.hidden": pipe.text_encoder_3(ids)[0]}


def vae_goldens(pipe, name, tensors):
    """The moments of a smooth noisy image, and a latent decoded in every way."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randn([1, 3, 8, 12], generator=generator)
    image = F.interpolate(coarse, size=(64, 96), mode="bicubic") * 0.5 + 0.1 * torch.randn([1, 3, 64, 96], generator=generator)
    pixels = (image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    posterior = pipe.vae.encode((pixels.float() / 255 - 0.5) / 0.5).latent_dist
    size = (2, 4) if pipe.vae_scale_factor == 16 else (4, 6)
    z = torch.randn([1, pipe.vae.config.latent_channels, *size], generator=generator)
    tensors |= {"vae.image": pixels[0].permute(1, 2, 0), "vae.mean": posterior.mean, "vae.logvar": posterior.logvar, "vae.z": z}
    if isinstance(pipe.vae.decoder, PartitionedDecoder):
        for partition in ("legacy", "exact", "off"):
            pipe.vae.decoder.partition = partition
            tensors[f"vae.{partition}"] = pipe.vae.decode(z).sample
        off, legacy, exact = (tensors[f"vae.{it}"] for it in ("off", "legacy", "exact"))
        assert (off - exact).abs().max() < 1e-6 and (legacy[:, :, 1:, 1:] - off[:, :, :-1, :-1]).abs().max() < 1e-6
    else:
        tensors["vae.off"] = pipe.vae.decode(z).sample
    print(f"{name}: vae mean std {posterior.mean.std():.3f}, logvar {posterior.logvar.mean():.3f} ± {posterior.logvar.std():.3f}, image std {tensors['vae.off'].std():.3f}")


@torch.no_grad()
def outputs(name):
    """Writes sd3/NAME.safetensors and sd3/NAME.json."""
    pipe, wide = load(name), load(name, torch.float64)
    tensors, runs, prompts = {}, [], {}
    text_goldens(pipe, tensors)
    vae_goldens(pipe, name, tensors)
    for i, run in enumerate(RUNS[name]):
        prompt, negative, width, height, steps, guidance, seed, t5_tokens = run
        keys = [prompt] + ([negative or "empty"] if guidance > 1 else [])
        embeds = {}
        for key, prefix in zip(keys, ("", "negative_")):
            both, _, pooled, _ = pipe.encode_prompt(PROMPTS[key], None, None, do_classifier_free_guidance=False, max_sequence_length=t5_tokens)
            embeds |= {f"{prefix}prompt_embeds": both, f"{prefix}pooled_prompt_embeds": pooled}
            prompts[f"{key}.{t5_tokens}"] = {"text": PROMPTS[key], "t5_tokens": t5_tokens}
            tensors |= {f"prompt.{key}.{t5_tokens}.embeds": both, f"prompt.{key}.{t5_tokens}.pooled": pooled}
        shape = [1, pipe.transformer.config.in_channels, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor]
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        latent, image, (arguments, first) = sample(pipe, run, embeds, noise)
        pixels = pipe.image_processor.postprocess(image, output_type="pil")[0]
        # The pipeline itself, from the words and the seed, must say the same.
        whole = dict(
            prompt=PROMPTS[prompt], negative_prompt=None if negative is None else PROMPTS[negative], width=width, height=height,
            num_inference_steps=steps, guidance_scale=guidance, max_sequence_length=t5_tokens, return_dict=False,
        )
        assert torch.equal(latent, pipe(**whole, generator=torch.Generator().manual_seed(seed), output_type="latent")[0])
        assert pixels.tobytes() == pipe(**whole, generator=torch.Generator().manual_seed(seed))[0][0].tobytes()
        exact, exact_image, _ = sample(wide, run, {k: v.double() for k, v in embeds.items()}, noise.double())
        rgb = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8).reshape(height, width, 3)
        rounding = ((latent - exact).abs().max() / exact.abs().max()).item()
        tensors |= {
            f"run.{i}.noise": noise, f"run.{i}.timesteps": pipe.scheduler.timesteps, f"run.{i}.sigmas": pipe.scheduler.sigmas,
            f"run.{i}.first": first, f"run.{i}.latent": latent, f"run.{i}.image": rgb,
        }
        if i == 0:
            tensors |= {f"run.0.{k}": v for k, v in inside(pipe, arguments).items()}
        runs.append({
            "prompt": PROMPTS[prompt], "negative_prompt": None if negative is None else PROMPTS[negative], "width": width, "height": height,
            "steps": steps, "guidance": guidance, "seed": seed, "t5_tokens": t5_tokens,
            "prompt_key": f"{keys[0]}.{t5_tokens}", "negative_key": f"{keys[1]}.{t5_tokens}" if guidance > 1 else None,
            "f32_rounding": float(f"{rounding:.2g}"),
        })
        saturated = (image.abs() > 1).float().mean().item()
        psnr = -10 * math.log10(((image.clamp(-1, 1) - exact_image.clamp(-1, 1)) / 2).square().mean().item())
        assert latent.isfinite().all() and saturated < 0.05 and rgb.float().std() > 8
        print(f"{name} {i}: latent std {latent.std():.3f}, pixel std {rgb.float().std():.1f}, saturated {saturated:.3f}, f32 against f64: latent {rounding:.1e}, image {psnr:.0f} dB")
    save(tensors, HERE / f"{name}.safetensors")
    document = {"vae_scale_factor": pipe.vae_scale_factor, "prompts": prompts, "runs": runs}
    (HERE / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main():
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    stages = sys.argv[1:] or ["packages", "outputs"]
    for name in sd3_packages.PACKAGES:
        if "packages" in stages:
            shutil.rmtree(HERE / name, ignore_errors=True)
            sd3_packages.write(name, HERE)
        if "outputs" in stages:
            outputs(name)


if __name__ == "__main__":
    main()
