"""Everything that a work folder knows of its run, so that any process that sees the folder can do a share of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from alit_cli.data.files import open_output, readable
from alit_cli.data.tables.parts import PLAN, finished_shards
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.errors import InputError
from alit_cli.jobs.reading.reader import make_picture_reader
from alit_cli.jobs.tokenize_shard import ShardRun, reading
from alit_cli.model.device import speed_up
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.runs.plan import RUN, Plan, Shard
from alit_cli.runs.shards import commit_shard


@dataclass(frozen=True, eq=False)
class Work:
    """A prepared run.

    Attributes:
        folder: the work folder; plan, finished shards and this record lie in it.
        out: the table that the shards become.
        checkpoint: the model file; None is the embedded model.
        plan: the items in order, cut into shards.
        info: what the table will say of itself, which also decides its rows.
        retry: the items are the failed ones of a finished table, in which their new rows go.
    """

    folder: Path
    out: Path
    checkpoint: str | None
    plan: Plan
    info: TableInfo
    retry: bool = False

    def save(self) -> None:
        """Write what the plan does not hold into the folder. Raises as open_output."""
        about = {
            "out": os.path.abspath(self.out),
            "checkpoint": None if self.checkpoint is None else os.path.abspath(self.checkpoint),
            "info": json.loads(self.info.to_json()),
            "retry": self.retry,
        }
        with open_output(self.folder / RUN, "working file") as file:
            file.write(json.dumps(about, indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> Work:
        """Read a prepared run back. Raises InputError: there is none, or it is damaged."""
        plan = Plan.load(folder)
        try:
            about = json.loads((folder / RUN).read_bytes())
            info = TableInfo.from_json(json.dumps(about["info"]))
            return cls(folder, Path(about["out"]), about["checkpoint"], plan, info, about["retry"])
        except (OSError, ValueError, KeyError, TypeError) as problem:
            name = readable(os.fspath(folder))
            raise InputError(f"'{name}' is no prepared run; start it with alit tokenize.") from problem

    def todo(self) -> list[int]:
        """Shards that nobody has finished, in order."""
        finished = finished_shards(self.folder)
        return [shard.index for shard in self.plan.shards() if shard.index not in finished]


@dataclass(frozen=True)
class Step:
    """A batch is done: images of the shard so far, how many of them failed, and a remark where there is one."""

    done: int
    failed: int
    remark: str = ""


class ShardWorker:
    """Does shards of a prepared run, one after the other, with one model.

    Args:
        work: the run, or its folder.
        device: where to compute; None takes the kind of device that the run was prepared for.
        workers: processes that decode images, 0 for none; None leaves the choice to the machine.

    Raises:
        InputError: no prepared run, another kind of device, or a model file that has changed since.
    """

    def __init__(self, work: Work | Path, device: str | None = None, workers: int | None = None) -> None:
        self.work = work if isinstance(work, Work) else Work.load(work)
        kind = str(self.work.info.options["device"])
        self.tokenizer: Tokenizer = load(self.work.checkpoint, device or kind, self.work.info.precision)
        if self.tokenizer.device.type != kind:
            raise InputError(f"This run was prepared for {kind}, not {self.tokenizer.device.type}; choose one device.")
        if self.tokenizer.sha256 != self.work.info.model_sha256:
            raise InputError(f"The model file '{self.work.checkpoint}' has changed since this run was prepared.")
        speed_up(self.tokenizer.model, self.tokenizer.device)
        reader = reading(self.tokenizer, self.work.info), workers, self.work.plan.items, self.work.info.batch_size
        self.reader = make_picture_reader(*reader)
        self.halving = SplitOnOOM()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._written: Future[None] | None = None

    def run(self, index: int) -> Iterator[Step]:
        """Do one shard; yields after each batch. What is left half done leaves no trace.

        The shard is committed in another thread while the next one is worked on; flush() waits for that.
        Raises what the commit of an earlier shard ended in.
        """
        plan = self.work.plan
        shard = plan.shard(index)
        run = ShardRun(self.tokenizer, self.work.info, self.reader, self.halving)
        for done in run.run(plan.items[shard.start : shard.stop]):
            yield Step(done, run.failed, self.remark())
        self.flush()
        self._written = self._writer.submit(self._commit, run, shard)

    def flush(self) -> None:
        """Wait until every shard that run() finished is on disk. Raises AlitError: it could not be written."""
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def remark(self) -> str:
        """The last thing out of the ordinary, in a sentence; empty where there is none."""
        if self.reader.remarks:
            return self.reader.remarks[-1]
        if self.halving.halved:
            half = (self.work.info.batch_size + 1) // 2
            return f"memory ran out: batches of {half} instead of {self.work.info.batch_size}"
        return ""

    def close(self) -> None:
        """End what the worker started; every shard that run() finished is committed. Raises as flush."""
        try:
            self.flush()
        finally:
            self._writer.shutdown()
            self.reader.close()

    def _commit(self, run: ShardRun, shard: Shard) -> None:
        begun = time.monotonic()
        stats = {**run.stats(), "remarks": list(self.reader.remarks)}
        table = run.table(self.work.plan.items.kept(shard.start, shard.stop))
        commit_shard(table, self.work.folder, shard.index, stats, begun)

    def __enter__(self) -> ShardWorker:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def alone(work: Work, todo: Sequence[int], device: str | None, workers: int | None) -> Iterator[Step]:
    """Do these shards in this process, but for those that another finishes meanwhile."""
    before = Step(0, 0)
    with ShardWorker(work, device, workers) as shard_worker:
        for index in todo:
            if not (work.folder / PLAN).exists():
                return
            step = Step(work.plan.shard(index).images, 0)
            if index not in finished_shards(work.folder):
                for step in shard_worker.run(index):
                    yield Step(before.done + step.done, before.failed + step.failed, step.remark)
            before = Step(before.done + step.done, before.failed + step.failed)
