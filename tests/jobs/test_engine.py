"""Whoever does the shards, the table is the same, and a process that dies loses nothing."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from pandas.testing import assert_frame_equal

from alit_cli.data.files import claimed
from alit_cli.data.tables.parts import PLAN
from alit_cli.errors import AlitError, InputError, NotFinished
from alit_cli.jobs import engine
from alit_cli.jobs.crew import TRIES, crew
from alit_cli.jobs.engine import Worker, join_once, run, worker_here
from alit_cli.jobs.tokenize import TokenizeJob, prepare, tokenize
from alit_cli.jobs.work import ShardWorker
from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TokenizeJob:
    """Seven images, one of them bad, in four shards, with the table that one process makes of them."""
    folder = tmp_path_factory.mktemp("engine")
    write_photos(folder / "photos", 6)
    (folder / "photos" / "bad.png").write_bytes(b"no picture")
    checkpoint = str(tiny.checkpoint(folder))
    job = TokenizeJob([str(folder / "photos")], folder / "one.parquet", checkpoint, "cpu", batch_size=2, shard_size=2)
    for _ in tokenize(job):
        pass
    return job


@pytest.fixture
def other(job: TokenizeJob, tmp_path: Path) -> Iterator[TokenizeJob]:
    """The same job with another table, which must come out the same."""
    other = dataclasses.replace(job, out=tmp_path / "other.parquet")
    yield other
    if other.out.exists():
        found, expected = pq.read_table(other.out), pq.read_table(job.out)
        assert_frame_equal(found.to_pandas(), expected.to_pandas(), check_exact=True)
        assert found.schema.equals(expected.schema, check_metadata=True)
        assert not other.work.exists()


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of dying workers, as other processes import it."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("dying")


@pytest.mark.parametrize("count", [2, 3, 6])
def test_workers_share_the_shards_and_the_last_joins_them(other: TokenizeJob, count: int) -> None:
    shares = []
    for index in range(min(count, 4)):
        assert not other.out.exists()
        shares.append(list(run(other, Worker(index, count)))[-1].done)
    assert sum(shares) == 7
    assert max(shares) < 7
    assert other.out.exists()


def test_processes_on_one_machine_and_one_dies(other: TokenizeJob, dying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "crew", partial(crew, make=dying.Once))
    reports = list(run(other, devices=2))
    assert other.out.with_name("died").exists()
    assert (reports[0].done, reports[-1].done, reports[-1].failed) == (0, 7, 1)
    assert other.out.exists()


@pytest.mark.slow
def test_actors_of_ray_and_one_dies(other: TokenizeJob, dying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    from alit_cli.jobs import on_ray

    monkeypatch.setattr(on_ray, "on_ray", partial(on_ray.on_ray, make=dying.Once))
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80_000_000,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    try:
        reports = list(run(other, engine="ray"))
    finally:
        ray.shutdown()
    assert other.out.with_name("died").exists()
    assert (reports[0].done, reports[-1].done, reports[-1].failed) == (0, 7, 1)
    assert other.out.exists()


@pytest.mark.slow
def test_a_shard_that_always_kills_is_left_and_the_rest_is_done(
    other: TokenizeJob, dying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "crew", partial(crew, make=dying.Always))
    with pytest.raises(NotFinished, match=f"1 of 4 shards .* {TRIES} processes"):
        list(run(other, devices=1))
    assert not other.out.exists()
    assert next(iter(run(other))).done == 5
    list(run(other))


@pytest.mark.slow
def test_what_one_process_complains_of_ends_all_in_its_sentence(
    other: TokenizeJob, dying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "crew", partial(crew, make=dying.Complaining))
    with pytest.raises(AlitError, match="disk is full"):
        list(run(other, devices=2))
    assert not other.out.exists()


def test_two_never_join_at_once(other: TokenizeJob) -> None:
    work = prepare(other)
    assert work is not None
    with ShardWorker(work, "cpu", 0) as worker:
        for index in work.todo():
            list(worker.run(index))
    with claimed(work.folder / PLAN) as mine:
        assert mine
        join_once(work)
        assert not other.out.exists()
    join_once(work)
    assert other.out.exists()
    join_once(work)  # another has done it meanwhile


def test_a_worker_that_comes_late_neither_fails_nor_harms(other: TokenizeJob) -> None:
    late = run(other)
    assert next(late).done == 0
    list(run(other))
    list(late)
    assert not other.work.exists()
    (again,) = run(other, Worker(1, 2))
    assert again.done == 7


def test_workers_may_not_overwrite(other: TokenizeJob) -> None:
    with pytest.raises(InputError, match="leave the option out"):
        list(run(dataclasses.replace(other, overwrite=True), Worker(0, 2)))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, None)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (3, 8, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1, None)),  # the batch script itself, not a step of it
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "2"}, (2, 4, 2)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_ARRAY_TASK_MIN": "0"}, (5, 16, None)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "9",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "4",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            (2, 3, None),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_PROCID": "1",
            },
            (5, 6, 0),
        ),
    ],
)
def test_the_environment_says_which_worker_this_is(
    environment: dict[str, str], expected: tuple[int, int, int | None]
) -> None:
    worker = worker_here(environment)
    assert (worker.index, worker.count, worker.local) == expected


def test_an_array_without_even_numbers_needs_to_be_told() -> None:
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK_ID"):
        worker_here({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "2"})


def _typed(alit: Alit, job: TokenizeJob, *words: str) -> Result:
    options = ("-c", job.checkpoint, "--device", "cpu", "--batch-size", 2, "--shard-size", 2, "--max-error-rate", 0.5)
    return alit("tokenize", job.paths[0], "--out", job.out, *options, *words)


def test_two_workers_as_typed(other: TokenizeJob, alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _typed(alit, other, "--worker", "0/2")
    assert first.exit_code == 0, first.stderr
    assert "Worker 0/2 (by --worker)" in first.stderr
    assert f"writes {other.out}" in first.stderr
    assert first.stdout == ""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    second = _typed(alit, other)
    assert "7 images" in second.stdout
    for words in (("--worker", "2/2"), ("--worker", "1"), ("--devices", "0"), ("--engine", "slurm")):
        assert _typed(alit, other, *words).exit_code == 2


@pytest.mark.slow
def test_real_processes_at_once(other: TokenizeJob) -> None:
    assert other.checkpoint is not None
    line = [
        sys.executable,
        "-m",
        "alit_cli",
        "tokenize",
        other.paths[0],
        "--out",
        str(other.out),
        "-c",
        other.checkpoint,
    ]
    line += ["--device", "cpu", "--batch-size", "2", "--shard-size", "2", "--max-error-rate", "0.5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for workers in (["0/2", "1/2"], ["0/1", "0/1"]):
        other.out.unlink(missing_ok=True)
        running = [subprocess.Popen([*line, "--worker", worker], env=environment) for worker in workers]
        assert [process.wait(120) for process in running] == [0, 0]
        assert other.out.exists()
