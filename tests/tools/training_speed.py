"""Step time of training, ours against the plainest correct loop (float32, eager, contiguous), in one run.

    python tests/tools/training_speed.py --preset nano --batch 16
    python tests/tools/training_speed.py --preset small --batch 1 --steps 1

Prints images/s of a distillation step and of a fine-tuning step for each way to compute, their ratio to the plain
loop, and the share of the matmul rate (bf16 on a GPU) measured in the same run. Photographs are random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from alit_cli.config import preset
from alit_cli.model.device import autocast, choose_device
from alit_cli.model.rollout import Alit
from alit_cli.training.stages.losses import grid_loss, quantization_loss


def main() -> None:
    """Measure every way for both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    torch.manual_seed(0)
    config = preset(options.preset, None if options.preset == "nano" else "vae")
    images = torch.rand(options.batch, 3, config.image_size, config.image_size, device=device)
    rate = _matmul_rate(device)
    threads = torch.get_num_threads()
    print(f"{config.name}, batch {options.batch}, {device}, {threads} threads, {rate / 1e12:.2f} TFLOP/s")
    print("| step | way | images/s | times plain | share of matmul rate |\n|---|---|---|---|---|")
    for stage in ("distill, all iterations", "distill, sampled (last)", "finetune (last)"):
        plain = 0.0
        for way in ("plain", "ours") if device.type == "cpu" else ("plain", "bf16", "bf16 channels-last compiled"):
            model = Alit(config).to(device).train()
            ours = way != "plain"
            if "channels-last" in way:
                model.base.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if "compiled" in way:
                for part in (model.encoder.blocks, model.decoder.blocks):
                    part.compile()
            step = _step(model, images, stage, ours, "bf16" in way)
            with FlopCounterMode(display=False) as counter:
                step()
            seconds = _seconds(step, options.steps, device)
            speed = options.batch / seconds
            plain = plain or speed
            share = counter.get_total_flops() / seconds / rate
            print(f"| {stage} | {way} | {speed:.3g} | {speed / plain:.2f} | {share:.0%} |", flush=True)


def _step(model: Alit, images: Tensor, stage: str, ours: bool, half: bool) -> Callable[[], None]:
    """One optimizer step; `ours` keeps the base features and uses the fused optimizer, as the training loop does."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=ours, foreach=False if not ours else None)
    with torch.no_grad():
        kept = model.base.encode(images)

    def loss() -> Tensor:
        with torch.no_grad():
            features = kept if ours else model.base.encode(images)
        target = model.base.target(features)
        state = model.start(images, features)
        total = images.new_zeros(())
        for t in range(model.config.iterations):
            state = model.encoder.advance(state)
            if stage.startswith("distill, all") or t == model.config.iterations - 1:
                latents = model.read(state)
                prediction = model.decoder(latents.vectors)
                if stage.startswith("distill"):
                    total = (
                        total
                        + grid_loss(model.base, prediction, target).weighted(t)
                        + quantization_loss(model.codebook, latents)
                    )
                else:
                    total = (
                        total
                        + F.l1_loss(model.base.decode(prediction), images)
                        + quantization_loss(model.codebook, latents)
                    )
        return total

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(images.device, "bf16" if half else "float32"):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def _seconds(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """The best of `steps` steps after the first."""
    best = float("inf")
    for _ in range(steps):
        _wait(device)
        start = time.perf_counter()
        step()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return best


def _matmul_rate(device: torch.device) -> float:
    """FLOP/s of a large matrix product here: bf16 on a GPU, float32 on a CPU."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (2048, torch.float32)
    a = torch.rand(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _seconds(lambda: (a @ a, None)[1], 5, device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
