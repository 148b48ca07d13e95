"""Writes train/: what pytorch_wavelets, diffusers and torch.optim make of fine-tuning, and Pillow of its pictures.

Usage: python make_train.py [dwt] [steps] [resize]     (all unless some are named)

Made with torch 2.13 (CPU), diffusers 0.42.1, pytorch_wavelets 1.3.0 and Pillow 13.0. Equal seeds give equal files.

train/dwt.safetensors      `N.x` [B, C, H, W]; `N.J.low`, `N.J.high.L`: DWTForward(J, 'haar', 'zero'), level L counted from 1 (fine)
train/schemes.safetensors  the batch of six images that the schemes' losses are of
train/schemes.json         of each scheme of the training scripts: draws, places, noise levels, timesteps, weights, losses
train/steps.safetensors    four batches; gradients of every parameter for the first; weights after 3 and 20 steps
train/steps.json           losses, gradient norms and learning rates of these steps; digests of the gradients of sd3/odd
train/resize.json          digests of pictures resized and cropped by Pillow
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from PIL import Image
from pytorch_wavelets import DWTForward
from safetensors.torch import save_file
from torchvision import transforms

HERE = Path(__file__).parent
OUT = HERE / "train"
# Bands from coarse to fine: [LL2, LH2, HL2, HH2, LH1, HL1, HH1].
WEIGHTED = [1.0, 1.5, 0.5, 2.0, 3.0, 0.25, 4.0]
SIZE = (10, 14)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(tensors, path):
    save_file({k: v.detach().contiguous().clone() for k, v in sorted(tensors.items())}, path)
    path.chmod(0o644)


def bands_of(x, levels):
    """The coefficients from coarse to fine."""
    if levels == 0:
        return [x]
    low, high = DWTForward(J=levels, wave="haar", mode="zero")(x)
    return [low] + [it for level in reversed(high) for it in torch.unbind(level, dim=2)]


def dwt():
    found = {}
    for n, shape in enumerate([(1, 2, 8, 12), (2, 1, 7, 9), (1, 3, 5, 14), (1, 1, 1, 3), (1, 1, 13, 2)]):
        x = found[f"{n}.x"] = noise(n, *shape)
        for levels in (1, 2, 3):
            low, high = DWTForward(J=levels, wave="haar", mode="zero")(x)
            found[f"{n}.{levels}.low"] = low
            for level, it in enumerate(high):
                found[f"{n}.{levels}.high.{level + 1}"] = it
    save(found, OUT / "dwt.safetensors")


def loss_of(velocity, x0, eps, sigma, weight, space, bands):
    """The loss as the script writes it, and each band's part."""
    s = sigma.view(-1, 1, 1, 1)
    if space == "x0":
        noisy = (1 - s) * x0 + s * eps
        ours, theirs = noisy - s * velocity, x0
    else:
        ours, theirs = velocity, eps - x0
    levels = len(bands) // 3
    n = x0[0].numel()
    parts = []
    for a, b in zip(bands_of(ours, levels), bands_of(theirs, levels)):
        per_image = (a - b).float().pow(2).flatten(1).sum(1) / n
        parts.append((weight * per_image).mean())
    return sum(w * it for w, it in zip(bands, parts)), parts


class Package:
    def __init__(self, name):
        self.model = SD3Transformer2DModel.from_pretrained(HERE / "sd3" / name / "transformer", torch_dtype=torch.float32)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(HERE / "sd3" / name / "scheduler")
        self.table = torch.tensor(np.linspace(1, 1000, 1000, dtype=np.float32)[::-1].copy())
        shift = 1.0 if scheduler.config.use_dynamic_shifting else scheduler.config.shift
        self.sigmas = self.table / 1000
        self.sigmas = shift * self.sigmas / (1 + (shift - 1) * self.sigmas)
        self.timesteps = self.sigmas * 1000
        if not scheduler.config.use_dynamic_shifting:
            assert torch.equal(self.timesteps, scheduler.timesteps)

    def batch(self, seed, n=2):
        c = self.model.config
        density = compute_density_for_timestep_sampling("logit_normal", n, 0.0, 1.0, 1.29, generator=torch.Generator().manual_seed(seed))
        at = (density * 1000).long()
        return {
            "x0": noise(1000 + seed, n, c.in_channels, *SIZE), "noise": noise(2000 + seed, n, c.in_channels, *SIZE),
            "context": noise(3000 + seed, n, 9, c.joint_attention_dim), "pooled": noise(4000 + seed, n, c.pooled_projection_dim),
            "sigma": self.sigmas[at], "timestep": self.timesteps[at],
        }

    def velocity(self, it):
        s = it["sigma"].view(-1, 1, 1, 1)
        noisy = (1 - s) * it["x0"] + s * it["noise"]
        return self.model(hidden_states=noisy, timestep=it["timestep"], encoder_hidden_states=it["context"], pooled_projections=it["pooled"], return_dict=False)[0]

    def loss(self, it, space, bands):
        ones = torch.ones_like(it["sigma"])
        return loss_of(self.velocity(it), it["x0"], it["noise"], it["sigma"], ones, space, bands)


def schemes():
    package, rows = Package("tiny"), []
    for name in ("logit_normal", "mode", "sigma_sqrt", "cosmap", "none"):
        for mean, std, scale in ((0.0, 1.0, 1.29), (0.5, 0.8, -0.7)):
            n = 6
            torch.manual_seed(7)
            places = compute_density_for_timestep_sampling(name, n, mean, std, scale)
            torch.manual_seed(7)
            draws = torch.normal(0.0, 1.0, (n,)) if name == "logit_normal" else torch.rand(n)
            at = (places * 1000).long()
            sigma, timestep = package.sigmas[at], package.timesteps[at]
            weight = compute_loss_weighting_for_sd3(name, sigma)
            it = package.batch(0, n) | {"sigma": sigma, "timestep": timestep}
            with torch.no_grad():
                velocity = package.velocity(it)
            losses = []
            for space in ("x0", "velocity"):
                for bands in ([1.0], [1.0] * 4, WEIGHTED[:1] + WEIGHTED[4:], WEIGHTED):
                    # In f64, so that the golden number is the formula's, not its rounding's.
                    wide = [x.double() for x in (velocity, it["x0"], it["noise"], sigma, weight)]
                    torch.set_default_dtype(torch.float64)
                    total, parts = loss_of_wide(*wide, space, bands)
                    torch.set_default_dtype(torch.float32)
                    losses.append({"space": space, "bands": bands, "loss": total.item(), "parts": [p.item() for p in parts]})
            rows.append({
                "scheme": name, "mean": mean, "std": std, "mode_scale": scale, "draws": draws.tolist(), "places": places.tolist(),
                "sigmas": sigma.tolist(), "timesteps": timestep.tolist(), "weights": weight.tolist(), "losses": losses,
            })
    (OUT / "schemes.json").write_text(json.dumps(rows, indent=1) + "\n")
    it = package.batch(0, 6)
    save({k: it[k] for k in ("x0", "noise", "context", "pooled")}, OUT / "schemes.safetensors")


def loss_of_wide(velocity, x0, eps, sigma, weight, space, bands):
    s = sigma.view(-1, 1, 1, 1)
    noisy = (1 - s) * x0 + s * eps
    ours, theirs = (noisy - s * velocity, x0) if space == "x0" else (velocity, eps - x0)
    n, parts = x0[0].numel(), []
    for a, b in zip(bands_of(ours, len(bands) // 3), bands_of(theirs, len(bands) // 3)):
        parts.append((weight * ((a - b).pow(2).flatten(1).sum(1) / n)).mean())
    return sum(w * it for w, it in zip(bands, parts)), parts


def steps():
    found, told = {}, {}
    package = Package("tiny")
    batches = [package.batch(seed) for seed in range(4)]
    for n, it in enumerate(batches):
        found |= {f"batch.{n}.{k}": v for k, v in it.items()}
    named = dict(package.model.named_parameters())
    total, parts = package.loss(batches[0], "x0", WEIGHTED)
    total.backward()
    found |= {f"grad.{k}": v.grad for k, v in named.items()}
    told["first"] = {"loss": total.item(), "parts": [p.item() for p in parts]}

    settings = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
    optimiser = torch.optim.AdamW(package.model.parameters(), **settings)
    told["settings"] = settings | {"clip": 1.0, "space": "velocity", "bands": WEIGHTED}
    told["steps"] = []
    for step in range(20):
        optimiser.zero_grad()
        total, _ = package.loss(batches[step % 4], "velocity", WEIGHTED)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(package.model.parameters(), 1.0)
        optimiser.step()
        told["steps"].append({"loss": total.item(), "norm": norm.item()})
        if step + 1 in (3, 20):
            found |= {f"after.{step + 1}.{k}": v for k, v in named.items()}
            found = {k: v.detach().clone() for k, v in found.items()}

    # The second package has everything that the first lacks; of its gradients only digests are kept.
    package = Package("odd")
    it = package.batch(5)
    total, _ = package.loss(it, "velocity", [1.0])
    total.backward()
    found |= {f"odd.{k}": v for k, v in it.items()}
    digest = lambda g: [g.double().norm().item(), (g.double().flatten() * torch.cos(torch.arange(g.numel(), dtype=torch.float64))).sum().item()]
    told["odd"] = {"loss": total.item(), "gradients": {k: digest(v.grad) for k, v in package.model.named_parameters()}}
    save(found, OUT / "steps.safetensors")
    (OUT / "steps.json").write_text(json.dumps(told, indent=1) + "\n")


def pattern(width, height):
    """A picture from a formula: edges, slopes and noise enough to need every weight."""
    y, x, c = np.meshgrid(np.arange(height, dtype=np.int64), np.arange(width, dtype=np.int64), np.arange(3, dtype=np.int64), indexing="ij")
    return Image.fromarray(((x * 7 + y * 13 + c * 29 + (x * y) % 31 * 5 + 255 * ((x // 5 + y // 3) % 2)) % 256).astype(np.uint8))


def resize():
    filters = {"box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
    sizes = [((64, 48), (32, 24)), ((61, 47), (17, 33)), ((33, 57), (71, 58)), ((200, 3), (7, 3)), ((5, 120), (5, 31)), ((1, 1), (4, 3)), ((257, 129), (64, 64))]
    rows = []
    for (w, h), to in sizes:
        for name, it in filters.items():
            pixels = pattern(w, h).resize(to, it).tobytes()
            rows.append({"from": [w, h], "to": to, "filter": name, "sha256": hashlib.sha256(pixels).hexdigest()})
    crops = []
    for (w, h), side in (((61, 47), 32), ((47, 62), 33), ((50, 50), 20), ((40, 91), 64)):
        it = transforms.functional.resize(pattern(w, h), side, interpolation=transforms.InterpolationMode.BILINEAR)
        it = transforms.functional.center_crop(it, side)
        crops.append({"from": [w, h], "side": side, "sha256": hashlib.sha256(it.tobytes()).hexdigest()})
    (OUT / "resize.json").write_text(json.dumps({"resized": rows, "cut": crops}, indent=1) + "\n")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["dwt", "steps", "resize"]
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    if "dwt" in wanted:
        dwt()
    if "steps" in wanted:
        schemes()
        steps()
    if "resize" in wanted:
        resize()
