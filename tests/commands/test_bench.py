"""`alit bench` says how fast each stage is and what it could be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from alit_cli.jobs.bench import halving
from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos


def test_every_stage_has_its_time_and_its_arithmetic(tmp_path: Path, alit: Alit) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "bad.jpg").write_text("no picture")
    words = ["bench", tmp_path / "photos", "--checkpoint", tiny.checkpoint(tmp_path), "--batch-size", 2]
    found = json.loads(alit(*words, "--device", "cpu", "--json").stdout)
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert all(stage["images_per_second"] > 0 for stage in stages.values())
    names = [name for name, stage in stages.items() if stage["gflop"]]
    *parts, whole, total, early = names
    assert len(parts) == 4
    assert sum(stages[name]["gflop"] for name in parts) == pytest.approx(stages[whole]["gflop"], rel=1e-6)
    assert stages[total]["gflop"] == stages[whole]["gflop"]
    assert stages[total]["floor"] < stages[whole]["floor"]  # decoding takes time too
    assert early.startswith("alit tokenize --stop")
    assert stages["decode (1 thread)"]["floor"] > 0
    assert 0 <= found["bf16"]["ids_equal"] <= 1
    assert 0 < found["bf16"]["l1_mean"] <= found["bf16"]["l1_largest"] < 0.1
    assert found["mixed"]["ids_equal"] == 1
    assert 0 < found["mixed"]["l1_mean"] <= found["mixed"]["l1_largest"] < 0.1
    # A bound is one: nothing is faster.
    assert all(stage["images_per_second"] <= stage["floor"] for stage in stages.values() if stage["floor"])


def test_bench_as_typed(tmp_path: Path, alit: Alit) -> None:
    words = ("--checkpoint", tiny.checkpoint(tmp_path), "--batch-size", 2, "--limit", 3, "--stop", "l1<0.2")
    result = alit("bench", *words)
    assert result.exit_code == 0, result.stderr
    assert "GFLOP/s" in result.stderr
    assert re.match(r"A million images take \S+ hours here at every budget", result.stdout)
    shares = [int(share) for share in re.findall(r"(\d+)%$", result.stdout, re.MULTILINE)]
    assert len(shares) >= 7 and max(shares) <= 100
    assert "alit tokenize --stop 'l1<0.2'" in result.stdout
    assert "bf16 beside float32" in result.stdout
    (tmp_path / "bad.jpg").write_text("no picture")
    result = alit("bench", tmp_path / "bad.jpg", *words)
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_threshold_that_halves_the_mean_budget() -> None:
    budgets = (8, 16, 24, 32)
    starts = np.random.default_rng(0).uniform(0.1, 0.3, (500, 1))
    losses = starts * 0.8 ** np.arange(4)
    below = losses < halving(losses, budgets)
    visited = np.where(below.any(axis=1), np.array(budgets)[below.argmax(axis=1)], budgets[-1])
    assert visited.mean() == pytest.approx(16, abs=0.5)
