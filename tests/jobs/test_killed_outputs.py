"""Outputs whose process is killed or whose disk is full: a rerun gives the same, and nothing else has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alit_cli.data.marks import MANIFEST
from tests.conftest import KILLS, mounted
from tests.data.test_token_table import INFO, rows
from tests.model import tiny

COMMANDS = {
    "export": "export tokens.parquet --budget 8 --out out/tokens.jsonl",
    "select": "select tokens.parquet --thr 0.5 --out out/selection.parquet",
    "decode": "decode small.parquet --budget 4 --out out/recon -c tiny.safetensors",
}
# A finished score table is not written again; test_score_runs.py kills runs of it.
ON_A_FULL_DISK = {
    **COMMANDS,
    "score": "score small.parquet --task recon --out out/scores -c tiny.safetensors --shard-size 20",
}
ROWS, SMALL = 60_000, 200


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
    write_photos(folder / "photos", SMALL)
    job = TokenizeJob([str(folder / "photos")], folder / "small.parquet", str(folder / "tiny.safetensors"), "cpu")
    for _ in tokenize(job):
        pass
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return folder


def run(command: str, folder: Path, said: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a command; `said` is where its errors go."""
    line = [sys.executable, "-m", "alit_cli", *ON_A_FULL_DISK[command].split(), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said)


def hashes(folder: Path) -> dict[str, str]:
    """Of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _lasting(name: str) -> bool:
    """Neither a temporary file nor the manifest, which lists the old and the new sum while a file is replaced."""
    return not name.endswith((".tmp", MANIFEST))


def _writes(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Wait until a command begins to write; False where it ends before that is seen."""
    before = set(folder.rglob("*"))
    while process.poll() is None:
        if set(folder.rglob("*")) - before:
            return True
        time.sleep(0.002)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments(world: Path, command: str) -> None:
    process = run(command, world)
    assert _writes(process, world / "out")
    begun = time.monotonic()
    assert process.wait() == 0
    seconds, whole = time.monotonic() - begun, hashes(world)
    generator, kills, runs = np.random.default_rng(0), 0, 0
    while kills < KILLS:
        if command == "decode" and hashes(world).keys() >= whole.keys():
            # Decode goes on where a killed run has stopped, so there is nothing left for it to write.
            shutil.rmtree(world / "out" / "recon")
        process, runs = run(command, world), runs + 1
        assert runs < 5 * KILLS, "hardly any run is killed in time"
        # Starting takes longer than writing, and only what is killed while it writes can leave anything behind.
        if _writes(process, world / "out"):
            time.sleep(generator.uniform(0, seconds))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        # What was there before is whole: the old output or the new one, which are the same.
        assert whole.items() >= {name: digest for name, digest in hashes(world).items() if _lasting(name)}.items()
        assert (world / "out" / "notes.txt").read_text() == "mine"
    time.sleep(1.5)  # a temporary file that is younger may be of a process that is about to lock it
    assert run(command, world).wait() == 0
    assert hashes(world) == whole
    print(f"{command}: {kills} kills in {runs} runs, which write for {seconds:.2f} s")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mounted(tmp_path / "disk", "256k") as disk:
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize("command", ON_A_FULL_DISK)
def test_a_full_disk(world: Path, full_disk: Path, command: str, tmp_path: Path) -> None:
    (full_disk / "mine").write_bytes(bytes(200 * 1024))
    before = hashes(world)
    folder, elsewhere = tmp_path / "full", tmp_path / "elsewhere"
    for place, out in ((folder, full_disk), (elsewhere, tmp_path / "out")):
        out.mkdir(exist_ok=True)
        place.mkdir()
        for name in ("tokens.parquet", "small.parquet", "tiny.safetensors", "photos"):
            (place / name).symlink_to(world / name)
        (place / "out").symlink_to(out)
    process = run(command, folder, subprocess.PIPE)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "The disk is full" in said.decode()
    assert not list(full_disk.rglob("*.tmp"))
    assert (full_disk / "mine").read_bytes() == bytes(200 * 1024)
    subprocess.run(["mount", "-o", "remount,size=256m", full_disk], check=True)
    assert run(command, folder).wait() == 0
    assert run(command, elsewhere).wait() == 0
    (full_disk / "mine").unlink()
    assert hashes(full_disk) == hashes(tmp_path / "out")
    assert hashes(world) == before
