"""One shard of scores on its way: every budget decoded once, whatever the number of tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from alit_cli.data.sources.items import Item
from alit_cli.data.tables.score_table import ERROR, score_rows
from alit_cli.data.tables.token_table import TableInfo, column_names, read_rows
from alit_cli.jobs.reading.reader import read_ahead
from alit_cli.model.losses import l1_per_image
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.runs.plan import Shard
from alit_cli.tasks.base import Batch, Task, Values

SAME = 0.01
"""How far the L1 of a decoded image may be from the table's before it must be another image; it is 1e-6 in float32 and
under 2e-3 in bf16."""

Columns = dict[str, list[Any]]


class ScoreShard:
    """Scores the images of one shard for several tasks.

    Args:
        tokenizer: the model that made the tokens.
        info, table: the token table.
        tasks: by the path of their score table.
        shard: which rows of the token table.
        batch_size: images decoded together.
        workers: threads that read images.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        info: TableInfo,
        table: Path,
        tasks: Mapping[Path, Task[Any]],
        shard: Shard,
        batch_size: int,
        workers: int,
    ) -> None:
        self.tokenizer, self.info, self.tasks, self.shard = tokenizer, info, tasks, shard
        self.batch_size, self.workers = batch_size, workers
        self.begun = time.monotonic()
        present = set(column_names(table))
        self.losses = [name for b in info.budgets if (name := f"l1_{b}") in present]
        tokens = [f"{info.tokens}_{b}" for b in info.budgets]
        self.rows = read_rows(table, ["image", "status", "error", *self.losses, *tokens], shard.start, shard.stop)
        self.columns: dict[Path, Columns] = {path: {} for path in tasks}
        self.errors: list[str | None] = [
            None if status == "ok" else f"It was not tokenized: {why}"
            for status, why in zip(*(self.rows[name].to_pylist() for name in ("status", "error")), strict=True)
        ]

    @property
    def failed(self) -> int:
        """Images so far that have no scores."""
        return len(self.errors) - self.errors.count(None)

    def run(self, items: Sequence[Item]) -> Iterator[int]:
        """Score every item; yields the number of images done after each batch."""
        pixels = self._pixels(items)
        while batch := list(islice(pixels, self.batch_size)):
            rows = np.array([row for row, _ in batch], np.int64)
            self._batch(rows, np.stack([one for _, one in batch]))
            yield int(rows[-1]) + 1
        yield len(items)

    def table(self, path: Path, schema: pa.Schema) -> pa.Table:
        """The rows of a task's score table, nulls where there was nothing to score."""
        columns: dict[str, Sequence[Any]] = {"image": self.rows["image"].to_pylist(), ERROR: self.errors}
        for name in schema.names:
            if name not in columns:
                found = self.columns[path].get(name, [None] * len(self.errors))
                columns[name] = [v if why is None else None for v, why in zip(found, self.errors, strict=True)]
        return score_rows(schema, columns)

    def stats(self) -> dict[str, Any]:
        """What the shard's completion mark records."""
        statuses = {"ok": self.errors.count(None), "failed": self.failed}
        return {"images": len(self.errors), "statuses": statuses, "seconds": time.monotonic() - self.begun}

    def _pixels(self, items: Sequence[Item]) -> Iterator[tuple[int, np.ndarray]]:
        """Row in the shard and fitted pixels of every tokenized image that can still be read."""
        rows = [row for row, why in enumerate(self.errors) if why is None]
        chosen = [items[row] for row in rows]
        pictures = read_ahead(chosen, self.info.image_size, self.info.fit, None, self.workers)
        for row, picture in zip(rows, pictures, strict=True):
            if picture.pixels is None:
                self.errors[row] = picture.error
            else:
                yield row, picture.pixels

    def _batch(self, rows: np.ndarray, pixels: np.ndarray) -> None:
        """Every task on every budget of a batch."""
        batch = Batch(self.tokenizer.as_pixels(pixels), rows + self.shard.start)
        seen = {}
        for path, task in self.tasks.items():
            seen[path], values = task.look(batch)
            self._keep(path, rows, np.ones(len(rows), bool), values)
        for budget in self.info.budgets:
            there, pictures = self._decode(rows, budget, batch.images)
            if not there.any():
                continue
            for path, task in self.tasks.items():
                found = task.score(seen[path], pictures, budget)
                self._keep(path, rows, there, {f"{name}_{budget}": value for name, value in found.items()})

    def _decode(self, rows: np.ndarray, budget: int, images: Tensor) -> tuple[np.ndarray, Tensor]:
        """Which images have tokens at this budget, and b 3 h w clamped pictures; those of the others mean nothing.

        An image whose L1 is not the table's is not the one that was tokenized, and fails.
        """
        stored = self.rows[f"{self.info.tokens}_{budget}"].take(pa.array(rows))
        there = stored.is_valid().to_numpy()
        if not there.any() or not any(task.reconstructions for task in self.tasks.values()):
            return there, images
        shape = (len(rows), budget) if self.info.codes else (len(rows), budget, self.info.token_dim)
        tokens = np.zeros(shape, np.int64 if self.info.codes else np.float32)
        tokens[there] = stored.drop_null().combine_chunks().flatten().to_numpy().reshape(-1, *shape[1:])
        pictures = self.tokenizer.decode_batch(torch.from_numpy(tokens))
        if (name := f"l1_{budget}") in self.losses:
            before = self.rows[name].take(pa.array(rows)).to_numpy()
            for row in rows[there & (np.abs(l1_per_image(pictures, images).cpu().numpy() - before) > SAME)]:
                self.errors[row] = "It is not the image that was tokenized: its L1 is another."
        return there, pictures.clamp(0, 1)

    def _keep(self, path: Path, rows: np.ndarray, there: np.ndarray, values: Values) -> None:
        """File values of a batch under their columns."""
        for name, found in values.items():
            if len(found) != len(rows):
                raise ValueError(f"{name} has {len(found)} values for {len(rows)} images")
            column = self.columns[path].setdefault(name, [None] * len(self.errors))
            for row, fine, value in zip(rows, there, found, strict=True):
                column[row] = value if fine else None
