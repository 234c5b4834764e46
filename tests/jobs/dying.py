"""Workers that meet with what happens to processes; a module of its own, so that other processes can import it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from alit_cli.errors import AlitError
from alit_cli.jobs.engine import run
from alit_cli.jobs.tokenize import TokenizeJob
from alit_cli.jobs.work import ShardWorker, Step

SHARD = 1
"""The one where it happens."""


class Once(ShardWorker):
    """Its process ends in the middle of one shard, the first time."""

    def run(self, index: int) -> Iterator[Step]:
        """As the real one, with a death."""
        mark = self.work.out.with_name("died")
        steps = super().run(index)
        yield next(steps)
        if index == SHARD and not mark.exists():
            mark.touch()
            os._exit(1)
        yield from steps


class Always(ShardWorker):
    """Its process is killed by one shard, every time."""

    def run(self, index: int) -> Iterator[Step]:
        """As the real one, with a death."""
        if index == SHARD:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().run(index)


class Complaining(ShardWorker):
    """Meets a full disk."""

    def run(self, index: int) -> Iterator[Step]:
        """A sentence."""
        yield Step(0, 0)
        raise AlitError("The disk is full.")


def whole(job: TokenizeJob) -> None:
    """A whole run in this process."""
    for _ in run(job):
        pass
