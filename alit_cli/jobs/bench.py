"""`alit bench`: how fast this machine tokenizes, stage by stage, beside what its arithmetic and its decoder allow."""

from __future__ import annotations

import dataclasses
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.pictures.measures import measure
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import ImageProblem, InputError
from alit_cli.jobs.tokenize import TokenizeJob, table_info
from alit_cli.model.arithmetic import count_flop
from alit_cli.model.device import Precision, autocast, prepare_model
from alit_cli.model.layers import Linear
from alit_cli.model.losses import l1_per_image
from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.model.tokenizer_model import Latents, State, TokenizerModel
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place
from alit_cli.runs.prepared import prepare
from alit_cli.runs.run import join_if_complete

# Other work on the machine only makes a round slower, so the best of a few rounds is the most reliable one.
REPEATS = 3
AGREEMENT_IMAGES = 16
"""Precisions are compared on so many images at most, since it takes three rollouts of each."""


@dataclass(frozen=True)
class Timing:
    """One stage of the work.

    Attributes:
        stage: what was done.
        images_per_second: the best of a few rounds; of one thread where it says so.
        gflop: the model's arithmetic per image, 10⁹ floating-point operations.
        floor: images/s at the best measured rates of arithmetic and of a plain decoder, and never less than was
            reached; 0 where neither counts.
    """

    stage: str
    images_per_second: float
    gflop: float = 0.0
    floor: float = 0.0

    @property
    def share(self) -> float:
        """Speed as a share of the floor; 0 where there is none."""
        return self.images_per_second / self.floor if self.floor else 0.0


@dataclass(frozen=True)
class _Flop:
    """Arithmetic per image, of what makes tokens and of what makes only pixels of them."""

    tokens: float
    pixels: float


@dataclass(frozen=True)
class Rates:
    """What this machine does at best.

    Attributes:
        matmul: FLOP/s of all its threads in the precision of tokens.
        pixels: the same in the precision of pixels, which is another one in `mixed`.
        decode: bytes/s of one thread.
    """

    matmul: float
    pixels: float
    decode: float


@dataclass(frozen=True)
class Agreement:
    """How far a precision is from float32 at every budget: share of equal ids (nan without a codebook) and |ΔL1|."""

    images: int
    ids_equal: float
    l1_mean: float
    l1_largest: float


class Bench:
    """Times a model on some images.

    Args:
        tokenizer: the model, on its device.
        job: what is read (synthetic photographs where it names nothing), and how; its `out` is not used.

    Raises:
        InputError: as list_items, or none of the images can be read.
    """

    def __init__(self, tokenizer: Tokenizer, job: TokenizeJob) -> None:
        self.tokenizer, self.job = tokenizer, job
        self.batch_size = table_info(job).batch_size
        items = list_items(list(job.paths), job.limit) if job.paths else []
        # Synthetic photographs have a fixed seed, so that two machines can be compared without a data set.
        everything = [item.read() for item in items] or [_photograph(seed) for seed in range(job.limit or 64)]
        self.encoded = [data for data in everything if _fine(data)]
        if not self.encoded:
            raise InputError("None of these images can be read; choose others.")
        self.images = [decode(data) for data in self.encoded]
        self.fitted = [fit(image, tokenizer.config.image_size, job.fit) for image in self.images]
        # A few images are repeated until the batch is full.
        whole = [self.fitted[i % len(self.fitted)] for i in range(self.batch_size)]
        self.pixels = tokenizer.as_pixels(np.stack(whole))
        # Plain decoding by Pillow is the yardstick for our own decoder. A round decodes all bytes, so its rate times
        # their number is in bytes/s.
        plain = _rate(lambda: [Image.open(io.BytesIO(data)).convert("RGB") for data in self.encoded], 1, tokenizer)
        tokens = matmul_rate(tokenizer)
        # Only in `mixed` are pixels made in another precision than tokens.
        pixels = matmul_rate(tokenizer, only_pixels=True) if tokenizer.precision == "mixed" else tokens
        self.rates = Rates(tokens, pixels, plain * sum(map(len, self.encoded)))

    def timings(self, stop: float | None = None) -> Iterator[Timing]:
        """Every stage, then all of `alit tokenize`, then with early stop (None: where it halves the mean budget)."""
        yield from self._reading()
        whole = _Flop(0.0, 0.0)
        for stage, work, only_pixels in self._stages():
            flop = count_flop(work) / self.batch_size
            own = _Flop(0.0, flop) if only_pixels else _Flop(flop, 0.0)
            whole = _Flop(whole.tokens + own.tokens, whole.pixels + own.pixels)
            yield self._timing(stage, _rate(work, self.batch_size, self.tokenizer), own, 0.0)
        speed = _rate(lambda: self._results(self.tokenizer, self.pixels), self.batch_size, self.tokenizer)
        yield self._timing("the whole model", speed, whole, 0.0)
        decoding = float(np.mean([len(data) for data in self.encoded])) / self.rates.decode / (os.cpu_count() or 1)
        yield self._timing("alit tokenize", self._total(None), whole, decoding)
        stop = halving(self._losses(), self.tokenizer.budgets) if stop is None else stop
        scheduler = RolloutScheduler(self.tokenizer, self.tokenizer.budgets, stop, self.batch_size)
        flop = count_flop(lambda: list(scheduler.run(self.fitted))) / len(self.fitted)
        # Every image that takes a step is decoded after it, so that both parts shrink alike.
        share = flop / (whole.tokens + whole.pixels)
        stopped = _Flop(whole.tokens * share, whole.pixels * share)
        yield self._timing(f"alit tokenize --stop 'l1<{stop:.3g}'", self._total(stop), stopped, decoding)

    def agreement(self, precision: Precision) -> Agreement:
        """A precision beside float32 on the first fitted images, in batches of one shape."""
        tokenizer = self.tokenizer
        exact, other = (dataclasses.replace(tokenizer, precision=name) for name in ("float32", precision))
        images = [self.fitted[i % len(self.fitted)] for i in range(max(AGREEMENT_IMAGES, self.batch_size))]
        images = images[: min(len(images), max(len(self.fitted), self.batch_size))]
        ids, gaps = [], []
        for start in range(0, len(images), self.batch_size):
            pixels = tokenizer.as_pixels(np.stack(images[start : start + self.batch_size]))
            (ours, l1), (theirs, other_l1) = (self._results(way, pixels) for way in (exact, other))
            ids.append((ours == theirs).float())
            gaps.append((l1 - other_l1).abs().flatten())
        equal, gap = torch.cat(ids), torch.cat(gaps)
        share = float(equal.mean()) if len(equal) else float("nan")
        return Agreement(len(images), share, float(gap.mean()), float(gap.max()))

    def _timing(self, stage: str, speed: float, flop: _Flop, decoding: float) -> Timing:
        """A stage with its bound; arithmetic and decoding (seconds) take turns on a CPU and overlap beside a GPU."""
        arithmetic = flop.tokens / self.rates.matmul + flop.pixels / self.rates.pixels
        on_cpu = self.tokenizer.device.type == "cpu"
        floor = 1 / (arithmetic + decoding if on_cpu else max(arithmetic, decoding))
        # The rates were measured at another moment and on other shapes. What was reached is possible, and so a bound.
        return Timing(stage, speed, (flop.tokens + flop.pixels) / 1e9, max(floor, speed))

    def _reading(self) -> Iterator[Timing]:
        tokenizer, count = self.tokenizer, len(self.images)
        side, bits = tokenizer.config.image_size, [int(b * tokenizer.config.bits_per_token) for b in tokenizer.budgets]
        floor = self.rates.decode / np.mean([len(data) for data in self.encoded])
        speed = _rate(lambda: [decode(data) for data in self.encoded], count, tokenizer)
        yield Timing("decode (1 thread)", speed, 0.0, max(float(floor), speed))
        yield Timing("fit (1 thread)", _rate(lambda: [fit(image, side) for image in self.images], count, tokenizer))
        yield Timing(
            "measures (1 thread)", _rate(lambda: [measure(p, tuple(bits)) for p in self.fitted], count, tokenizer)
        )

    def _stages(self) -> list[tuple[str, Callable[[], object], bool]]:
        """The model's work on a batch, and whether it makes only pixels; convolutions apart from both transformers."""
        tokenizer, pixels = self.tokenizer, self.pixels
        # Every stage starts from results that are made here, so that each is timed alone.
        state = tokenizer.start(pixels)
        rollout = list(self._iterate(state))
        predicted = [self._predict(latents) for latents in rollout]
        return [
            ("base tokenizer in (convolutions)", lambda: tokenizer.start(pixels), False),
            ("rollout to every budget", lambda: list(self._iterate(state)), False),
            ("grid of every budget", lambda: [self._predict(latents) for latents in rollout], True),
            ("pixels of every budget (convolutions)", lambda: [self._decode(grid) for grid in predicted], True),
        ]

    def _iterate(self, state: State) -> Iterator[Latents]:
        for _ in self.tokenizer.budgets:
            state, latents = self.tokenizer.advance(state)
            yield latents

    def _predict(self, latents: Latents) -> Tensor:
        with torch.no_grad(), autocast(self.tokenizer.device, self.tokenizer.precision, only_pixels=True):
            return self.tokenizer.model.predict(latents.vectors)

    def _decode(self, grid: Tensor) -> Tensor:
        with torch.no_grad(), autocast(self.tokenizer.device, self.tokenizer.precision, only_pixels=True):
            return self.tokenizer.model.pixels(grid)

    def _results(self, tokenizer: Tokenizer, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (all of them in one row; none of a continuous model) and L1 (T b) of a batch."""
        ids, errors = [], []
        for record in tokenizer.rollout(pixels):
            errors.append(l1_per_image(record.reconstruction, pixels))
            if record.latents.ids is not None:
                ids.append(record.latents.ids.flatten())
        return torch.cat(ids) if ids else torch.empty(0), torch.stack(errors)

    def _losses(self) -> np.ndarray:
        """L1 of every fitted image at every budget, n T."""
        rows = []
        for start in range(0, len(self.fitted), self.batch_size):
            pixels = self.tokenizer.as_pixels(np.stack(self.fitted[start : start + self.batch_size]))
            errors = [l1_per_image(record.reconstruction, pixels) for record in self.tokenizer.rollout(pixels)]
            rows.append(torch.stack(errors, dim=1).cpu().numpy())
        return np.concatenate(rows)

    def _total(self, stop: float | None) -> float:
        """Images/s from files to a table, the model being loaded: the better of two runs."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number, data in enumerate(self.encoded):
                # Images are found by their suffix, but decoded by their content, so this suffix does for any format.
                (folder / f"{number}.jpg").write_bytes(data)
            seconds = []
            # The first run also pays for compilation and for cold caches of the disk.
            for out in ("one.parquet", "two.parquet"):
                job = dataclasses.replace(self.job, paths=[name], out=folder / out, stop=stop, nul_separated=False)
                prepared = prepare(job)
                assert prepared is not None
                with ShardRunner(prepared, Place(str(self.tokenizer.device))) as runner:
                    begun = time.perf_counter()
                    for index in prepared.due_shards():
                        list(runner.do(index))
                    runner.flush()
                    join_if_complete(prepared)
                    seconds.append(time.perf_counter() - begun)
            return len(self.encoded) / min(seconds)


def halving(losses: np.ndarray, budgets: Sequence[int]) -> float:
    """The L1 threshold whose mean visited budget comes nearest to half of the largest; losses n T."""
    steps = np.asarray(budgets)
    # The lowest threshold is left out, as no L1 is strictly below it; 199 others are fine enough.
    thresholds = np.linspace(np.nanmin(losses), np.nanmax(losses), 200)[1:]
    below = [losses < threshold for threshold in thresholds]
    # As in the scheduler, an image that is never below the threshold gets the largest budget.
    visited = [np.where(b.any(axis=1), steps[b.argmax(axis=1)], steps[-1]).mean() for b in below]
    return float(thresholds[np.abs(np.array(visited) - steps[-1] / 2).argmin()])


def matmul_rate(tokenizer: Tokenizer, only_pixels: bool = False) -> float:
    """FLOP/s that this device reaches at best in large products, in the tokenizer's precision of tokens or of pixels.

    They are a product of two matrices and a convolution, and on a CPU also a layer by the other library
    (layers.Linear), because none of them is the fastest everywhere.
    """
    # The product must be so large that arithmetic and not memory limits it, and still take about a second at most.
    size = 8192 if tokenizer.device.type == "cuda" else 2048
    half = tokenizer.precision == "bf16" or (tokenizer.precision == "mixed" and only_pixels)
    place: dict[str, Any] = {"device": tokenizer.device, "dtype": torch.bfloat16 if half else torch.float32}
    a = torch.rand(size, size, **place)
    image = torch.rand(1, 256, size // 32, size // 32, **place).contiguous(memory_format=torch.channels_last)
    layer, conv = Linear(size, size, **place), nn.Conv2d(256, 256, 3, padding=1, **place)
    with torch.no_grad():
        prepare_model(layer, tokenizer.device)
        # A product of two square matrices takes size³ multiplications and as many additions.
        square = 2 * size**3
        window = 2 * 9 * 256**2 * (size // 32) ** 2
        works = [(square, lambda: a @ a), (square, lambda: layer(a)), (window, lambda: conv(image))]
        return max(flop * _rate(work, 1, tokenizer) for flop, work in works)


def parameters(model: TokenizerModel) -> int:
    """Numbers in the model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _rate(work: Callable[[], object], count: int, tokenizer: Tokenizer) -> float:
    """Images per second: the best of a few rounds after one that warms up."""
    best = float("inf")
    # The round that warms up counts as well, since it cannot be the best by mistake.
    for _ in range(REPEATS + 1):
        _wait(tokenizer)
        start = time.perf_counter()
        work()
        _wait(tokenizer)
        best = min(best, time.perf_counter() - start)
    return count / best


def _wait(tokenizer: Tokenizer) -> None:
    # A GPU computes asynchronously: without waiting, only the launch would be timed.
    if tokenizer.device.type == "cuda":
        torch.cuda.synchronize(tokenizer.device)


def _fine(data: bytes) -> bool:
    try:
        decode(data)
    except ImageProblem:
        return False
    return True


def _photograph(seed: int) -> bytes:
    """A JPEG of 500×375 pixels with structure at every scale."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((375, 500, 3))
    # Noise of four sizes is enlarged and added up, so that JPEG has about as much to do as with a photograph.
    for size in (4, 16, 64, 256):
        small = Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
        canvas += np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC)) / 4
    buffer = io.BytesIO()
    Image.fromarray(canvas.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
