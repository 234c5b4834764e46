"""The worker of `alit tokenize`: it holds a model, and turns the images of a shard into rows."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from alit_cli.data.pictures.fitting import Picture, Reading
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.token_table import TableInfo, token_rows
from alit_cli.errors import InputError
from alit_cli.jobs.reading.reader import Reader, make_picture_reader
from alit_cli.model.device import speed_up
from alit_cli.model.losses import l1_per_image
from alit_cli.model.memory import reuse_memory
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.scheduler import RolloutScheduler, eager_if_smaller, padded_rows, to_storage
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.runs.job import Place, ShardInput, ShardProgress


@dataclass(frozen=True)
class TokenizeSettings:
    """What every process needs to tokenize shards of a run.

    Attributes:
        out: the table.
        checkpoint: the model file; None is the embedded model.
        info: what the table says of itself, which also decides its rows.
        workers: processes that decode images, as make_picture_reader takes them.
        images: of the whole run.
        first_path: where the first image lies; what only this process can see is not read in others.
    """

    out: Path
    checkpoint: str | None
    info: TableInfo
    workers: int | None
    images: int
    first_path: str


class TokenizeWorker:
    """Tokenizes shards one after the other with one model.

    Raises:
        InputError: another kind of device than the run was prepared for, or a model file that has changed since.
    """

    def __init__(self, settings: TokenizeSettings, place: Place) -> None:
        self.settings, info = settings, settings.info
        # Several processes on one CPU each get their part of the cores; otherwise all of them would compete for all
        # cores.
        if place.threads is not None:
            torch.set_num_threads(place.threads)
        self.tokenizer = load(settings.checkpoint, place.device, info.precision)
        # Kinds of devices round differently, so the rows of one table are computed on one kind.
        if self.tokenizer.device.type != info.options.device:
            raise InputError(
                f"This run was prepared for {info.options.device}, not for {self.tokenizer.device.type}; use one "
                "kind of device for all workers."
            )
        if self.tokenizer.sha256 != info.model_sha256:
            raise InputError(
                f"The model file '{settings.checkpoint}' has changed since this run was prepared; restore it, or add "
                "--overwrite to start again."
            )
        self.tokenizer = self.tokenizer.offering(info.budgets)
        reuse_memory(self.tokenizer.device)
        # Before the first batch, since compiled blocks take their shape from it.
        speed_up(self.tokenizer.model, self.tokenizer.device)
        self.reader = make_picture_reader(
            reading(self.tokenizer, info), settings.workers, settings.images, settings.first_path, info.batch_size
        )
        # Once memory has run out, batches stay halved for all later shards.
        self.halving = SplitOnOOM()

    def start(self, work: ShardInput) -> TokenizeShard:
        """Prepare one shard."""
        return TokenizeShard(self.settings, self.tokenizer, self.reader, self.halving, work)

    def close(self) -> None:
        """End the decoding threads or processes."""
        self.reader.close()


class TokenizeShard:
    """One shard on its way: pictures in, rows out.

    Args:
        settings: of the run.
        tokenizer: the model.
        reader: turns the items into pictures.
        halving: how batches are run that do not fit into memory.
        work: the items, and what is carried along with them.
    """

    def __init__(
        self,
        settings: TokenizeSettings,
        tokenizer: Tokenizer,
        reader: Reader,
        halving: SplitOnOOM,
        work: ShardInput,
    ) -> None:
        self.out, self.info = settings.out, settings.info
        self.tokenizer, self.reader, self.halving, self.work = tokenizer, reader, halving, work
        info = self.info
        self.waited = 0.0
        self.pictures: list[Picture] = []
        self.failed = 0
        self.iterations = 0
        self.l1: dict[int, list[np.ndarray]] = {b: [] for b in info.budgets}
        self.tokens: dict[int, list[np.ndarray]] = {b: [] for b in info.budgets}
        self.reached: list[np.ndarray] = []

    def run(self) -> Iterator[ShardProgress]:
        """Tokenize every item; yields after each batch."""
        pixels = self._pixels(self.work.items)
        done = 0
        for done in self._until(pixels, self.info.stop) if self.info.stop is not None else self._all(pixels):
            yield ShardProgress(done, self.failed, self._remark())
        if done < len(self.pictures):  # the last ones could not be read
            yield ShardProgress(len(self.pictures), self.failed, self._remark())

    def tables(self) -> dict[Path, pa.Table]:
        """The rows, failures included, in the order of the items."""
        budgets = self.info.budgets
        reached = np.concatenate(self.reached) if self.reached else np.zeros((0, len(budgets)), bool)
        l1 = {b: np.concatenate(v) if v else np.zeros(0, np.float32) for b, v in self.l1.items()}
        tokens = {b: np.concatenate(v) if v else self._no_tokens(b) for b, v in self.tokens.items()}
        measures = bool(self.info.options.measures)
        rows = token_rows(self.info, self.pictures, reached, l1, tokens, measures, self.work.extra_values)
        return {self.out: rows}

    def stats(self) -> dict[str, Any]:
        """What the shard's completion mark records besides what any shard's does."""
        return {
            "read": round(sum(picture.seconds[0] for picture in self.pictures), 3),
            "decode": round(sum(picture.seconds[1] for picture in self.pictures), 3),
            "waited": round(self.waited, 3),
            "iterations": self.iterations,
            "remarks": list(self.reader.remarks),
            **({"batch_halved": True} if self.halving.halved else {}),
        }

    def _remark(self) -> str:
        """The last thing out of the ordinary, in a sentence; empty if there is none."""
        if self.reader.remarks:
            return self.reader.remarks[-1]
        if self.halving.halved:
            half = (self.info.batch_size + 1) // 2
            return f"memory ran out: batches of {half} instead of {self.info.batch_size}"
        return ""

    def _pixels(self, items: Sequence[Item]) -> Iterator[np.ndarray]:
        """The fitted pixels of the items that can be read; the rest of each picture is kept in `self.pictures`."""
        pictures = self.reader.read(items)
        while True:
            begun = time.monotonic()
            picture = next(pictures, None)
            self.waited += time.monotonic() - begun
            if picture is None:
                return
            # The pixels are dropped: those of a shard of 10,000 images at 256 pixels would take 2 GB.
            self.pictures.append(dataclasses.replace(picture, pixels=None))
            # A failed image becomes a row as well, but never reaches the model.
            if picture.pixels is None:
                self.failed += 1
            else:
                yield picture.pixels

    def _all(self, pixels: Iterator[np.ndarray]) -> Iterator[int]:
        """Every image through every iteration; a GPU is given the next batch before the last one is fetched."""
        # A GPU works while this process prepares its next batch; on a CPU both would compete for the same cores.
        ahead = self.tokenizer.device.type == "cuda"
        running: tuple[int, int, tuple[Tensor, ...]] | None = None
        while batch := list(islice(pixels, self.info.batch_size)):
            # The number of pictures is taken now, since the next batch is read before the results of this one are
            # fetched.
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
        """A batch through every iteration, filled up as padded_rows says.

        Gives, budget by budget, tokens as they are stored and, where they are wanted, the errors.
        """
        side, count = self.info.image_size, len(pixels)
        rows = padded_rows(count, self.info.batch_size, self.tokenizer.device)
        batch = np.zeros((rows, side, side, 3), np.uint8)
        batch[:count] = pixels
        # Only images count, not the zeros that fill up the batch.
        self.iterations += count * (self.tokenizer.budgets.index(self.info.budgets[-1]) + 1)
        with eager_if_smaller(rows, self.info.batch_size, self.tokenizer.device):
            return self.halving(self._rollout, self.tokenizer.as_pixels(batch))

    def _rollout(self, images: Tensor) -> tuple[Tensor, ...]:
        results = []
        for latents in self.tokenizer.iterate(images, self.info.budgets[-1]):
            # The rollout passes through budgets that nobody asked for; they are neither stored nor decoded.
            if latents.budget in self.tokens:
                results.append(latents.values if latents.ids is None else latents.ids)
                if self.info.losses:
                    results.append(l1_per_image(self.tokenizer.reconstruct(latents.vectors), images))
        return tuple(results)

    def _fetch(self, count: int, done: int, results: tuple[Tensor, ...]) -> int:
        """Take the results of a batch from the device; how many pictures are done with it."""
        # _rollout gives a flat tuple, because SplitOnOOM joins the halves of a batch tensor by tensor. The order here
        # must be the order there.
        rest = iter(results)
        for budget in self.info.budgets:
            self.tokens[budget].append(to_storage(next(rest), bool(self.info.codes))[:count])
            if self.info.losses:
                self.l1[budget].append(next(rest).cpu().numpy()[:count])
        self.reached.append(np.ones((count, len(self.info.budgets)), bool))
        return done

    def _until(self, pixels: Iterator[np.ndarray], threshold: float) -> Iterator[int]:
        """Roll out every image up to its first budget whose L1 is below the threshold."""
        scheduler = RolloutScheduler(self.tokenizer, self.info.budgets, threshold, self.info.batch_size, self.halving)
        tokens: dict[int, list[np.ndarray]] = {}
        errors: dict[int, tuple[float, ...]] = {}
        for finished in scheduler.run(pixels):
            for image in finished:
                # Rounded at once, since until the shard ends all of its tokens are in memory.
                tokens[image.index] = [to_storage(row[None], bool(self.info.codes)) for row in image.tokens]
                errors[image.index] = image.l1
            yield self.failed + len(errors)
        self.iterations = scheduler.advanced
        # Images finish in any order; the rows stand in the order of the pictures.
        for index in range(len(errors)):
            steps = len(errors[index])
            self.reached.append(np.arange(len(self.info.budgets))[None] < steps)
            # An image that stopped early has fewer results than there are budgets, hence no strict zip.
            for budget, stored, error in zip(self.info.budgets, tokens[index], errors[index], strict=False):
                self.tokens[budget].append(stored)
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
