"""Shards done in this process: a worker of the job makes their rows, and a second thread commits them."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from alit_cli.errors import AlitError
from alit_cli.runs.job import Place, RunningShard, ShardInput, ShardProgress
from alit_cli.runs.plan import Shard
from alit_cli.runs.prepared import PreparedOutput, PreparedRun
from alit_cli.runs.shards import commit_shard, is_being_joined, row_stats

INTERRUPTED_SECONDS = 1.0
"""How long an interrupted run waits for the shard that is being written; a large one can take many times longer."""


class ShardRunner:
    """Does shards of a prepared run one after the other with one worker; closes it at the end of a `with` block.

    Args:
        run: the prepared run.
        place: where to compute.

    Raises:
        InputError: the worker cannot be made, for example because the model file has changed since.
    """

    def __init__(self, run: PreparedRun, place: Place) -> None:
        self.run = run
        # May take seconds, as the model is loaded here.
        self.worker = run.make_worker(place)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._written: Future[None] | None = None

    def do(self, index: int) -> Iterator[ShardProgress]:
        """Do one shard for the tables that lack it; yields after each batch. A shard left half done leaves no trace.

        The shard is committed in another thread while the next one is worked on; flush() waits for that. So at most
        one finished shard is in memory beside the one that runs.

        Raises what the commit of an earlier shard ended in.
        """
        plan = self.run.plan
        shard, outputs = plan.shard(index), self.run.outputs_due(index)
        if not outputs:  # another process has done it meanwhile
            yield ShardProgress(shard.images, 0)
            return
        items, extra_values = plan.items[shard.start : shard.stop], plan.items.kept(shard.start, shard.stop)
        begun = time.monotonic()
        running = self.worker.start(ShardInput(shard, items, extra_values, [output.path for output in outputs]))
        yield from running.run()
        seconds = time.monotonic() - begun
        # The commit before this one must be on disk first, so that at most two shards are in memory.
        self.flush()
        self._written = self._writer.submit(_commit, running, shard, outputs, seconds)

    def flush(self, patience: float | None = None) -> None:
        """Wait until every shard that do() finished is on disk, or so many seconds.

        Raises AlitError: it could not be written.
        """
        written, self._written = self._written, None
        if written is not None:
            # A shard that is not on disk by then has no mark, and is done again by the next run.
            with contextlib.suppress(TimeoutError):
                written.result(patience)

    def close(self, patience: float | None = None) -> None:
        """End what the worker started; every shard that do() finished is committed, as flush() has it. Raises as it."""
        try:
            self.flush(patience)
        finally:
            self._writer.shutdown(wait=patience is None)
            self.worker.close()

    def __enter__(self) -> ShardRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        # Ctrl-C, SIGTERM and a run that nobody follows any more are no Exceptions. None of them waits for a slow disk.
        self.close(INTERRUPTED_SECONDS if kind is not None and not issubclass(kind, Exception) else None)


def _commit(running: RunningShard, shard: Shard, outputs: Sequence[PreparedOutput], seconds: float) -> None:
    """Write the rows of a shard and its marks; `seconds` is how long it took to make the rows."""
    begun = time.monotonic()
    tables, stats = running.tables(), running.stats()
    times = {"seconds": round(seconds, 3), "model": round(seconds - stats.get("waited", 0.0), 3)}
    speed = {"images": shard.images, "images_per_second": round(shard.images / max(seconds, 1e-9), 3)}
    for output in outputs:
        rows = tables[output.path]
        mark = {**speed, **row_stats(rows), **times, **stats, "memory": peak_memory()}
        try:
            commit_shard(rows, output.folder, shard.index, mark, begun)
        except (AlitError, FileNotFoundError):
            # Another process did the same shard and joins the table at this moment, which removes the work folder's
            # files, ours among them. Its rows are the same, so nothing is lost.
            if not is_being_joined(output.folder):
                raise


def peak_memory() -> int:
    """The most memory that this process has had resident so far, in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # there is no such module on Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def run_in_this_process(run: PreparedRun, due: Sequence[int], place: Place) -> Iterator[ShardProgress]:
    """Do these shards here. Yields images so far and how many of them failed, after each batch."""
    done = failed = 0
    with ShardRunner(run, place) as runner:
        for index in due:
            progress = ShardProgress(0, 0)
            for progress in runner.do(index):
                yield ShardProgress(done + progress.done, failed + progress.failed, progress.remark)
            done, failed = done + progress.done, failed + progress.failed
