"""Writes sd3/noise.json and sd3/schedule.json: torch's normal draws on the CPU, and diffusers' flow-match Euler schedules.

Usage: python make_noise.py

Made with torch 2.13 on a CPU with AVX2 or better, and diffusers 0.42.1.
Values are written with the fewest digits that name the f32 (a bf16 or f16 value is an f32 too).
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

HERE = Path(__file__).parent / "sd3"
SEEDS = [0, 42, 2**40 + 3]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def digits(tensor):
    return [float(str(np.float32(it))) for it in tensor.flatten().float().tolist()]


def draw(shape, dtype, seed):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def noise():
    draws = []
    for name, dtype in DTYPES.items():
        for seed in SEEDS:
            for n in (16, 17, 33, 64, 1000):
                values = draw([n], dtype, seed)
                it = {"dtype": name, "seed": seed, "shape": [n]}
                if n < 1000:
                    it["values"] = digits(values)
                else:
                    it |= {"first": digits(values[:8]), "last": digits(values[-8:]), "sum": values.double().sum().item()}
                draws.append(it)
        # A latent of a pipeline, and two draws in a row from one generator.
        values = draw([1, 16, 12, 20], dtype, 42)
        it = {"dtype": name, "seed": 42, "shape": [1, 16, 12, 20]}
        flat = values.flatten()
        it |= {"values": digits(flat)} if name == "f32" else {"first": digits(flat[:8]), "last": digits(flat[-8:]), "sum": flat.double().sum().item()}
        draws.append(it)
    generator = torch.Generator().manual_seed(42)
    in_a_row = [digits(torch.randn([n], generator=generator)) for n in (17, 16, 33)]
    # The generator's state is made from the seed's lowest 32 bits.
    assert torch.equal(draw([64], torch.float32, 3), draw([64], torch.float32, SEEDS[2]))
    return {"draws": draws, "in_a_row": {"dtype": "f32", "seed": 42, "values": in_a_row}}


def schedule(n, grid=None, mu=None, **config):
    it = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, use_dynamic_shifting=mu is not None, **config)
    # What Flux's pipeline passes: 1, 1 - 1/n, ..., 1/n.
    sigmas = np.linspace(1.0, 1 / n, n) if grid == "flux" else None
    it.set_timesteps(**({"sigmas": sigmas} if grid == "flux" else {"num_inference_steps": n}), **({} if mu is None else {"mu": mu}))
    return {"config": config, "mu": mu, "steps": n, "grid": grid or "default", "sigmas": digits(it.sigmas), "timesteps": digits(it.timesteps)}


def schedules():
    found = [schedule(n, shift=3.0) for n in (1, 2, 4, 28, 50)] + [schedule(n, shift=1.0) for n in (1, 4, 28)]
    for mu in (0.63, 1.15, 2.5367, 3.23):
        found += [schedule(n, grid, mu) for grid in ("default", "flux") for n in (1, 4, 28, 50)]
        found += [schedule(n, "default", mu, time_shift_type="linear") for n in (4, 28)]
    return found


def main():
    (HERE / "noise.json").write_text(json.dumps(noise()) + "\n")
    (HERE / "schedule.json").write_text(json.dumps(schedules()) + "\n")


if __name__ == "__main__":
    main()
