"""`alit score` as a run: whoever does the shards, and however often it is killed, the tables are the same."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alit_cli.jobs.score import ScoreJob, score
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.jobs.verify import problems
from alit_cli.runs.prepared import is_complete
from alit_cli.runs.status import status
from alit_cli.runs.workers import Workers, WorkerShare
from tests.conftest import KILLS, Alit
from tests.model import tiny
from tests.training.photos import write_photos

ROOT = Path(__file__).parents[2]
IMAGES = 11


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ScoreJob:
    """Photographs and their token table, and the job of scoring it, with the tables that one process makes."""
    root = tmp_path_factory.mktemp("score")
    write_photos(root / "photos", IMAGES)
    checkpoint = str(tiny.checkpoint(root))
    tokens = TokenizeJob([str(root / "photos")], root / "tokens.parquet", checkpoint, "cpu", batch_size=4)
    for _ in tokenize(tokens):
        pass
    tasks = [("recon", ""), ("baselines", "")]
    job = ScoreJob(
        tokens.out, tasks, root / "one", checkpoint=checkpoint, device="cpu", batch_size=2, workers=0, shard_size=3
    )
    run_to_the_end(job)
    return job


@pytest.fixture
def job(made: ScoreJob, tmp_path: Path) -> ScoreJob:
    """The same job with other tables, which must come out the same."""
    return dataclasses.replace(made, out=tmp_path / "scores")


def run_to_the_end(job: ScoreJob) -> None:
    for _ in score(job):
        pass


def check_same(job: ScoreJob, made: ScoreJob) -> None:
    for path, expected in zip(job.paths(), made.paths(), strict=True):
        found, whole = pq.read_table(path), pq.read_table(expected)
        assert found.equals(whole)
        assert found.schema.equals(whole.schema, check_metadata=True)
    assert sorted(path.name for path in job.out.iterdir()) == sorted(path.name for path in job.paths())


def words(job: ScoreJob) -> list[str]:
    """The command that makes the tables of the job."""
    options = [
        "-c",
        str(job.checkpoint),
        "--device",
        "cpu",
        "--batch-size",
        "2",
        "--shard-size",
        "3",
        "--decode-workers",
        "0",
    ]
    return ["score", str(job.table), "--task", "recon,baselines", "--out", str(job.out), *options]


def test_two_workers_share_the_shards(job: ScoreJob, made: ScoreJob) -> None:
    done = []
    for index in range(2):
        assert not any(is_complete(path) for path in job.paths())
        done.append(list(score(job, Workers(WorkerShare(index, 2))))[-1].done)
    assert done == [6, 5]
    check_same(job, made)


def test_workers_as_typed_and_by_the_environment_of_torchrun(
    job: ScoreJob, made: ScoreJob, alit: Alit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    first = alit(*words(job))
    assert first.exit_code == 0, first.stderr
    assert "Worker 0/2 (by RANK and WORLD_SIZE)" in first.stderr
    assert f"others' writes {job.paths()[0]}" in first.stderr
    assert first.stdout == ""
    state = status(job.paths()[0])
    assert (state.kind, state.done, state.shards_done, state.finished) == ("score table", 6, 2, False)
    assert state.seconds["seconds"] > 0
    assert state.memory > 10
    assert "in all" in alit("status", job.paths()[0]).stdout
    both = json.loads(alit("status", job.out, "--json").stdout)["tables"]
    assert [(Path(table["out"]).name, table["done"]) for table in both] == [
        ("baselines.parquet", 6),
        ("recon.parquet", 6),
    ]
    second = alit(*words(job), "--worker", "1/2", "--json")
    assert second.exit_code == 0, second.stderr
    assert [table["images"] for table in json.loads(second.stdout)["tables"]] == [IMAGES, IMAGES]
    check_same(job, made)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[["--devices", "2"]], [["--worker", "0/2"], ["--worker", "1/2"]], [[], []], [["--engine", "ray"]]]
)
def test_real_processes_at_once(job: ScoreJob, made: ScoreJob, options: list[list[str]]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    lines = [[sys.executable, "-m", "alit_cli", *words(job), *more] for more in options]
    running = [subprocess.Popen(line, env=environment) for line in lines]
    assert [process.wait(300) for process in running] == [0] * len(options)
    check_same(job, made)


def test_the_first_images_only_and_a_dry_run(job: ScoreJob, made: ScoreJob, alit: Alit) -> None:
    found = json.loads(alit(*words(job), "--limit", 5, "--dry-run", "--json").stdout)
    assert (found["images"], found["shards"], found["done"]) == (5, 2, 0)
    assert found["seconds"] > 0
    assert not job.out.exists()
    run_to_the_end(dataclasses.replace(job, limit=5))
    for path, expected in zip(job.paths(), made.paths(), strict=True):
        assert pq.read_table(path).equals(pq.read_table(expected).slice(0, 5))


def test_only_failed_rows_are_done_again(job: ScoreJob, made: ScoreJob, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, IMAGES)
    job = dataclasses.replace(job, images=[str(photos)])
    lost = {number: (photos / f"img_{number}.png").read_bytes() for number in (3, 9)}
    for number in lost:
        (photos / f"img_{number}.png").write_bytes(b"broken")
    run_to_the_end(job)
    assert [pq.read_table(path)["error"].null_count for path in job.paths()] == [IMAGES - 2] * 2
    for number, data in lost.items():
        (photos / f"img_{number}.png").write_bytes(data)
    again = dataclasses.replace(job, retry_errors=True)
    assert {report.total for report in score(again)} == {2}
    for path, expected in zip(job.paths(), made.paths(), strict=True):
        table, whole = pq.read_table(path), pq.read_table(expected)
        # The batches of a retry are others, so that the last bits of a float may be.
        for name in ("image", "error"):
            assert table[name].equals(whole[name])
        assert list(problems(path, job.table)) == []
    # The plain command knows the tables as its own, and a retry where nothing failed does nothing.
    assert [report.done for report in score(job)] == [IMAGES]
    assert [report.done for report in score(again)] == [IMAGES]


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_in_the_same_tables(job: ScoreJob, made: ScoreJob) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["alit_cli.jobs.score"])
    begun = time.monotonic()
    process = context.Process(target=run_to_the_end, args=(dataclasses.replace(job, out=job.out / "unbroken"),))
    process.start()
    process.join()
    seconds = time.monotonic() - begun
    moments, kills = random.Random(0), 0
    while kills < KILLS:
        process = context.Process(target=run_to_the_end, args=(job,))
        process.start()
        process.join(moments.uniform(0, seconds))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if all(is_complete(path) for path in job.paths()) and not list(job.out.glob("*.work")):
            for path in job.paths():
                path.unlink()
    run_to_the_end(job)
    for path in (job.out / "unbroken").iterdir():
        path.unlink()
    (job.out / "unbroken").rmdir()
    check_same(job, made)
