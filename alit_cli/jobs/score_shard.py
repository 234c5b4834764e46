"""The worker of `alit score`: it decodes the tokens of a shard at every budget and compares them with the originals."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from alit_cli.data.pictures.fitting import Reading
from alit_cli.data.tables.parquet import column_names, open_columns, read_rows
from alit_cli.data.tables.reconstructions import Reconstructions
from alit_cli.data.tables.score_table import ERROR, score_rows
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.errors import InputError
from alit_cli.jobs.reading.reader import default_workers, make_picture_reader
from alit_cli.model.losses import l1_per_image
from alit_cli.model.memory import reuse_memory
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.runs.job import Place, ShardInput, ShardProgress
from alit_cli.tasks.base import Batch, Request, Task, Values, build_task
from alit_cli.tasks.classify import FOLDERS

SAME = 0.01
"""How far the L1 of a decoded image may be from the table's before it must be another image; it is 1e-6 in float32 and
under 2e-3 in bf16."""

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class TaskChoice:
    """A task, the hub id or folder of its network ('' if it has none), and its score table."""

    name: str
    model: str
    path: Path


@dataclass(frozen=True)
class ScoreSettings:
    """What every process needs to score shards of a run.

    Attributes:
        table, info: the token table.
        checkpoint: the model that made the tokens; None is the embedded one.
        tasks: what is asked for, finished tables included.
        schemas: the columns of every table that is not finished yet.
        batch_size: images that are decoded together.
        workers, images, first_path: as make_picture_reader takes them.
        labels, depth_maps, depth_unit, questions, lpips: as tasks.base.Request takes them.
        codec: pictures of another codec, which are scored instead of the tokens'; None scores the tokens.
    """

    table: Path
    info: TableInfo
    checkpoint: str | None
    tasks: tuple[TaskChoice, ...]
    schemas: Mapping[Path, pa.Schema]
    batch_size: int
    workers: int | None
    images: int
    first_path: str
    labels: str | None
    depth_maps: Path | None
    depth_unit: str | None
    questions: Path | None
    lpips: tuple[Path, ...]
    codec: Reconstructions | None

    def with_absolute_paths(self) -> ScoreSettings:
        """The same settings for a process in another working folder, as actors of Ray are."""
        return replace(
            self,
            checkpoint=self.checkpoint and _absolute(self.checkpoint),
            tasks=tuple(replace(choice, model=_absolute(choice.model)) for choice in self.tasks),
            labels=self.labels if self.labels in (None, FOLDERS) else os.path.abspath(str(self.labels)),
            depth_maps=self.depth_maps and self.depth_maps.absolute(),
            questions=self.questions and self.questions.absolute(),
            lpips=tuple(file.absolute() for file in self.lpips),
        )


def _absolute(name: str) -> str:
    """The absolute path of a file or folder; anything else, such as a hub id, is left as it is."""
    return os.path.abspath(name) if name and os.path.exists(name) else name


@dataclass(frozen=True, eq=False)
class Scorers:
    """The model that made the tokens, what is loaded of each task by the path of its score table, and their threads."""

    tokenizer: Tokenizer
    tasks: Mapping[Path, Task[Any]]
    threads: ThreadPoolExecutor


def load_scorers(settings: ScoreSettings, place: Place, paths: Collection[Path] | None = None) -> Scorers:
    """Load the model, and the networks of the tasks whose tables are in `paths`; None is all of them.

    Raises:
        InputError: the tokens are another model's, or a network or a file of a task cannot be used.
    """
    info = settings.info
    # Several processes on one CPU each get their part of the cores; otherwise all of them would compete for all cores.
    if place.threads is not None:
        torch.set_num_threads(place.threads)
    # The precision of the tokens, not the best of this device: else the L1 would not be the table's.
    tokenizer = load(settings.checkpoint, place.device, info.precision)
    if tokenizer.sha256 != info.model_sha256:
        raise InputError(
            f"The tokens of '{settings.table.name}' were made by the model {info.model} ({info.model_id}), "
            f"not by {tokenizer.config.name} ({tokenizer.model_id}); give its file with --checkpoint."
        )
    reuse_memory(tokenizer.device)
    names = open_columns(settings.table, ["image"])["image"].to_pylist()
    workers = max(1, default_workers() if settings.workers is None else settings.workers)
    threads = ThreadPoolExecutor(workers, thread_name_prefix="score")
    tasks = {}
    for choice in settings.tasks:
        # A finished table needs no network, and a large network takes memory.
        if paths is None or choice.path in paths:
            request = Request(
                tokenizer=tokenizer,
                info=info,
                images=names,
                model=choice.model,
                threads=threads,
                workers=workers,
                labels=settings.labels,
                depth_maps=settings.depth_maps,
                depth_unit=settings.depth_unit,
                questions=settings.questions,
                lpips=settings.lpips,
                codec="" if settings.codec is None else settings.codec.name,
            )
            task = tasks[choice.path] = build_task(choice.name, request)
            if settings.codec is not None and not task.reconstructions:
                raise InputError(f"The task '{choice.name}' looks at no reconstruction: leave out --reconstructions.")
    return Scorers(tokenizer, tasks, threads)


class ScoreWorker:
    """Scores shards one after the other.

    Args:
        settings: of the run.
        place: where to compute.
        loaded: model and networks, if this process has loaded them already.

    Raises:
        InputError: as load_scorers.
    """

    def __init__(self, settings: ScoreSettings, place: Place, loaded: Scorers | None = None) -> None:
        self.settings = settings
        self.scorers = loaded or load_scorers(settings, place, settings.schemas)
        info = settings.info
        reading = Reading(info.image_size, info.fit)
        self.reader = make_picture_reader(
            reading, settings.workers, settings.images, settings.first_path, settings.batch_size
        )
        present = set(column_names(settings.table))
        # A table made with --no-losses has no such columns; then an image cannot be told from another one by its L1.
        self.losses = [name for budget in info.budgets if (name := f"l1_{budget}") in present]

    def start(self, work: ShardInput) -> ScoreShard:
        """Prepare one shard: read its rows of the token table."""
        return ScoreShard(self, work)

    def rows_of(self, work: ShardInput) -> tuple[NDArray[np.int64], pa.Table]:
        """Where the items of a shard stand in the token table, and their rows in it.

        The items of a run are those of the table from its first row on. Only the failed rows that are done again, and
        the sample of a dry run, are scattered over it.
        """
        info = self.settings.info
        # The tokens are not needed where another codec's pictures are scored.
        tokens = [f"{info.tokens}_{budget}" for budget in info.budgets if self.settings.codec is None]
        columns = ["image", "status", "error", *self.losses, *tokens]
        images = [item.image for item in work.items]
        rows = np.arange(work.shard.start, work.shard.start + len(images), dtype=np.int64)
        table = read_rows(self.settings.table, columns, rows)
        # A retry or a sample: the rows are looked up by name, which needs all names of the table once.
        if table["image"].to_pylist() != images:
            # read_rows wants row numbers that rise. The second argsort is the inverse permutation, which restores the
            # order of the items.
            order = np.argsort([self._row_of[image] for image in images])
            rows = np.array([self._row_of[image] for image in images], np.int64)
            table = read_rows(self.settings.table, columns, rows[order]).take(pa.array(np.argsort(order)))
        return rows, table

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """The row of every image of the token table."""
        names = open_columns(self.settings.table, ["image"])["image"].to_pylist()
        return {name: row for row, name in enumerate(names)}

    def close(self) -> None:
        """End the threads or processes that read images, and the threads of the tasks."""
        self.reader.close()
        # Nobody wants the results any more, so what is queued is dropped and what runs is not waited for.
        self.scorers.threads.shutdown(wait=False, cancel_futures=True)


class ScoreShard:
    """One shard of scores on its way: every budget is decoded once, whatever the number of tasks.

    Args:
        worker: has the model, the tasks and the reader.
        work: the original images, and which tables lack this shard.
    """

    def __init__(self, worker: ScoreWorker, work: ShardInput) -> None:
        self.settings, self.info = worker.settings, worker.settings.info
        self.tokenizer, self.reader, self.losses = worker.scorers.tokenizer, worker.reader, worker.losses
        # After an interruption some tables may have this shard already; only the tasks of the others are computed.
        self.tasks = {path: worker.scorers.tasks[path] for path in work.outputs}
        self.items = work.items
        self.rows_in_table, self.rows = worker.rows_of(work)
        self.waited = 0.0
        self.seconds: list[tuple[float, float]] = []
        self.columns: dict[Path, Columns] = {path: {} for path in self.tasks}
        self.errors: list[str | None] = [
            None if status == "ok" else f"It was not tokenized: {why}"
            for status, why in zip(*(self.rows[name].to_pylist() for name in ("status", "error")), strict=True)
        ]

    @property
    def failed(self) -> int:
        """Images so far that have no scores."""
        return len(self.errors) - self.errors.count(None)

    def run(self) -> Iterator[ShardProgress]:
        """Score every item; yields after each batch."""
        pixels = self._pixels()
        while batch := list(islice(pixels, self.settings.batch_size)):
            rows = np.array([row for row, *_ in batch], np.int64)
            self._batch(rows, *(np.stack(fitted) for fitted in list(zip(*batch, strict=True))[1:]))
            yield ShardProgress(int(rows[-1]) + 1, self.failed, self._remark())
        # Images at the end that cannot be read belong to no batch, so the last report counts every item.
        yield ShardProgress(len(self.items), self.failed, self._remark())

    def tables(self) -> dict[Path, pa.Table]:
        """The rows of each task's score table, nulls where there was nothing to score."""
        return {path: self._table(path) for path in self.tasks}

    def stats(self) -> dict[str, Any]:
        """What the shard's completion mark records besides what any shard's does."""
        # The pair of zeros lets a shard be unpacked in which no image was read.
        read, decode = (round(sum(seconds), 3) for seconds in zip(*self.seconds, (0.0, 0.0), strict=True))
        waited = round(self.waited, 3)
        return {"read": read, "decode": decode, "waited": waited, "remarks": list(self.reader.remarks)}

    def _table(self, path: Path) -> pa.Table:
        schema = self.settings.schemas[path]
        columns: dict[str, Sequence[Any]] = {"image": self.rows["image"].to_pylist(), ERROR: self.errors}
        for name in schema.names:
            if name not in columns:
                # A column has no values at all where no image of the shard reached its budget.
                values = self.columns[path].get(name, [None] * len(self.errors))
                # An image can fail after some of its budgets were scored; then its whole row is null.
                columns[name] = [v if why is None else None for v, why in zip(values, self.errors, strict=True)]
        return score_rows(schema, columns)

    def _remark(self) -> str:
        return self.reader.remarks[-1] if self.reader.remarks else ""

    def _pixels(self) -> Iterator[tuple[Any, ...]]:
        """Row in the shard and fitted pixels of every tokenized image that can still be read.

        Where another codec's pictures are scored, those follow as a third value, fitted as their images are.
        """
        codec = self.settings.codec
        if codec is not None:
            for row, item in enumerate(self.items):
                if self.errors[row] is None and item.image not in codec.items:
                    self.errors[row] = f"It has no picture in '{codec.folder}'."
        rows = [row for row, why in enumerate(self.errors) if why is None]
        # A reader reads one list at a time, so that an original and its picture stand in it one after the other.
        pairs = [[self.items[row], *([codec.items[self.items[row].image]] if codec else [])] for row in rows]
        pictures = self.reader.read([item for pair in pairs for item in pair])
        for row, pair in zip(rows, pairs, strict=True):
            begun = time.monotonic()
            originals = list(islice(pictures, len(pair)))
            self.waited += time.monotonic() - begun
            self.seconds += [picture.seconds for picture in originals]
            for item, picture in zip(pair, originals, strict=True):
                if picture.pixels is None and self.errors[row] is None:
                    of_codec = codec is not None and item is pair[-1]
                    self.errors[row] = (
                        f"Its picture '{item.path}' fails: {picture.error}" if of_codec else picture.error
                    )
            if self.errors[row] is None:
                yield row, *(picture.pixels for picture in originals)

    def _batch(self, rows: np.ndarray, pixels: np.ndarray, theirs: np.ndarray | None = None) -> None:
        """Run every task on every budget of a batch, or on another codec's pictures of it."""
        batch = Batch(self.tokenizer.as_pixels(pixels), self.rows_in_table[rows])
        seen = {}
        for path, task in self.tasks.items():
            seen[path], values = task.look(batch)
            self._keep(path, rows, np.ones(len(rows), bool), values)
        if self.settings.codec is not None and theirs is not None:
            pictures = self.tokenizer.as_pixels(theirs)
            for path, task in self.tasks.items():
                scores = task.score(seen[path], pictures, 0)
                named = {f"{name}_{self.settings.codec.name}": value for name, value in scores.items()}
                self._keep(path, rows, np.ones(len(rows), bool), named)
            return
        for budget in self.info.budgets:
            there, pictures = self._decode(rows, budget, batch.images)
            # With early stop it can happen that no image of the batch came as far as this budget.
            if not there.any():
                continue
            for path, task in self.tasks.items():
                scores = task.score(seen[path], pictures, budget)
                self._keep(path, rows, there, {f"{name}_{budget}": value for name, value in scores.items()})

    def _decode(self, rows: np.ndarray, budget: int, images: Tensor) -> tuple[np.ndarray, Tensor]:
        """Which images have tokens at this budget, and b 3 h w clamped pictures; those of the others mean nothing.

        An image whose L1 is not the table's is not the one that was tokenized, and fails.
        """
        stored = self.rows[f"{self.info.tokens}_{budget}"].take(pa.array(rows))
        there = stored.is_valid().to_numpy()
        if not there.any() or not any(task.reconstructions for task in self.tasks.values()):
            return there, images
        shape = (len(rows), budget) if self.info.codes else (len(rows), budget, self.info.token_dim)
        # Rows without tokens are decoded from zeros, so that every batch has one shape; nobody uses their pictures.
        tokens = np.zeros(shape, np.int64 if self.info.codes else np.float32)
        tokens[there] = stored.drop_null().combine_chunks().flatten().to_numpy().reshape(-1, *shape[1:])
        pictures = self.tokenizer.decode_batch(torch.from_numpy(tokens))
        # The L1 of the table tells whether this is still the image that was tokenized.
        if (name := f"l1_{budget}") in self.losses:
            before = self.rows[name].take(pa.array(rows)).to_numpy()
            for row in rows[there & (np.abs(l1_per_image(pictures, images).cpu().numpy() - before) > SAME)]:
                self.errors[row] = "It is not the image that was tokenized: its L1 is another."
        return there, pictures.clamp(0, 1)

    def _keep(self, path: Path, rows: np.ndarray, there: np.ndarray, values: Values) -> None:
        """File values of a batch under their columns."""
        for name, of_batch in values.items():
            if len(of_batch) != len(rows):
                raise ValueError(f"{name} has {len(of_batch)} values for {len(rows)} images")
            column = self.columns[path].setdefault(name, [None] * len(self.errors))
            for row, fine, value in zip(rows, there, of_batch, strict=True):
                column[row] = value if fine else None
