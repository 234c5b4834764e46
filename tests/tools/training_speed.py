"""Images per second of a training step before and after what makes it faster, interleaved in one run.

    OMP_NUM_THREADS=1 python tests/tools/training_speed.py --image-size 256 --width 192 --layers 4 --heads 6
    python tests/tools/training_speed.py --preset small --batch 1 --steps 1        # on a GPU

Before: float32, eager, base features computed at every step, freed buffers returned to the system, plain optimizer.
After: what the product does on this machine (bf16 where the hardware has it, cached features, kept buffers, fused
optimizer; on a GPU also channels-last and compiled). Steps of both alternate, and the best of each counts, so that a
busy machine slows both alike. Photographs are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from alit_cli.config import ModelConfig, preset
from alit_cli.model.device import Precision, autocast, choose_device, speed_up
from alit_cli.model.memory import keep_freed_memory
from alit_cli.model.rollout import Alit
from alit_cli.training.speed import training_precision
from alit_cli.training.stages.losses import grid_loss, quantization_loss

STEPS = ("distill, all iterations", "distill, one iteration", "finetune, one iteration")
SIZES = ("image_size", "tokens_per_iteration", "width", "layers", "heads")


def main() -> None:
    """Measure both ways for every kind of step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="auto")
    for name in SIZES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    options = parser.parse_args()
    device = choose_device(options.device)
    torch.manual_seed(0)
    config = preset(options.preset, None if options.preset == "nano" else "vae")
    sizes = {name: value for name in SIZES if (value := getattr(options, name)) is not None}
    config = dataclasses.replace(config, **sizes)
    images = torch.rand(options.batch, 3, config.image_size, config.image_size, device=device)
    after = training_precision("auto", device)
    size = f"width {config.width}, {config.layers}+{config.layers} layers, {config.image_size} px"
    print(f"{size}, {config.budgets[-1]} tokens, batch {options.batch}, {device}, after: {after}")
    print("| step | images/s before | after | ratio |\n|---|---|---|---|")
    for kind in STEPS:
        ways = [_step(config, images, kind, fast=False, precision="float32"), _step(config, images, kind, True, after)]
        best = [float("inf")] * 2
        for number in range(options.steps + 1):
            for way, step in enumerate(ways):
                keep_freed_memory(way == 1)
                seconds = _seconds(step, device)
                best[way] = min(best[way], seconds) if number else best[way]  # the first one warms up
        before, now = (options.batch / seconds for seconds in best)
        print(f"| {kind} | {before:.3g} | {now:.3g} | {now / before:.2f} |", flush=True)


def _step(config: ModelConfig, images: Tensor, kind: str, fast: bool, precision: Precision) -> Callable[[], None]:
    """One optimizer step."""
    model = Alit(config).to(images.device).train()
    if fast:
        speed_up(model, images.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=fast, foreach=None if fast else False)
    with torch.no_grad():
        cached = model.base.encode(images)

    def loss() -> Tensor:
        with torch.no_grad():
            features = cached if fast else model.base.encode(images)
        target = model.base.target(features)
        state = model.start(images, features)
        total = images.new_zeros(())
        for t in range(config.iterations):
            state = model.encoder.advance(state)
            if kind.startswith("distill, all") or t == config.iterations - 1:
                latents = model.read(state)
                prediction = model.decoder(latents.vectors)
                total = total + quantization_loss(model.codebook, latents)
                if kind.startswith("distill"):
                    total = total + grid_loss(model.base, prediction, target).weighted(t)
                else:
                    total = total + F.l1_loss(model.base.decode(prediction), images)
        return total

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(images.device, precision):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    """How long one step takes."""
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
