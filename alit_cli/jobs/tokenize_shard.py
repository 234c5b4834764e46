"""One shard on its way: pictures in, rows out."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from alit_cli.data.pictures.fitting import Picture, Reading
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.token_table import TableInfo, token_rows
from alit_cli.jobs.reading.reader import Reader
from alit_cli.model.losses import l1_per_image
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.scheduler import Finished, RolloutScheduler, padded_batch_size, to_storage
from alit_cli.model.tokenizer import Tokenizer

MAX_ERRORS = 5
"""Failures that a shard's mark names."""


class ShardRun:
    """Tokenizes the items of one shard.

    Args:
        tokenizer: the model.
        info: what the table says of itself, which is also what decides its rows.
        reader: turns the items into pictures.
        halving: how batches are run that do not fit into memory.
    """

    def __init__(self, tokenizer: Tokenizer, info: TableInfo, reader: Reader, halving: SplitOnOOM) -> None:
        self.tokenizer, self.info, self.reader, self.halving = tokenizer, info, reader, halving
        self.begun = time.monotonic()
        self.waited = 0.0
        self.pictures: list[Picture] = []
        self.failed = 0
        self.iterations = 0
        self.l1: dict[int, list[np.ndarray]] = {b: [] for b in info.budgets}
        self.tokens: dict[int, list[np.ndarray]] = {b: [] for b in info.budgets}
        self.reached: list[np.ndarray] = []

    def run(self, items: Sequence[Item]) -> Iterator[int]:
        """Tokenize every item; yields the number of pictures done after each batch."""
        pixels = self._pixels(items)
        done = 0
        for done in self._until(pixels, self.info.stop) if self.info.stop is not None else self._all(pixels):
            yield done
        if done < len(self.pictures):  # the last ones could not be read
            yield len(self.pictures)

    def table(self, kept: Mapping[str, Sequence[str | None]]) -> pa.Table:
        """The rows, failures included, in the order of the items; `kept` holds their kept values."""
        budgets = self.info.budgets
        reached = np.concatenate(self.reached) if self.reached else np.zeros((0, len(budgets)), bool)
        l1 = {b: np.concatenate(v) if v else np.zeros(0, np.float32) for b, v in self.l1.items()}
        tokens = {b: np.concatenate(v) if v else self._no_tokens(b) for b, v in self.tokens.items()}
        measures = bool(self.info.options.measures)
        return token_rows(self.info, self.pictures, reached, l1, tokens, measures, kept)

    def stats(self) -> dict[str, Any]:
        """What the shard's completion mark records.

        Seconds: `seconds` in all; `read` and `decode` added up over the workers; `waited` for pictures; `model` the
        rest. `memory` is the most that this process has had resident, in MiB.
        """
        statuses = Counter(picture.status for picture in self.pictures)
        seconds = time.monotonic() - self.begun
        errors = [f"{picture.image}: {picture.error}" for picture in self.pictures if picture.error]
        return {
            "images": len(self.pictures),
            "images_per_second": round(len(self.pictures) / max(seconds, 1e-9), 3),
            "statuses": statuses,
            "errors": errors[:MAX_ERRORS],
            "seconds": round(seconds, 3),
            "read": round(sum(picture.seconds[0] for picture in self.pictures), 3),
            "decode": round(sum(picture.seconds[1] for picture in self.pictures), 3),
            "waited": round(self.waited, 3),
            "model": round(seconds - self.waited, 3),
            "iterations": self.iterations,
            "memory": peak_memory(),
            **({"batch_halved": True} if self.halving.halved else {}),
        }

    def _pixels(self, items: Sequence[Item]) -> Iterator[np.ndarray]:
        """The fitted pixels of the items that can be read; what is said of each is kept."""
        pictures = self.reader.read(items)
        while True:
            begun = time.monotonic()
            picture = next(pictures, None)
            self.waited += time.monotonic() - begun
            if picture is None:
                return
            self.pictures.append(dataclasses.replace(picture, pixels=None))
            if picture.pixels is None:
                self.failed += 1
            else:
                yield picture.pixels

    def _all(self, pixels: Iterator[np.ndarray]) -> Iterator[int]:
        """Every image through every iteration; a GPU is given the next batch before the last one is fetched."""
        ahead = self.tokenizer.device.type == "cuda"
        running: tuple[int, int, tuple[Tensor, ...]] | None = None
        while batch := list(islice(pixels, self.info.batch_size)):
            begun = len(batch), len(self.pictures), self._launch(batch)
            if running is not None:
                yield self._fetch(*running)
            running = begun
            if not ahead:
                yield self._fetch(*running)
                running = None
        if running is not None:
            yield self._fetch(*running)

    def _launch(self, pixels: list[np.ndarray]) -> tuple[Tensor, ...]:
        """A batch through every iteration. All have one shape, so that no bit of a row depends on its neighbours.

        Gives, budget by budget, tokens as they are stored and, where they are wanted, the errors.
        """
        side, count = self.info.image_size, len(pixels)
        batch = np.zeros((padded_batch_size(self.info.batch_size, self.tokenizer.device), side, side, 3), np.uint8)
        batch[:count] = pixels
        self.iterations += count * (self.tokenizer.budgets.index(self.info.budgets[-1]) + 1)
        return self.halving(self._rollout, self.tokenizer.as_pixels(batch))

    def _rollout(self, images: Tensor) -> tuple[Tensor, ...]:
        found = []
        for latents in self.tokenizer.iterate(images, self.info.budgets[-1]):
            if latents.budget in self.tokens:
                found.append(latents.values if latents.ids is None else latents.ids)
                if self.info.losses:
                    found.append(l1_per_image(self.tokenizer.reconstruct(latents.vectors), images))
        return tuple(found)

    def _fetch(self, count: int, done: int, results: tuple[Tensor, ...]) -> int:
        """Take the results of a batch from the device; how many pictures are done with it."""
        rest = iter(results)
        for budget in self.info.budgets:
            self.tokens[budget].append(to_storage(next(rest), bool(self.info.codes))[:count])
            if self.info.losses:
                self.l1[budget].append(next(rest).cpu().numpy()[:count])
        self.reached.append(np.ones((count, len(self.info.budgets)), bool))
        return done

    def _until(self, pixels: Iterator[np.ndarray], threshold: float) -> Iterator[int]:
        """Every image as far as it needs."""
        scheduler = RolloutScheduler(self.tokenizer, self.info.budgets, threshold, self.info.batch_size, self.halving)
        results: dict[int, Finished] = {}
        for finished in scheduler.run(pixels):
            results |= {result.index: result for result in finished}
            yield self.failed + len(results)
        self.iterations = scheduler.advanced
        for index in range(len(results)):
            result = results[index]
            steps = len(result.l1)
            self.reached.append(np.arange(len(self.info.budgets))[None] < steps)
            for budget, tokens, error in zip(self.info.budgets, result.tokens, result.l1, strict=False):
                self.tokens[budget].append(tokens[None])
                self.l1[budget].append(np.array([error], np.float32))

    def _no_tokens(self, budget: int) -> np.ndarray:
        if self.info.codes:
            return np.zeros((0, budget), np.uint16)
        return np.zeros((0, budget, self.info.token_dim), np.float16)


def reading(tokenizer: Tokenizer, info: TableInfo) -> Reading:
    """What is done with every item of a run."""
    per_token = tokenizer.config.bits_per_token
    bits = tuple(math.floor(budget * per_token) for budget in info.budgets) if info.options.measures else None
    return Reading(info.image_size, info.fit, bits, info.digest)


def peak_memory() -> int:
    """The most that this process has had resident, in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (2**20 if sys.platform == "darwin" else 2**10)
