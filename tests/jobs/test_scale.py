"""Large runs: killed again and again, on a full disk, and beside each other."""

from __future__ import annotations

import dataclasses
import importlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from alit_cli.jobs.tokenize import TokenizeJob
from tests.conftest import Alit
from tests.jobs.scale import quick_checkpoint, write_tar


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a process does that tokenizes, importable in others."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("dying").whole


def _same(one: Path, other: Path) -> None:
    found, expected = pq.read_table(one), pq.read_table(other)
    assert_frame_equal(found.to_pandas(), expected.to_pandas(), check_exact=True)
    assert found.schema.equals(expected.schema, check_metadata=True)


def _finished(work: Path) -> dict[str, tuple[int, int]]:
    """The marks of finished shards and their rows: which files they are, and when they were written."""
    names = [path for path in work.glob("*part-*") if path.suffix in (".json", ".parquet")]
    looks = {path.name: path.stat() for path in names}
    marked = {name for name in looks if (work / f"_{Path(name).stem.lstrip('_')}.json").exists()}
    return {name: (look.st_ino, look.st_mtime_ns) for name, look in looks.items() if name in marked}


@pytest.mark.parametrize(
    ("images", "shard_size", "kills"), [(240, 20, 4), pytest.param(2000, 100, 20, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_a_run_goes_on_where_it_was(
    tmp_path: Path, whole: Any, images: int, shard_size: int, kills: int
) -> None:
    tar, model = write_tar(tmp_path / "photos.tar", images), quick_checkpoint(tmp_path / "quick.safetensors")
    job = TokenizeJob([str(tar)], tmp_path / "t.parquet", str(model), "cpu", workers=0, shard_size=shard_size)
    context = get_context("forkserver")
    context.set_forkserver_preload(["alit_cli.jobs.engine"])
    unbroken = dataclasses.replace(job, out=tmp_path / "unbroken.parquet")
    for _ in range(2):  # the first starts the server
        unbroken.out.unlink(missing_ok=True)
        begun = time.monotonic()
        process = context.Process(target=whole, args=(unbroken,))
        process.start()
        process.join()
        seconds = time.monotonic() - begun
    moments = random.Random(0)
    left, finished = kills, dict[str, tuple[int, int]]()
    while left:
        process = context.Process(target=whole, args=(job,))
        process.start()
        process.join(moments.uniform(0, seconds / 2))
        if process.is_alive():
            process.kill()
            process.join()
            left -= 1
        assert not finished or not job.work.exists() or finished.items() <= _finished(job.work).items()
        finished = _finished(job.work)
        if job.out.exists():
            _same(job.out, unbroken.out)
            if not job.work.exists():  # else it was killed while it cleaned up
                job.out.unlink()
            finished = {}
    process = context.Process(target=whole, args=(job,))
    process.start()
    process.join()
    assert process.exitcode == 0
    _same(job.out, unbroken.out)
    assert not job.work.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode
    ):
        pytest.skip("only root mounts a disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(tmp_path: Path, small_disk: Path, alit: Alit) -> None:
    tar, model = write_tar(tmp_path / "photos.tar", 200), quick_checkpoint(tmp_path / "quick.safetensors")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(850 * 1024))
    line = ("tokenize", tar, "-c", model, "--device", "cpu", "--shard-size", 20, "--workers", 0)
    result = alit(*line, "--out", small_disk / "t.parquet")
    assert result.exit_code == 1, result.stderr
    (sentence,) = (line for line in result.stderr.splitlines() if line.startswith("Error:"))
    assert "The disk is full" in sentence
    assert "make space and run the same command again" in sentence
    finished = _finished(small_disk / "t.parquet.work")
    assert 0 < len(finished) < 20
    ballast.unlink()
    result = alit(*line, "--out", small_disk / "t.parquet")
    assert result.exit_code == 0, result.stderr
    assert alit(*line, "--out", tmp_path / "t.parquet").exit_code == 0
    _same(small_disk / "t.parquet", tmp_path / "t.parquet")
