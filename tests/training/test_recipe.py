"""The recipe of the paper equals the authors' code, and each of its parts is an option that does what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from alit_cli.cli import main
from alit_cli.errors import InputError
from alit_cli.model.lpips import Lpips
from alit_cli.progress import Progress
from alit_cli.training.job import ModelOptions, TrainJob, training_job
from alit_cli.training.loop import StageRun
from alit_cli.training.memory import MemoryPlan
from alit_cli.training.optimizers import CriticOptimizer
from alit_cli.training.recipe import CriticRecipe, Recipe, StageRecipe, recipe_for
from alit_cli.training.records.log import TrainRecord
from alit_cli.training.train import train
from tests.training.test_train import ALL, OFTEN, STAGE, _job


def test_the_recipe_of_the_paper_is_that_of_the_authors_code() -> None:
    paper = recipe_for("small", {}, "paper")
    assert paper.gan_schedule == ((0.51, 0.2), (0.73, 0.8))
    assert paper.critic == CriticRecipe(betas=(0.9, 0.95), weight_decay=0.01, cosine=True, clip=3.0)
    assert (paper.critic_steps, paper.lpips_range, paper.perceptual_weight) == (8, "0,1", 1.0)
    assert (paper.crop_box, paper.crop_filter, paper.crop_area) == ("torchvision", "bilinear", (0.8, 1.0))
    assert (paper.ema, paper.kmeans, paper.halting, paper.iterations) == ("epoch", False, True, "all")
    assert paper.iteration_weights == (2.5, 2.0, 1.5, 1.25)
    for stage, per_256, warmup in (("distill", 1.5e-4, 0.1), ("finetune", 1e-4, 20 / 40.9)):
        recipe: StageRecipe = getattr(paper, stage)
        assert recipe.learning_rate == pytest.approx(per_256 * recipe.batch_size / 256)
        assert recipe.warmup / recipe.steps == pytest.approx(warmup, abs=1e-3)
        assert (recipe.final_rate, recipe.betas, recipe.weight_decay, recipe.clip) == (0, (0.9, 0.95), 0.05, 3)
    # The marks of the schedule are those of epochs 21 and 101 of 200, with nine batches per step from epoch 21 on.
    epochs = [paper.epoch("finetune", round(share * 54_000), 126_689) for share, _ in paper.gan_schedule]
    assert epochs == pytest.approx([21, 101], abs=1)
    assert paper.epoch("finetune", 54_000, 126_689) == pytest.approx(200, abs=1.5)


def test_the_paper_scales_its_warmup_and_its_rate() -> None:
    stages: dict[Any, dict[str, Any]] = {"finetune": {"steps": 540, "batch_size": 32}, "distill": {"learning_rate": 1}}
    paper = recipe_for("nano", stages, "paper", gan=("finetune",), critic={"clip": 1.0, "betas": None})
    assert paper.finetune.warmup == 264
    assert paper.finetune.learning_rate == pytest.approx(1e-4 * 32 / 256)
    assert paper.distill.learning_rate == 1
    assert paper.gan == ("finetune",)
    assert paper.critic == CriticRecipe(betas=(0.9, 0.95), weight_decay=0.01, cosine=True, clip=1.0)
    assert recipe_for("nano", {"base": {"steps": 10}}).base.warmup == 100
    assert recipe_for("nano", {"base": {"steps": 10, "warmup_share": 0.2}}).base.warmup == 2


def test_the_recipe_of_the_paper_asks_for_lpips(tmp_path: Path) -> None:
    def job(**changes: object) -> TrainJob:
        return training_job([], tmp_path / "m.safetensors", ModelOptions(), ["distill", "finetune"], {}, changes)

    with pytest.raises(InputError, match=r"perceptual term in finetune.*--lpips"):
        job(name="paper")
    assert not job(name="paper", perceptual_weight=0.0).recipe.lpips
    assert job(name="paper", lpips=("vgg.pth",)).recipe.crop_box == "torchvision"
    assert job().recipe.crop_box == "fitted"


OPTIONS = [
    ("--critic-betas 0.1,0.2", {"critic": {"betas": (0.1, 0.2)}}),
    ("--critic-decay 0.3", {"critic": {"weight_decay": 0.3}}),
    ("--critic-rate cosine", {"critic": {"cosine": True}}),
    ("--critic-clip 2", {"critic": {"clip": 2.0}}),
    ("--lpips-range 0,1", {"lpips_range": "0,1"}),
    ("--crop-box torchvision", {"crop_box": "torchvision"}),
    ("--crop-filter bilinear", {"crop_filter": "bilinear"}),
    ("--ema epoch", {"ema": "epoch"}),
    ("--no-kmeans", {"kmeans": False}),
    ("--final-rate 0", {"base": {"final_rate": 0.0}, "distill": {"final_rate": 0.0}}),
    ("--warmup 0.5 --base-steps 8", {"base": {"warmup": 4, "steps": 8}}),
    ("--recipe paper --perceptual-weight 0", {"gan": ("base", "finetune"), "kmeans": False}),
    ("--recipe paper --perceptual-weight 0 --kmeans --gan none", {"gan": (), "kmeans": True}),
]


@pytest.mark.parametrize(("line", "expected"), OPTIONS, ids=[line for line, _ in OPTIONS])
def test_each_part_is_an_option(
    line: str, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainJob] = []

    def fake(job: TrainJob, *_: object) -> Iterator[Progress]:
        jobs.append(job)
        return iter(())

    monkeypatch.setattr("alit_cli.training.train.train", fake)
    words = ["train", str(tmp_path), "--out", str(tmp_path / "m.safetensors"), *line.split()]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = dataclasses.asdict(jobs[0].recipe)
    for name, value in expected.items():
        inner = value if isinstance(value, dict) else {name: value}
        held = found[name] if isinstance(value, dict) else found
        assert {key: held[key] for key in inner} == inner


def test_the_critics_optimizer_clips_and_follows_the_cosine() -> None:
    stage = StageRecipe(steps=10, learning_rate=0.5, warmup=5, final_rate=0.0)

    def moved(recipe: CriticRecipe, step: int) -> tuple[float, float, float]:
        weight = torch.nn.Parameter(torch.tensor([2.0]))
        weight.grad = torch.tensor([40.0])
        optimizer = CriticOptimizer([weight], recipe, stage)
        optimizer.update(step, [weight])
        (group,) = optimizer.param_groups
        return group["lr"], weight.grad.item(), weight.item()

    assert moved(CriticRecipe(), 0) == pytest.approx((0.5, 40.0, 1.5))  # Adam's first update is the rate itself
    rate, gradient, weight = moved(CriticRecipe((0.9, 0.95), 0.01, cosine=True, clip=3.0), 0)
    assert (rate, gradient) == pytest.approx((0.1, 3), abs=1e-4)
    assert weight == pytest.approx(2 * (1 - 0.1 * 0.01) - 0.1)
    assert moved(CriticRecipe(cosine=True), 9)[0] == pytest.approx(0.5 * stage.rate(9))
    assert stage.rate(10) == pytest.approx(0)
    assert dataclasses.replace(stage, final_rate=0.02).rate(10) == pytest.approx(0.02)


def test_lpips_sees_pixels_as_they_are_or_stretched() -> None:
    torch.manual_seed(0)
    stretched = Lpips()
    torch.nn.init.uniform_(stretched.heads[0])
    plain = Lpips(stretched=False)
    plain.load_state_dict(stretched.state_dict())
    images, others = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    expected = stretched((images + 1) / 2, (others + 1) / 2)
    torch.testing.assert_close(plain(images, others), expected)
    assert not torch.allclose(plain(images, others), stretched(images, others))


def test_a_codebook_without_k_means_stays_as_it_was_drawn(tmp_path: Path) -> None:
    recipe = dataclasses.replace(ALL, kmeans=False)
    reports = list(train(dataclasses.replace(_job(tmp_path, recipe), stages=("base", "distill")), OFTEN))
    assert not [report for report in reports if isinstance(report, Progress) and report.unit == "rounds"]


def test_the_average_begins_again_at_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve photographs in batches of four: with the average standing still, four steps leave what the third left."""
    live: list[dict[str, torch.Tensor]] = []

    def note(run: StageRun) -> None:
        live.append({name: p.detach().clone() for name, p in run.trained})

    recipe: Recipe = dataclasses.replace(ALL, base=dataclasses.replace(STAGE, steps=4), ema="epoch", validation=2)
    job = dataclasses.replace(_job(tmp_path, recipe, "vqgan"), stages=("base",))
    runs: list[StageRun] = []
    begin = StageRun._begin

    def noted(run: StageRun, memory: MemoryPlan) -> None:
        runs.append(run)
        begin(run, memory)

    monkeypatch.setattr(StageRun, "_begin", noted)
    monkeypatch.setattr(StageRun, "_update_ema", note)
    assert [record.step for record in train(job, OFTEN) if isinstance(record, TrainRecord)][-1] == 4
    averaged = dict(runs[0].ema.named_parameters())
    assert all(torch.equal(averaged[name], weight) for name, weight in live[2].items())
    assert not all(torch.equal(live[2][name], weight) for name, weight in live[3].items())
