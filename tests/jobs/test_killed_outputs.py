"""Outputs whose process is killed or whose disk is full: a rerun gives the same, and nothing else has changed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alit_cli.data.marks import MANIFEST
from tests.conftest import mounted
from tests.data.test_token_table import INFO, rows
from tests.model import tiny

COMMANDS = {
    "export": "export tokens.parquet --budget 8 --out out/tokens.jsonl",
    "select": "select tokens.parquet --thr 0.5 --out out/selection.parquet",
    "decode": "decode small.parquet --budget 4 --out out/recon -c tiny.safetensors",
}
ROWS = 60_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large table, a small one with its model, and files of the user's where the outputs go."""
    from alit_cli.data.tables.parquet import write_table
    from alit_cli.jobs.tokenize import TokenizeJob, tokenize
    from tests.training.photos import write_photos

    folder = tmp_path_factory.mktemp("killed")
    table = rows(INFO, [True] * ROWS)
    names = [f"{index:06d}.jpg" for index in range(ROWS)]
    write_table(table.set_column(0, "image", [names]), folder / "tokens.parquet")
    tiny.checkpoint(folder).rename(folder / "tiny.safetensors")
    write_photos(folder / "photos", 40)
    job = TokenizeJob([str(folder / "photos")], folder / "small.parquet", str(folder / "tiny.safetensors"), "cpu")
    for _ in tokenize(job):
        pass
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return folder


def run(command: str, folder: Path, said: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a command; `said` is where its errors go."""
    line = [sys.executable, "-m", "alit_cli", *COMMANDS[command].split(), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said)


def hashes(folder: Path) -> dict[str, str]:
    """Of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _lasting(name: str) -> bool:
    """Neither a temporary file nor the manifest, which lists the old and the new sum while a file is replaced."""
    return not name.endswith((".tmp", MANIFEST))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments(world: Path, command: str) -> None:
    begun = time.monotonic()
    assert run(command, world).wait() == 0
    seconds, whole = time.monotonic() - begun, hashes(world)
    generator = np.random.default_rng(0)
    for moment in generator.uniform(0.2, 1, 20) * seconds:
        process = run(command, world)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # What was there before is whole: the old output or the new one, which are the same.
        assert whole.items() >= {name: digest for name, digest in hashes(world).items() if _lasting(name)}.items()
        assert (world / "out" / "notes.txt").read_text() == "mine"
    time.sleep(1.5)  # a temporary file that is younger may be of a process that is about to lock it
    assert run(command, world).wait() == 0
    assert hashes(world) == whole


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(world: Path, full_disk: Path, command: str) -> None:
    (full_disk / "mine").write_bytes(bytes(200 * 1024))
    before = _without_full(world)
    folder = world / "full"
    folder.mkdir(exist_ok=True)
    for name in ("tokens.parquet", "small.parquet", "tiny.safetensors"):
        if not (folder / name).exists():
            (folder / name).symlink_to(world / name)
    (folder / "out").unlink(missing_ok=True)
    (folder / "out").symlink_to(full_disk)
    process = run(command, folder, subprocess.PIPE)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "The disk is full" in said.decode()
    assert not list(full_disk.rglob("*.tmp"))
    assert (full_disk / "mine").read_bytes() == bytes(200 * 1024)
    assert _without_full(world) == before


def _without_full(world: Path) -> dict[str, str]:
    """The files that no full disk may touch."""
    return {name: digest for name, digest in hashes(world).items() if not name.startswith("full/")}
