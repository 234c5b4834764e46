"""What keeps a GPU busy: an epoch is shuffled once, batches come ahead, and losses are read at records only."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from alit_cli.errors import AlitError, InputError
from alit_cli.training import crops as crops_module
from alit_cli.training.crops import CachedCrops, decode_threads
from alit_cli.training.distributed import Distributed
from alit_cli.training.feed import Feed
from alit_cli.training.loop import Intervals
from alit_cli.training.plan import batch_rows, plan_step
from alit_cli.training.recipe import recipe_for
from alit_cli.training.records.meter import LossMeter
from alit_cli.training.stages.base import BaseStage
from alit_cli.training.stages.codebook import CodebookKeeper
from alit_cli.training.stages.stage import Losses
from alit_cli.training.train import train
from tests.training.test_train import ALL, SAMPLED, _job

CPU = torch.device("cpu")


def _dataset(photos: int, per_photo: int) -> CachedCrops:
    pixels = np.zeros((photos * per_photo, 1, 1, 3), np.uint8)
    return CachedCrops(pixels, per_photo, pixels[:0])


def test_an_epoch_is_shuffled_once_and_as_it_always_was(monkeypatch: pytest.MonkeyPatch) -> None:
    photos, per_photo, size, seed = 103, 3, 10, 5
    drawn: list[int] = []
    shuffled = crops_module._shuffled

    def noted(count: int, epoch: int, seed: int) -> np.ndarray:
        drawn.append(epoch)
        return shuffled(count, epoch, seed)

    monkeypatch.setattr(crops_module, "_shuffled", noted)
    data = _dataset(photos, per_photo)
    for step in range(40):
        epoch, place = divmod(step, photos // size)
        # What the first release computed at every step.
        order = np.random.default_rng([seed, epoch]).permutation(photos) * per_photo + epoch % per_photo
        for ask in (step, step + 1):  # each step also asks for the next
            batch_rows(ask, size, seed, data)
        rows = batch_rows(step, size, seed, data)
        assert np.array_equal(rows, np.sort(order[place * size : (place + 1) * size]))
        assert rows.dtype == np.int64
        assert np.array_equal(data.order(epoch, seed), order)
    assert drawn == [0, 1, 2, 3, 4]


def test_announced_batches_are_made_in_a_thread_before_they_are_taken() -> None:
    made, threads, gate = [], set(), threading.Event()

    def read(rows: np.ndarray) -> np.ndarray:
        gate.wait(10)
        made.append(rows.tolist())
        threads.add(threading.current_thread())
        return rows.astype(np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)

    feed = Feed(read)
    batches = [np.array([1, 2]), np.array([3]), np.array([4, 5])]
    feed.announce(batches, CPU)
    feed.announce(batches[:2], CPU)  # the third is wanted no more
    gate.set()
    assert feed.take(batches[1], CPU)[:, 0, 0, 0].tolist() == [3]
    assert made == [[1, 2], [3]]
    assert threading.current_thread() not in threads
    assert feed.take(batches[0], CPU).dtype == torch.uint8
    assert feed.take(batches[2], CPU)[:, 1, 1, 2].tolist() == [4, 5]  # made when it is asked for
    assert threading.current_thread() in threads
    assert not feed.coming
    feed.close()


def test_an_error_of_reading_ahead_is_raised_where_the_batch_is_taken() -> None:
    def read(rows: np.ndarray) -> np.ndarray:
        raise InputError("None of the photographs can be read any more.")

    feed = Feed(read)
    feed.announce([np.array([1])], CPU)
    with pytest.raises(InputError, match="any more"):
        feed.take(np.array([1]), CPU)
    feed.close()


def test_all_batches_of_a_training_are_made_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the steps and those of the critics; only what begins a stage (k-means, aligning) reads for itself."""
    recipe = dataclasses.replace(ALL, gan=("finetune",), gan_schedule=((0.5, 0.2),), critic_steps=2, validation=0)
    late: list[str] = []
    send, main = Feed._send, threading.current_thread()

    def noted(feed: Feed, rows: np.ndarray, device: torch.device) -> object:
        late.extend(["late"] * (threading.current_thread() is main))
        return send(feed, rows, device)

    monkeypatch.setattr(Feed, "_send", noted)
    first = _job(tmp_path, recipe, "vqgan", codes=0)
    for report in train(first, Intervals(log_steps=1, validate_steps=100)):
        if getattr(report, "stage", "") == "finetune" and not getattr(report, "losses", None):
            late.clear()  # the stage begins
    assert not late


def test_a_critic_draws_no_photographs_before_it_joins() -> None:
    recipe = dataclasses.replace(recipe_for("small", {"finetune": {"steps": 10, "batch_size": 4}}), critic_steps=2)
    data = _dataset(20, 1)
    drawn = [len(plan_step(step, "finetune", recipe, 8, data).critic_rows) for step in range(3)]
    assert drawn == [0, 2, 2]  # from a tenth of the steps on


def test_losses_are_read_at_records_only() -> None:
    meter = LossMeter("base")
    meter.add(1, ("l1", "total"), torch.tensor([1.0, 2.0]))
    meter.add(2, ("l1", "gan", "total"), torch.tensor([3.0, 8.0, 4.0]))
    assert len(meter.unread) == 2
    assert meter.means() == {"l1": 2.0, "gan": 4.0, "total": 3.0}
    meter.add(3, ("l1", "total"), torch.tensor([1.0, 2.0]))
    assert meter.finite()
    meter.add(4, ("l1", "total"), torch.tensor([1.0, float("inf")]))
    meter.add(5, ("l1", "total"), torch.tensor([1.0, float("nan")]))
    assert not meter.finite()
    with pytest.raises(AlitError, match="at step 4 of stage base"):
        meter.means()


@pytest.mark.parametrize("save_seconds", [0.0, 1000.0], ids=["saved at every step", "saved at the end"])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_seconds: float
) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    step = BaseStage.step

    def breaks(stage: BaseStage, batch: object, plan: object) -> Losses:
        losses = step(stage, batch, plan)  # type: ignore[arg-type]
        bad = getattr(plan, "step") >= 3  # noqa: B009
        return Losses(losses.total * (float("nan") if bad else 1), losses.parts)

    monkeypatch.setattr(BaseStage, "step", breaks)
    with pytest.raises(AlitError, match="The loss is not finite at step 4 of stage base"):
        list(train(job, Intervals(log_steps=6, validate_steps=100, save_seconds=save_seconds)))
    state = job.work / "base.state"
    assert state.exists() == (save_seconds == 0)
    if state.exists():
        saved = torch.load(state, weights_only=True)
        assert saved["step"] == 3
        assert all(weight.isfinite().all() for weight in saved["model"].values())


def test_a_codebook_counts_where_the_ids_are() -> None:
    keeper = CodebookKeeper(5, unit=False, distributed=Distributed())
    keeper.count(torch.tensor([[0, 1], [1, 1]]))
    keeper.count(torch.tensor([4]))
    assert keeper.counts.tolist() == [1, 3, 0, 0, 1]
    assert keeper.usage().item() == pytest.approx(0.6)


def test_waiting_for_other_processes_goes_over_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A barrier of NCCL would keep a GPU busy, and its watchdog would be wary of hours of decoding."""
    met: list[torch.device] = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: met.append(tensor.device))
    Distributed(world_size=2, device=torch.device("meta")).barrier()
    assert met == [CPU]


def test_decoding_takes_the_cores_of_this_processs_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert decode_threads() == 64
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert decode_threads() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    assert decode_threads() == 4
