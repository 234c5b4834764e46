"""A job without a model: image N.jpg has one row, which holds N squared; and what may happen to its workers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.tables.parquet import KEY
from alit_cli.errors import AlitError
from alit_cli.progress import ProgressCallback
from alit_cli.runs.job import Hardware, ItemStream, Output, Place, ShardInput, ShardProgress
from alit_cli.runs.plan import Plan
from alit_cli.runs.run import run

TROUBLED_SHARD = 1
"""The shard in whose middle the trouble comes."""


@dataclass(frozen=True)
class SquaresJob:
    folder: Path
    images: int = 23
    images_per_shard: int = 4
    names: tuple[str, ...] = ("squares",)
    as_folder: bool = False
    overwrite: bool = False
    retry_errors: bool = False
    factor: int = 1
    bad: frozenset[int] = frozenset()
    trouble: Literal["", "dies once", "dies", "complains", "crashes"] = ""
    pause: float = 0.0
    padding: int = 0

    @property
    def hardware(self) -> Hardware:
        return Hardware("cpu", "cpu")

    def path(self, name: str = "squares") -> Path:
        return self.folder / (name if self.as_folder else f"{name}.parquet")

    def outputs(self) -> list[Output]:
        options = {name: {"table": name, "factor": self.factor} for name in self.names}
        about = {name: {"format": "alit/1", "options": options[name]} for name in self.names}
        return [
            Output(self.path(name), "token table", options[name], about[name], self.as_folder) for name in self.names
        ]

    def items(self, report: ProgressCallback, keep_copies: bool) -> ItemStream:
        return ItemStream(ListedItem(Item(f"{number}.jpg", "in", "/nowhere")) for number in range(self.images))

    def worker_factory(self, plans: Mapping[Path, Plan], here: bool) -> Any:
        return partial(SquaresWorker, self, {path: (plan.fingerprint, len(plan.items)) for path, plan in plans.items()})


class SquaresWorker:
    def __init__(self, job: SquaresJob, plans: Mapping[Path, tuple[str, int]], place: Place) -> None:
        self.job, self.plans = job, plans

    def start(self, work: ShardInput) -> SquaresShard:
        return SquaresShard(self.job, self.plans, work)

    def close(self) -> None:
        pass


class SquaresShard:
    def __init__(self, job: SquaresJob, plans: Mapping[Path, tuple[str, int]], work: ShardInput) -> None:
        self.job, self.plans, self.work = job, plans, work
        self.numbers = [int(item.image.removesuffix(".jpg")) for item in work.items]

    def run(self) -> Iterator[ShardProgress]:
        for done in range(len(self.numbers)):
            if done == 1 and self.work.shard.index == TROUBLED_SHARD:
                meet(self.job.trouble, self.job.folder)
            time.sleep(self.job.pause)
            yield ShardProgress(done + 1, sum(number in self.job.bad for number in self.numbers[: done + 1]))

    def tables(self) -> dict[Path, pa.Table]:
        columns = {
            "image": [item.image for item in self.work.items],
            "square": [None if n in self.job.bad else self.job.factor * n * n for n in self.numbers],
            "error": ["It is bad." if n in self.job.bad else None for n in self.numbers],
            "padding": [os.urandom(self.job.padding) for _ in self.numbers],
        }
        kinds = {"image": pa.string(), "square": pa.int64(), "error": pa.string(), "padding": pa.binary()}
        tables = {}
        for path in self.work.outputs:
            plan, images = self.plans[path]
            options = {"table": path.stem, "factor": self.job.factor, "plan": plan, "images": images}
            metadata = {KEY: json.dumps({"format": "alit/1", "options": options}).encode()}
            tables[path] = pa.table(columns, pa.schema(list(kinds.items()), metadata=metadata))
        return tables

    def stats(self) -> dict[str, Any]:
        return {}


def meet(trouble: str, folder: Path) -> None:
    """What ends a worker, or the process that it is in."""
    if trouble == "dies once" and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(1)
    if trouble == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble == "complains":
        raise AlitError("The disk is full.")
    if trouble == "crashes":
        raise ZeroDivisionError("a cause deep inside the worker")


def run_to_the_end(job: SquaresJob) -> None:
    for _ in run(job):
        pass
