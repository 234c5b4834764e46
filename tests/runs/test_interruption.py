"""A run that is interrupted while a slow disk takes its last shard: it does not wait for it, and loses nothing else."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from alit_cli.data.tables.parts import finished_shards
from alit_cli.runs import in_process
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place
from alit_cli.runs.prepared import prepare
from alit_cli.runs.shards import commit_shard
from tests.runs.squares import SquaresJob, run_to_the_end


class Terminated(BaseException):
    """What a signal raises."""


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated, GeneratorExit])
def test_an_interrupted_run_does_not_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    job, disk, ended = SquaresJob(tmp_path), threading.Event(), threading.Event()
    prepared = prepare(job)
    assert prepared is not None

    def slowly(*shard: Any) -> None:
        disk.wait(60)
        commit_shard(*shard)

    def interrupted() -> None:
        try:
            with ShardRunner(prepared, Place("cpu")) as runner:
                list(runner.do(0))
                runner.flush()
                monkeypatch.setattr(in_process, "commit_shard", slowly)
                list(runner.do(1))
                raise stop
        except stop:
            ended.set()

    thread = threading.Thread(target=interrupted)
    thread.start()
    assert ended.wait(30), "it waits for the disk"
    assert finished_shards(prepared.outputs[0].folder) == {0}
    disk.set()
    thread.join()
    monkeypatch.undo()
    run_to_the_end(job)
    assert not list(tmp_path.rglob("*.tmp"))


def fail_after(_reports: object) -> None:
    raise ZeroDivisionError


def test_an_error_waits_until_finished_shards_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(SquaresJob(tmp_path))
    assert prepared is not None

    def later(*shard: Any) -> None:
        threading.Event().wait(in_process.INTERRUPTED_SECONDS + 0.5)
        commit_shard(*shard)

    monkeypatch.setattr(in_process, "commit_shard", later)
    with pytest.raises(ZeroDivisionError), ShardRunner(prepared, Place("cpu")) as runner:
        fail_after(list(runner.do(0)))
    assert finished_shards(prepared.outputs[0].folder) == {0}
