"""One shard on its way: pictures in, rows out."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np
import pyarrow as pa

from alit_cli.data.images import Fit, Picture
from alit_cli.data.sources import Item
from alit_cli.data.table import TableInfo, token_rows
from alit_cli.jobs.pictures import read_pictures
from alit_cli.model.losses import l1_per_image
from alit_cli.model.scheduler import Finished, RolloutScheduler, stored
from alit_cli.model.tokenizer import Tokenizer


class ShardRun:
    """Tokenizes the items of one shard.

    Args:
        tokenizer: the model.
        info: what the table says of itself, which is also what decides its rows.
        workers: threads that decode images.
    """

    def __init__(self, tokenizer: Tokenizer, info: TableInfo, workers: int) -> None:
        self.tokenizer, self.info, self.workers = tokenizer, info, workers
        self.measures = bool(info.options["measures"])
        self.begun = time.monotonic()
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

    def table(self) -> pa.Table:
        """The rows, failures included, in the order of the items."""
        budgets = self.info.budgets
        reached = np.concatenate(self.reached) if self.reached else np.zeros((0, len(budgets)), bool)
        l1 = {b: np.concatenate(v) if v else np.zeros(0, np.float32) for b, v in self.l1.items()}
        tokens = {b: np.concatenate(v) if v else self._no_tokens(b) for b, v in self.tokens.items()}
        return token_rows(self.info, self.pictures, reached, l1, tokens, self.measures)

    def stats(self) -> dict[str, Any]:
        """What the shard's completion mark records."""
        statuses = Counter(picture.status for picture in self.pictures)
        seconds = time.monotonic() - self.begun
        images = len(self.pictures)
        return {"images": images, "statuses": statuses, "seconds": seconds, "iterations": self.iterations}

    def _pixels(self, items: Sequence[Item]) -> Iterator[np.ndarray]:
        """The fitted pixels of the items that can be read; what is said of each is kept."""
        bits = self._bits() if self.measures else None
        for picture in read_pictures(items, self.info.image_size, cast(Fit, self.info.fit), bits, self.workers):
            self.pictures.append(dataclasses.replace(picture, pixels=None))
            if picture.pixels is None:
                self.failed += 1
            else:
                yield picture.pixels

    def _all(self, pixels: Iterator[np.ndarray]) -> Iterator[int]:
        """Every image through every iteration."""
        while batch := list(islice(pixels, self.info.batch_size)):
            self._whole(batch)
            yield len(self.pictures)

    def _whole(self, pixels: list[np.ndarray]) -> None:
        """A batch through every iteration. All have one shape, so that no bit of a row depends on its neighbours."""
        side, count = self.info.image_size, len(pixels)
        batch = np.zeros((self.info.batch_size, side, side, 3), np.uint8)
        batch[:count] = pixels
        images = self.tokenizer.as_pixels(batch)
        for latents in self.tokenizer.iterate(images, self.info.budgets[-1]):
            self.iterations += count
            if latents.budget in self.tokens:
                self.tokens[latents.budget].append(stored(latents)[:count])
                if self.info.losses:
                    errors = l1_per_image(self.tokenizer.reconstruct(latents.vectors), images)
                    self.l1[latents.budget].append(errors.cpu().numpy()[:count])
        self.reached.append(np.ones((count, len(self.info.budgets)), bool))

    def _until(self, pixels: Iterator[np.ndarray], threshold: float) -> Iterator[int]:
        """Every image as far as it needs."""
        scheduler = RolloutScheduler(self.tokenizer, self.info.budgets, threshold, self.info.batch_size)
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

    def _bits(self) -> tuple[int, ...]:
        per_token = self.tokenizer.config.bits_per_token
        return tuple(math.floor(budget * per_token) for budget in self.info.budgets)

    def _no_tokens(self, budget: int) -> np.ndarray:
        if self.info.codes:
            return np.zeros((0, budget), np.uint16)
        return np.zeros((0, budget, self.info.token_dim), np.float16)
