"""Several processes, accumulation and interruption: the same training, whoever works on it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from tests.model import tiny
from tests.training.photos import write_photos

ROOT = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def _train(folder: Path, out: str, processes: int, *options: str) -> list[str]:
    """The command that trains a small vqgan-based model on a few photographs for a few steps a stage."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    program = ["-m", "alit_cli", "train", str(folder / "photos"), "--out", str(folder / out), "--device", "cpu"]
    start = ["--init", str(folder / "tiny.safetensors"), "--no-halting", "--gan", "none"]
    steps = ["--base-steps", "3", "--distill-steps", "4", "--finetune-steps", "3", "--batch-size", "8", "--lr", "1e-3"]
    return [sys.executable, *(launcher if processes > 1 else []), *program, *start, *steps, *options]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_photos(folder / "photos", 14)
    config = tiny.config("vqgan", 32)
    torch.manual_seed(0)
    write_checkpoint(folder / "tiny.safetensors", Alit(config), Record(config))
    alone = _train(folder, "one.safetensors", 1)
    subprocess.run(alone, check=True, env=_environment(), cwd=folder, capture_output=True, timeout=300)
    return folder


def _losses(folder: Path, out: str) -> list[float]:
    log = (folder / f"{out}.work" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["losses"]["total"] for line in log]


@pytest.mark.parametrize(
    ("processes", "options"), [(2, []), (1, ["--accumulate", "3"])], ids=["two processes", "accumulated"]
)
def test_shared_work_takes_the_same_steps(folder: Path, processes: int, options: list[str]) -> None:
    out = f"shared-{processes}.safetensors"
    command = _train(folder, out, processes, *options)
    subprocess.run(command, check=True, env=_environment(), cwd=folder, capture_output=True, timeout=300)
    assert _losses(folder, out) == pytest.approx(_losses(folder, "one.safetensors"), rel=1e-4)
    expected, found = load_file(folder / "one.safetensors"), load_file(folder / out)
    for name in expected:
        # Adam divides by gradients of near 0, so single weights may differ by a step of lr where float sums do.
        assert (expected[name] - found[name]).abs().mean() < 1e-4, name


def test_two_processes_go_on_where_one_stopped(folder: Path) -> None:
    out = "handed-over.safetensors"
    log = folder / f"{out}.work" / "pictures"
    run = subprocess.Popen(_train(folder, out, 1, "--validate-every", "1"), env=_environment(), cwd=folder)
    while run.poll() is None and not (log.exists() and list(log.glob("*.png"))):
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=120) in (143, 0)  # a slow machine may have looked too late
    both = _train(folder, out, 2, "--validate-every", "1")
    subprocess.run(both, check=True, env=_environment(), cwd=folder, capture_output=True, timeout=300)
    expected, found = load_file(folder / "one.safetensors"), load_file(folder / out)
    assert all((expected[name] - found[name]).abs().mean() < 1e-4 for name in expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_then_ends_in_the_same_weights(folder: Path, number: signal.Signals) -> None:
    out = f"stopped-{number.name}.safetensors"
    command = _train(folder, out, 1, "--validate-every", "1")
    log = folder / f"{out}.work" / "pictures"
    run = subprocess.Popen(command, env=_environment(), cwd=folder, stderr=subprocess.PIPE, text=True)
    steps = random.Random(number).randint(1, 5)
    while run.poll() is None and len(list(log.glob("*.png")) if log.exists() else []) < steps:
        time.sleep(0.02)
    run.send_signal(number)
    _, said = run.communicate(timeout=120)
    if run.returncode:  # it may have been done already
        assert run.returncode == (130 if number == signal.SIGINT else 143), said
        assert "run the same command again" in said
        assert not (folder / out).exists() or len(list(log.glob("*.png"))) < 10
    subprocess.run(command, check=True, env=_environment(), cwd=folder, capture_output=True, timeout=300)
    expected, found = load_file(folder / "one.safetensors"), load_file(folder / out)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
