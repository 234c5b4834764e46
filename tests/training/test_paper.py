"""The paper's line at tiny sizes: base with LPIPS and a critic, distillation, fine-tuning; interrupted and resumed."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from alit_cli.config import STAGES, StageName
from alit_cli.training.job import TrainJob
from alit_cli.training.recipe import Recipe, recipe_for
from alit_cli.training.records.log import TrainRecord
from alit_cli.training.train import train
from tests.training.test_train import OFTEN, _job, _write_lpips, goes_on_to_the_same_weights


def _recipe(folder: Path, accumulate: int = 1, **changes: Any) -> Recipe:
    stage = {"steps": 6, "batch_size": 4, "learning_rate": 2e-4, "precision": "float32", "accumulate": accumulate}
    stages: dict[StageName, dict[str, Any]] = dict.fromkeys(STAGES, stage)
    file = folder / "lpips.safetensors"
    lpips = (str(file if file.exists() else _write_lpips(file)),)
    return recipe_for("nano", stages, "paper", lpips=lpips, validation=2, critic_steps=2, **changes)


def _interrupted(job: TrainJob, stage: StageName, step: int) -> None:
    """Train until Ctrl-C after a step."""
    try:
        for record in train(job, OFTEN):
            if isinstance(record, TrainRecord) and (record.stage, record.step) == (stage, step):
                signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return
    raise AssertionError("the run went on")


def _losses(job: TrainJob) -> list[float]:
    return [json.loads(line)["losses"]["total"] for line in (job.work / "log.jsonl").read_text().splitlines()]


def test_the_papers_line_resumes_in_smaller_pieces(tmp_path: Path) -> None:
    """Without a critic; the average runs on here, since one that begins again at every epoch would hide differences."""
    recipe = _recipe(tmp_path, gan=(), ema="warmup")
    whole = _job(tmp_path, recipe, "vqgan")
    list(train(whole, OFTEN))
    broken = dataclasses.replace(whole, out=tmp_path / "broken.safetensors")
    _interrupted(broken, "distill", 3)
    in_pieces = _recipe(tmp_path, accumulate=2, gan=(), ema="warmup")
    list(train(dataclasses.replace(broken, recipe=in_pieces), OFTEN))
    assert _losses(broken) == pytest.approx(_losses(whole), rel=1e-4)
    expected, found = load_file(whole.out), load_file(broken.out)
    assert all((expected[name] - found[name]).abs().mean() < 1e-5 for name in expected)


def test_the_papers_line_with_its_critics_resumes_to_the_bit(tmp_path: Path) -> None:
    whole = _job(tmp_path, _recipe(tmp_path), "vqgan")
    list(train(whole, OFTEN))
    log = [json.loads(line) for line in (whole.work / "log.jsonl").read_text().splitlines()]
    for entry in log:
        pixels = entry["stage"] != "distill"
        assert ("lpips" in entry["losses"]) == pixels
        assert ("gan" in entry["losses"]) == (pixels and entry["step"] > 4)  # from 51 % of six steps on
    broken = dataclasses.replace(whole, out=tmp_path / "broken.safetensors")
    _interrupted(broken, "finetune", 5)
    assert " resumes after step 5" in goes_on_to_the_same_weights(broken, whole)
