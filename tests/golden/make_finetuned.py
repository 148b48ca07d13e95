"""Checks that diffusers loads what `jobctl model export` writes, and makes the same picture of it as `jobctl generate`.

Usage: python make_finetuned.py JOBCTL [PACKAGE]     (the program; the package to train, jobs/tiny/package unless named)

Trains the package for some steps on made-up pictures, whole and with adapters, exports both, and generates with both
programs on the CPU in f32 from one prompt and seed. The adapters' file is also loaded into the package that they were
trained on, as diffusers does it. Prints how far latents and pixels are apart, and fails where a latent is off by more than
1e-3 of its largest value or a pixel by more than 1. Made with torch 2.13 (CPU) and diffusers 0.42.1.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors.torch import load_file

from make_sd3 import PartitionedDecoder

# Without T5, diffusers puts as many zeros in its place.
PROMPT, SIDE, STEPS, SEED, T5_TOKENS = "a photograph", 128, 8, 7, 77

BLOCK = """
[[finetune]]
name = "{name}"
model = "{package}"
data = "data"
caption = "a photograph"
bands = [1, 2, 2, 4]
steps = 20
batch = 4
accumulate = 1
learning_rate = {rate}
size = 128
views = 2
t5_tokens = 0
dtype = "f32"
{keys}
"""


def pictures(folder):
    """Eight pictures of waves."""
    folder.mkdir()
    y, x = np.mgrid[0:160, 0:192]
    for idx in range(8):
        waves = [np.sin((x * (idx + 2) + y * c * 3) / 40 + c) for c in range(3)]
        Image.fromarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8)).save(folder / f"{idx}.png")


def load(folder):
    """A package as diffusers loads it, with the VAE that its config asks for."""
    absent = {} if (folder / "text_encoder_3").exists() else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32, **absent)
    pipe.set_progress_bar_config(disable=True)
    if json.loads((folder / "vae" / "config.json").read_text()).get("stride", 1) == 2:
        pipe.vae.encoder.conv_in.stride = (2, 2)
        pipe.vae.decoder = PartitionedDecoder(pipe.vae.decoder)
        pipe.vae.decoder.partition = "exact"
        pipe.vae_scale_factor *= 2
        pipe.image_processor = VaeImageProcessor(vae_scale_factor=pipe.vae_scale_factor)
    return pipe


def theirs(pipe):
    """The last latent and the picture of diffusers."""
    call = dict(prompt=PROMPT, max_sequence_length=T5_TOKENS, width=SIDE, height=SIDE, num_inference_steps=STEPS, guidance_scale=1.0)
    with torch.no_grad():
        latent = pipe(**call, generator=torch.Generator().manual_seed(SEED), output_type="latent").images
        image = pipe.vae.decode(latent / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor, return_dict=False)[0]
    image = ((image[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)
    return latent, image


def main():
    program, here = Path(sys.argv[1]).resolve(), Path(__file__).resolve().parent
    package = Path(sys.argv[2] if len(sys.argv) > 2 else here / "../../jobs/tiny/package").resolve()
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        # Postgres refuses root: the user that runs it must reach its folder.
        home.chmod(0o755)
        pictures(home / "data")
        blocks = [("whole", "1e-3", ""), ("lora", "1e-2", "lora = { rank = 4, alpha = 8 }")]
        text = "".join(BLOCK.format(name=name, package=package, rate=rate, keys=keys) for name, rate, keys in blocks)
        (home / "sweep.toml").write_text(f'name = "exported"\n{text}')
        environment = os.environ | {"JOBCTL_HOME": str(home / "home")}

        def jobctl(*arguments):
            return subprocess.run([program, *map(str, arguments)], check=True, env=environment, capture_output=True, text=True).stdout

        try:
            jobctl("run", home / "sweep.toml", "--device", "cpu")
            sweep = json.loads(jobctl("status", "--json"))["sweeps"][0]["sweep"]
            found = {"before": theirs(load(package))[1]}
            for name, _, _ in blocks:
                folder = home / name
                jobctl("model", "export", sweep, name, folder)
                ours, latent = home / f"{name}.png", home / f"{name}.safetensors"
                how = ["--size", f"{SIDE}x{SIDE}", "--steps", STEPS, "--guidance", 1, "--seed", SEED, "--t5-tokens", T5_TOKENS, "--dtype", "f32"]
                jobctl("generate", "--model", folder, "--prompt", PROMPT, *how, "--out", ours, "--latent-out", latent)
                pipes = {"package": load(folder)}
                if name == "lora":
                    pipes["adapters"] = load(package)
                    pipes["adapters"].load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")
                mine, pixels = load_file(latent)["latent"], np.asarray(Image.open(ours)).astype(int)
                for what, pipe in pipes.items():
                    their_latent, image = theirs(pipe)
                    off = ((mine - their_latent).abs().max() / their_latent.abs().max()).item()
                    apart = np.abs(pixels - image)
                    moved = np.abs(image - found["before"]).mean()
                    print(f"{name}, {what}: latent off by {off:.1e} of its largest value; {100 * (apart > 0).mean():.3f} % of the values differ, by {apart.max()} at most; training moved them by {moved:.1f} on average")
                    assert off < 1e-3 and apart.max() <= 1, "the pictures differ"
                    assert moved > 1, "training changed nothing that can be seen"
        finally:
            subprocess.run([program, "db", "stop"], env=environment, check=False)


if __name__ == "__main__":
    main()
