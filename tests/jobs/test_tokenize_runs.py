"""`alit tokenize` as a run: parts, their stats and checksums, failed rows done again, dry runs, workers as typed."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.parts import part_path
from alit_cli.data.tables.summary import summarize
from alit_cli.errors import AlitError, InputError
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.jobs.verify import problems
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place
from alit_cli.runs.prepared import prepare
from alit_cli.runs.shards import shard_stats
from alit_cli.runs.status import status
from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, three of which are broken, and a tiny model."""
    folder = tmp_path_factory.mktemp("made")
    photos = write_photos(folder / "photos", 11)
    for path in photos[2:5]:
        path.rename(path.with_suffix(".whole"))
        path.write_bytes(b"broken")
    tiny.checkpoint(folder)
    return folder


@pytest.fixture
def job(made: Path, tmp_path: Path) -> TokenizeJob:
    checkpoint = str(next(made.glob("*.safetensors")))
    out = tmp_path / "tokens.parquet"
    return TokenizeJob([str(made / "photos")], out, checkpoint, "cpu", batch_size=4, workers=0, shard_size=4)


def frame(job: TokenizeJob) -> pd.DataFrame:
    for _ in tokenize(job):
        pass
    files = sorted(job.out.glob("*.parquet")) if job.as_folder else [job.out]
    frames: list[pd.DataFrame] = [pq.read_table(file).to_pandas() for file in files]
    return pd.concat(frames, ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture
def repaired(made: Path) -> object:
    """Make the broken photographs whole while a test runs."""

    def repair(*numbers: int) -> None:
        for number in numbers:
            path = made / "photos" / f"img_{number}.png"
            path.write_bytes(path.with_suffix(".whole").read_bytes())

    yield repair
    for number in (2, 3, 4):
        (made / "photos" / f"img_{number}.png").write_bytes(b"broken")


def test_a_folder_of_parts_has_the_rows_of_the_file(job: TokenizeJob, tmp_path: Path, alit: Alit) -> None:
    whole = frame(job)
    folder = dataclasses.replace(job, out=tmp_path / "tokens", parts=True)
    same(whole, frame(folder))
    assert sorted(path.name for path in folder.out.glob("*.parquet")) == [f"part-0000{i}.parquet" for i in range(3)]
    stats = shard_stats(folder.out, 0)
    assert stats["statuses"] == {"ok": 2, "unreadable": 2}
    assert len(stats["errors"]) == 2
    assert {"read", "decode", "model", "write", "images_per_second", "memory", "sha256"} <= stats.keys()
    assert list(problems(folder.out)) == []
    found = status(folder.out)
    assert (found.finished, found.done, found.shards_done) == (True, 11, 3)
    assert found.memory > 10
    assert summarize(folder.out).failed == 3
    assert [progress.done for progress in tokenize(folder)] == [11]  # nothing is done twice
    with pytest.raises(InputError, match="another run"):
        list(tokenize(dataclasses.replace(folder, limit=5)))
    assert "in all" in alit("status", folder.out).stdout


def test_work_with_the_columns_of_another_version_is_neither_resumed_nor_retried(
    job: TokenizeJob, monkeypatch: pytest.MonkeyPatch, repaired: Callable[..., None]
) -> None:
    whole = dataclasses.replace(job, out=job.out.with_name("whole.parquet"))
    with monkeypatch.context() as older:
        for module in ("jobs.tokenize", "data.tables.token_table"):
            older.setattr(f"alit_cli.{module}.PLAIN_MEASURES", PLAIN_MEASURES[:5])
        # A job keeps what it knows of its table, and later ones must look it up again.
        begun = tokenize(dataclasses.replace(job))
        assert any(progress.done >= 4 for progress in begun)
        begun.close()
        frame(dataclasses.replace(whole))
    with pytest.raises(InputError, match=r"unfinished work .* \(plain_measures has gained distinct_colours"):
        frame(job)
    with pytest.raises(InputError, match="finished table of another run"):
        frame(whole)
    repaired(2)
    with pytest.raises(InputError, match="made with other options"):
        frame(dataclasses.replace(whole, retry_errors=True))


def test_an_unfinished_folder_is_no_table_yet(job: TokenizeJob, tmp_path: Path) -> None:
    folder = dataclasses.replace(job, out=tmp_path / "tokens", parts=True)
    prepared = prepare(folder)
    assert prepared is not None
    with ShardRunner(pickle.loads(pickle.dumps(prepared)), Place("cpu")) as runner:  # as other processes get it
        list(runner.do(1))
        runner.flush()
        assert prepared.due_shards() == [0, 2]
        with pytest.raises(InputError, match="not finished"):
            summarize(folder.out)
        for index in prepared.due_shards():
            list(runner.do(index))
    same(frame(dataclasses.replace(job, out=tmp_path / "x.parquet")), frame(folder))


def test_a_changed_part_is_found(job: TokenizeJob, tmp_path: Path) -> None:
    folder = dataclasses.replace(job, out=tmp_path / "tokens", parts=True)
    frame(folder)
    part = folder.out / "part-00001.parquet"
    pq.write_table(pq.read_table(part), part)
    assert any("checksum" in problem for problem in problems(folder.out))
    (folder.out / "mine.txt").touch()
    with pytest.raises(AlitError, match="other files"):
        list(tokenize(dataclasses.replace(folder, overwrite=True)))


@pytest.mark.parametrize("parts", [False, True])
def test_only_failed_rows_are_done_again(job: TokenizeJob, tmp_path: Path, parts: bool, repaired) -> None:  # type: ignore[no-untyped-def]
    job = dataclasses.replace(job, out=tmp_path / "tokens" if parts else job.out, parts=parts, hash_files=True)
    before = frame(job)
    stamp = (job.out / "part-00002.parquet").stat().st_mtime_ns if parts else 0
    again = dataclasses.replace(job, retry_errors=True)
    repaired(2, 4)
    done = [progress.total for progress in tokenize(again)]
    assert set(done) == {3}
    after = frame(again)  # tries the one that still fails, and changes nothing
    kept = after["status"].eq("ok") & before["status"].eq("ok")
    assert kept.sum() == 8
    same(before[kept], after[kept])
    assert after["status"].ne("ok").sum() == 1
    assert list(problems(job.out)) == []
    if parts:
        assert (job.out / "part-00002.parquet").stat().st_mtime_ns == stamp
        assert shard_stats(job.out, 0)["statuses"] == {"ok": 3, "unreadable": 1}
    fresh = dataclasses.replace(job, out=tmp_path / "fresh.parquet", parts=False)
    same(frame(fresh), after)
    assert [progress.done for progress in tokenize(job)] == [11]  # the plain command knows the table as its own
    assert not (tmp_path / f"{job.out.name}.work").exists()


def test_a_second_try_that_was_killed_goes_on(job: TokenizeJob, repaired) -> None:  # type: ignore[no-untyped-def]
    frame(job)
    again = dataclasses.replace(job, retry_errors=True, shard_size=1)
    with pytest.raises(InputError, match="other images"):
        list(tokenize(dataclasses.replace(again, limit=5)))
    repaired(2, 3, 4)
    interrupted = tokenize(again)
    assert [next(interrupted).total for _ in range(3)] == [3, 3, 3]
    interrupted.close()
    assert next(iter(tokenize(again))).done in (1, 2)
    assert frame(again)["status"].eq("ok").all()


@pytest.mark.parametrize("parts", [False, True])
def test_failed_rows_of_unfinished_work_are_done_again(job: TokenizeJob, tmp_path: Path, parts: bool, repaired) -> None:  # type: ignore[no-untyped-def]
    job = dataclasses.replace(job, out=tmp_path / "tokens" if parts else job.out, parts=parts)
    prepared = prepare(job)
    assert prepared is not None
    with ShardRunner(prepared, Place("cpu")) as runner:
        list(runner.do(0))  # two of the broken ones are in it
    stamp = os.stat(part_path(job.work_folder, 0)).st_mtime_ns
    repaired(2, 3, 4)
    with pytest.raises(InputError, match="3 images are changed"):
        list(tokenize(job))
    with pytest.raises(InputError, match="another run"):
        list(tokenize(dataclasses.replace(job, retry_errors=True, limit=5)))
    again = prepare(dataclasses.replace(job, retry_errors=True))
    assert again is not None
    assert again.due_shards() == [1, 2]
    assert os.stat(part_path(job.work_folder, 0)).st_mtime_ns == stamp
    reports = list(tokenize(dataclasses.replace(job, retry_errors=True)))
    assert list(dict.fromkeys(report.total for report in reports)) == [11, 2]
    after = frame(job)  # the plain command knows the table as its own
    assert after["status"].eq("ok").all()
    same(frame(dataclasses.replace(job, out=tmp_path / "fresh.parquet", parts=False)), after)
    assert list(problems(job.out)) == []


def test_a_dry_run_writes_nothing(made: Path, job: TokenizeJob, tmp_path: Path, alit: Alit) -> None:
    words = ("tokenize", *job.paths, "-c", job.checkpoint, "--device", "cpu", "--out", job.out, "--shard-size", 4)
    found = json.loads(alit(*words, "--dry-run", "--json").stdout)
    assert (found["images"], found["shards"], found["done"]) == (11, 3, 0)
    assert found["bytes"] == sum(os.path.getsize(item.path) for item in list_items(job.paths))
    assert found["seconds"] > 0
    assert os.listdir(tmp_path) == []
    said = alit(*words, "--dry-run")
    assert "images/s" in said.stdout
    assert re.search(r"11/11 images, timed", said.stderr)


def test_a_dry_run_takes_two_inputs_with_images_of_one_name(made: Path, tmp_path: Path, alit: Alit) -> None:
    for folder in ("one", "two"):
        write_photos(tmp_path / folder, 2)
    words = ("tokenize", tmp_path / "one", tmp_path / "two", "-c", next(made.glob("*.safetensors")), "--device", "cpu")
    result = alit(*words, "--out", tmp_path / "t.parquet", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 4


@pytest.mark.parametrize("stop", [None, 0.3])
def test_the_rows_do_not_depend_on_the_number_of_workers(job: TokenizeJob, tmp_path: Path, stop: float | None) -> None:
    job = dataclasses.replace(job, stop=stop, hash_files=True)
    tables = [
        frame(dataclasses.replace(job, out=tmp_path / f"{workers}.parquet", workers=workers))
        for workers in (0, 1, 2, None)
    ]
    for table in tables[1:]:
        same(tables[0], table)


@pytest.mark.parametrize("out", ["file/x.parquet", "file/tokens/", "images/"])
def test_where_nothing_can_be_written(tmp_path: Path, alit: Alit, job: TokenizeJob, out: str) -> None:
    (tmp_path / "file").touch()
    write_photos(tmp_path / "images", 2)
    words = ("-c", job.checkpoint, "--device", "cpu")
    result = alit("tokenize", tmp_path / "images", *words, "--out", f"{tmp_path}/{out}")
    assert result.exit_code == 2
    assert sum(line.startswith("Error:") for line in result.stderr.splitlines()) == 1


@pytest.fixture
def words(made: Path, job: TokenizeJob) -> list[str]:
    """The command that makes the table of the job."""
    options = ["-c", str(job.checkpoint), "--device", "cpu", "--batch-size", "4", "--shard-size", "4"]
    return ["tokenize", str(made / "photos"), "--out", str(job.out), *options, "--max-error-rate", "0.5"]


def test_two_workers_as_typed(
    job: TokenizeJob, words: list[str], tmp_path: Path, alit: Alit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = alit(*words, "--worker", "0/2")
    assert first.exit_code == 0, first.stderr
    assert "Worker 0/2 (by --worker)" in first.stderr
    assert f"writes {job.out}" in first.stderr
    assert first.stdout == ""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "11 images" in alit(*words).stdout
    for wrong in (("--worker", "2/2"), ("--worker", "1"), ("--devices", "0"), ("--engine", "slurm")):
        assert alit(*words, *wrong).exit_code == 2
    same(frame(dataclasses.replace(job, out=tmp_path / "one.parquet")), pq.read_table(job.out).to_pandas())


@pytest.mark.slow
def test_real_processes_at_once(job: TokenizeJob, words: list[str], tmp_path: Path) -> None:
    expected = frame(dataclasses.replace(job, out=tmp_path / "one.parquet"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "alit_cli", *words]
    both: list[list[str]] = [[], []]
    for workers in ([["--worker", "0/2"], ["--worker", "1/2"]], both, [["--devices", "2"]], [["--engine", "ray"]]):
        job.out.unlink(missing_ok=True)
        running = [subprocess.Popen([*line, *options], env=environment) for options in workers]
        assert [process.wait(200) for process in running] == [0] * len(workers)
        same(expected, pq.read_table(job.out).to_pandas())
