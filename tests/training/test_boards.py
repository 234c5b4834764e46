"""Curves beside log.jsonl: TensorBoard by default, wandb on request, and a sentence where it is not installed."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from alit_cli.errors import AlitError, InputError
from alit_cli.training.job import ModelOptions, TrainJob, training_job
from alit_cli.training.train import train
from tests.training.test_train import OFTEN, SAMPLED, _job


class FakeRun:
    """What wandb.init gives, as far as it is used."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.logged, self.axes, self.finished = settings, list[dict[str, Any]](), dict[str, str](), False

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs that a stand-in for the package has begun."""
    begun: list[FakeRun] = []

    def init(**settings: Any) -> FakeRun:
        begun.append(FakeRun(settings))
        return begun[-1]

    module = ModuleType("wandb")
    module.init, module.Image = init, lambda pixels: pixels.shape  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return begun


def _base(folder: Path, **changes: Any) -> TrainJob:
    return dataclasses.replace(_job(folder, SAMPLED), stages=("base",), **changes)


def test_wandb_gets_what_the_log_has(tmp_path: Path, runs: list[FakeRun]) -> None:
    job = dataclasses.replace(_base(tmp_path, log_to=("wandb",)), stages=("base", "distill"))
    for _ in train(job, OFTEN):
        pass
    assert len(runs) == 2  # one per stage, which wandb joins by its id
    assert runs[0].settings["id"] == runs[1].settings["id"] == (job.work / "wandb.txt").read_text()
    assert runs[0].settings | {"id": ""} == {
        "project": "alit", "name": job.config.name, "id": "", "resume": "allow", "dir": str(job.work),
    }  # fmt: skip
    assert all(run.finished for run in runs)
    assert runs[0].axes == {"base/*": "base/step"}
    log = [json.loads(line) for line in (job.work / "log.jsonl").read_text().splitlines()]
    shown = [values for run in runs for values in run.logged if not any("reconstr" in name for name in values)]
    assert len(shown) == len(log) == 12
    for record, values in zip(log, shown, strict=True):
        stage = record["stage"]
        assert values[f"{stage}/step"] == record["step"]
        assert values[f"{stage}/total"] == record["losses"]["total"]
        for budget, l1 in record.get("validation", {}).items():
            assert values[f"{stage}/validation_l1/{budget}"] == l1
    side = job.config.image_size
    assert {"base/step": 6, "base/reconstructions": (2 * side, 2 * side, 3)} in runs[0].logged
    assert not (job.work / "tensorboard").exists()


@pytest.mark.parametrize(("names", "there"), [(None, True), (("tensorboard",), True), ((), False)])
def test_tensorboard_is_the_default_and_can_be_left_out(tmp_path: Path, names: Any, there: bool) -> None:
    job = _base(tmp_path, log_to=names)
    for _ in train(job, OFTEN):
        pass
    assert (job.work / "tensorboard").exists() == there
    assert (job.work / "log.jsonl").exists()


@pytest.mark.parametrize("missing", [None, ModuleType("wandb")], ids=["not installed", "only a folder of its name"])
def test_a_package_that_is_not_installed_is_named_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", missing)
    with pytest.raises(InputError, match=r"--log-to wandb needs the package wandb.*pip install wandb"):
        training_job([], tmp_path / "m.safetensors", ModelOptions(), ["base"], {}, {}, log_to=("tensorboard", "wandb"))


def test_wandb_that_cannot_begin_is_one_sentence(
    tmp_path: Path, runs: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty).")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    with pytest.raises(AlitError, match=r"api_key not configured \(no-tty\)\)\. Set WANDB_MODE=offline"):
        list(train(_base(tmp_path, log_to=("wandb",)), OFTEN))
    assert not runs
