"""`alit bench`: how fast this machine tokenizes, stage by stage, beside the floor that its arithmetic sets."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from alit_cli.data.decoding import decode
from alit_cli.data.images import fit
from alit_cli.data.measures import measure
from alit_cli.data.sources import Item
from alit_cli.model.losses import l1_per_image
from alit_cli.model.rollout import Alit
from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer import Tokenizer

REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """One stage of the work.

    Attributes:
        stage: what was done.
        images_per_second: the best of a few rounds, of one thread where it says so.
        gflop: arithmetic an image, 10⁹ floating-point operations (0 where it is none of the model's).
        floor: images/s that the measured matrix product would allow for it; 0 where gflop is.
    """

    stage: str
    images_per_second: float
    gflop: float = 0.0
    floor: float = 0.0

    @property
    def share(self) -> float:
        """Speed as a share of the floor, 0–1; 0 where there is none."""
        return self.images_per_second / self.floor if self.floor else 0.0


def bench(tokenizer: Tokenizer, items: Sequence[Item], batch_size: int, stop: float | None) -> Iterator[Timing]:
    """Time every stage on some images (synthetic photographs where `items` is empty).

    Args:
        tokenizer: the model, on its device.
        items: images to read; bad ones are left out.
        batch_size: images a batch of the model.
        stop: also time early stop at this L1.
    """
    encoded = [item.read() for item in items] or [_photograph(seed) for seed in range(batch_size)]
    side = tokenizer.config.image_size
    bits = tuple(int(b * tokenizer.config.bits_per_token) for b in tokenizer.budgets)
    images = [decode(data) for data in encoded]
    fitted = [fit(image, side) for image in images]
    yield Timing("decode (1 thread)", _rate(lambda: [decode(data) for data in encoded], len(encoded), tokenizer))
    yield Timing("fit (1 thread)", _rate(lambda: [fit(image, side) for image in images], len(images), tokenizer))
    yield Timing("measures (1 thread)", _rate(lambda: [measure(p, bits) for p in fitted], len(fitted), tokenizer))
    batch = np.stack([fitted[i % len(fitted)] for i in range(batch_size)])
    pixels = tokenizer.as_pixels(batch)
    speed = matmul_rate(tokenizer)
    rollout = list(tokenizer.iterate(pixels))
    works: list[tuple[str, Callable[[], object]]] = [
        ("tokens of every budget", lambda: list(tokenizer.iterate(pixels))),
        ("pixels of every budget", lambda: [tokenizer.reconstruct(latents.vectors) for latents in rollout]),
        ("the whole table", lambda: [l1_per_image(r.reconstruction, pixels) for r in tokenizer.rollout(pixels)]),
    ]
    for stage, work in works:
        with FlopCounterMode(display=False) as counter:
            work()
        flop = counter.get_total_flops() / batch_size
        yield Timing(stage, _rate(work, batch_size, tokenizer), flop / 1e9, speed / flop)
    if stop is not None:
        many = [fitted[i % len(fitted)] for i in range(4 * batch_size)]
        run = lambda: list(RolloutScheduler(tokenizer, tokenizer.budgets, stop, batch_size).run(many))  # noqa: E731
        yield Timing(f"the table with --stop 'l1<{stop:g}'", _rate(run, len(many), tokenizer))


def matmul_rate(tokenizer: Tokenizer) -> float:
    """FLOP/s of a large matrix product on this device, in the tokenizer's precision."""
    size = 8192 if tokenizer.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if tokenizer.precision == "bf16" else torch.float32
    a = torch.rand(size, size, device=tokenizer.device, dtype=dtype)
    return 2 * size**3 * _rate(lambda: a @ a, 1, tokenizer)


def parameters(model: Alit) -> int:
    """Numbers in the model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _rate(work: Callable[[], object], count: int, tokenizer: Tokenizer) -> float:
    """Images a second: the best of a few rounds after one that warms up."""
    best = float("inf")
    for _ in range(REPEATS + 1):
        _wait(tokenizer)
        start = time.perf_counter()
        work()
        _wait(tokenizer)
        best = min(best, time.perf_counter() - start)
    return count / best


def _wait(tokenizer: Tokenizer) -> None:
    if tokenizer.device.type == "cuda":
        torch.cuda.synchronize(tokenizer.device)


def _photograph(seed: int) -> bytes:
    """A JPEG of 500×375 pixels with structure at every scale."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((375, 500, 3))
    for size in (4, 16, 64, 256):
        small = Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
        canvas += np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC)) / 4
    buffer = io.BytesIO()
    Image.fromarray(canvas.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
