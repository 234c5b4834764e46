"""`alit train` in its long pauses, and a second one beside it: what is told, and what an interruption costs."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from alit_cli.errors import AlitError, InputError
from alit_cli.progress import Progress
from alit_cli.training.job import TrainJob
from alit_cli.training.records.log import Remark, TrainRecord
from alit_cli.training.stages.base import BaseStage
from alit_cli.training.train import train
from tests.training.test_train import OFTEN, SAMPLED, _job, goes_on_to_the_same_weights


def _interrupted_in_k_means(job: TrainJob) -> None:
    """Train until Ctrl-C in the third round, which acts before the fourth."""
    for record in train(job, OFTEN):
        if isinstance(record, Progress) and record.unit == "rounds":
            assert record.done < 4
            if record.done == 3:
                signal.raise_signal(signal.SIGINT)


def test_filling_a_codebook_is_told_and_can_be_interrupted(tmp_path: Path) -> None:
    whole = dataclasses.replace(_job(tmp_path, SAMPLED, "vqgan"), stages=("base", "distill"))
    reports = [record for record in train(whole, OFTEN) if isinstance(record, Progress)]
    rounds = [(report.done, report.total) for report in reports if report.unit == "rounds"]
    assert rounds == 2 * [(done, 10) for done in range(11)]  # the VQGAN's codebook, then that of the 1D tokens
    assert [report.done > 0 for report in reports if report.unit == "latents"] == [True] * 4  # eight at a time
    broken = dataclasses.replace(whole, out=tmp_path / "broken.safetensors")
    for stage in whole.stages:
        with pytest.raises(KeyboardInterrupt):
            _interrupted_in_k_means(broken)
        assert (broken.work / f"{stage}.state").exists()
        for record in train(broken, OFTEN):
            if isinstance(record, TrainRecord) and record.stage != stage:
                break
    goes_on_to_the_same_weights(broken, whole)


def test_two_runs_do_not_share_a_work_folder(tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    first = train(job, OFTEN)
    next(first)
    with pytest.raises(InputError, match="Another process is training"):
        next(iter(train(job, OFTEN)))
    for _ in first:
        pass
    assert job.out.exists()
    assert list(train(job, OFTEN)) == []


def test_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    (job.work / "pictures").mkdir(parents=True)
    for name in ("job.json", "pictures/base-000003.png"):
        (job.work / f"{name}.123-0a1b2c3d.tmp").touch()
    next(train(job, OFTEN))
    assert not list(job.work.rglob("*.tmp"))


@pytest.mark.usefixtures("estimated")
def test_memory_that_runs_out_is_said_and_smaller_pieces_resume_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = dataclasses.replace(SAMPLED.base, precision="float32")  # in bf16 smaller pieces are other numbers
    job = dataclasses.replace(_job(tmp_path, dataclasses.replace(SAMPLED, base=exact)), stages=("base",))
    cures: dict[Literal["on", "off"], str]
    cures = {"off": "with --checkpointing on, or with --accumulate 2: ", "on": "with --accumulate 2: "}
    for checkpointing, cure in cures.items():
        with monkeypatch.context() as patch:

            def step(*_: object) -> None:
                raise torch.OutOfMemoryError("CUDA out of memory")

            patch.setattr(BaseStage, "step", step)
            recipe = dataclasses.replace(job.recipe, checkpointing=checkpointing)
            with pytest.raises(AlitError, match=f"not enough memory for 4 photographs .* {cure}"):
                list(train(dataclasses.replace(job, recipe=recipe), OFTEN))
    base = dataclasses.replace(job.recipe.base, accumulate=2)
    recipe = dataclasses.replace(job.recipe, base=base, checkpointing="on")
    said = list(train(dataclasses.replace(job, recipe=recipe), OFTEN))
    assert any(isinstance(report, Remark) and report.text.endswith("; it is on") for report in said)
    whole = dataclasses.replace(job, out=tmp_path / "whole.safetensors")
    list(train(whole, OFTEN))
    expected, found = load_file(whole.out), load_file(job.out)
    assert all((expected[name] - found[name]).abs().mean() < 1e-4 for name in expected)
