"""`alit train --dry-run`: what it counts, what it times, and that it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from alit_cli.training.dry_run import Expected, dry_run
from alit_cli.training.job import TrainJob
from alit_cli.training.loop import StageRun
from alit_cli.training.memory import MemoryPlan
from alit_cli.training.recipe import Recipe, StageRecipe
from alit_cli.training.start import Start
from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos

STAGE = StageRecipe(steps=10, batch_size=8)
RECIPE = Recipe(
    base=STAGE,
    distill=dataclasses.replace(STAGE, steps=20),
    finetune=dataclasses.replace(STAGE, steps=30),
    crops=2,
    validation=3,
)


def _expected(folder: Path) -> Expected:
    job = TrainJob([str(folder / "photos")], folder / "m.safetensors", Start(tiny.config("vae"), "nano"), RECIPE)
    last = list(dry_run(job))[-1]
    assert isinstance(last, Expected)
    return last


def test_a_finished_stage_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 15)
    (tmp_path / "m.safetensors.work").mkdir()
    (tmp_path / "m.safetensors.work" / "base.safetensors").touch()
    timed: list[tuple[str, int, list[int]]] = []

    def seconds(run: StageRun, steps: Sequence[int], _memory: MemoryPlan) -> list[float]:
        timed.append((run.stage.name, run.stage_recipe.batch_size, list(steps)))
        # One photograph takes two seconds; the first step of a trial is much slower than the others.
        return [100.0, *[2.0 * run.stage_recipe.batch_size] * (len(steps) - 1)]

    monkeypatch.setattr(StageRun, "time_steps", seconds)
    expected = _expected(tmp_path)
    assert (expected.photographs, expected.held_out) == (12, 3)
    assert expected.crop_bytes == 12 * 2 * 32 * 32 * 3
    assert expected.steps == {"distill": 20, "finetune": 30}
    # A step of eight photographs would take too long to be timed, so two were, over the whole of the stage.
    assert timed[1] == ("distill", 2, [2, 2, 7, 12, 17])
    assert expected.seconds == {"distill": 20 * 16.0, "finetune": 30 * 16.0}
    assert expected.total == 50 * 16.0


def test_all_stages_are_timed_and_nothing_is_written(alit: Alit, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 10)
    start = tiny.checkpoint(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = ["train", tmp_path / "photos", "--init", start, "--out", tmp_path / "new.safetensors", "--dry-run"]
    result = json.loads(alit(*words, "--batch-size", 4, "--device", "cpu", "--json").stdout)
    assert sorted(tmp_path.rglob("*")) == before
    assert set(result["seconds"]) == set(result["steps"]) == {"base", "distill", "finetune"}
    assert all(seconds > 0 for seconds in result["seconds"].values())
    assert result["total"] == pytest.approx(sum(result["seconds"].values()))
    printed = alit(*words, "--batch-size", 4, "--device", "cpu")
    assert "8 photographs to train on" in printed.stdout
    assert "The steps take about" in printed.stderr
