"""`alit train` when its process is killed or its disk is full: the same weights in the end, nothing else changes."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alit_cli.errors import AlitError
from alit_cli.model.checkpoint import read_record
from alit_cli.training.job import TrainJob
from alit_cli.training.loop import Intervals
from alit_cli.training.recipe import Recipe, StageRecipe
from alit_cli.training.start import Start
from alit_cli.training.train import train
from tests.conftest import KILLS, mounted
from tests.model import tiny
from tests.training.photos import write_photos

STAGE = StageRecipe(steps=6, batch_size=4, learning_rate=1e-3, warmup=2, muon=0.01)
RECIPE = Recipe(STAGE, STAGE, STAGE, crops=2, validation=2, halting=True)
OFTEN = Intervals(save_seconds=0, log_steps=1, validate_steps=2)
"""The state is saved after every step, so that many kills hit its writing."""


def run_to_the_end(job: TrainJob) -> None:
    torch.set_num_threads(1)  # the sums of another number of threads may differ in the last bit
    for _ in train(job, OFTEN):
        pass


def write_job(folder: Path) -> TrainJob:
    """A tiny random model on a few photographs, with a file of the user's where the output goes."""
    write_photos(folder / "photos", 12)
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return TrainJob(
        [str(folder / "photos")], folder / "out" / "m.safetensors", Start(tiny.config("vqgan"), "nano"), RECIPE
    )


def of_the_user(folder: Path) -> dict[str, str]:
    """The sums of what the user has put there."""
    files = [*(folder / "photos").iterdir(), folder / "out" / "notes.txt"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_same_weights(found: Path, expected: Path) -> None:
    tensors, wanted = load_file(found), load_file(expected)
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    assert read_record(found).stages == ("base", "distill", "finetune")


@pytest.mark.slow
def test_killed_at_random_moments_a_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    before = of_the_user(tmp_path)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_killed_training"])
    seconds = 0.0
    for _ in range(2):  # the first run also starts the server of processes
        whole = dataclasses.replace(job, out=tmp_path / f"whole-{seconds > 0}" / "m.safetensors")
        begun = time.monotonic()
        process = context.Process(target=run_to_the_end, args=(whole,))
        process.start()
        process.join()
        assert process.exitcode == 0
        seconds = time.monotonic() - begun
    moments, kills, finished = random.Random(0), 0, 0
    while kills < KILLS:
        process = context.Process(target=run_to_the_end, args=(job,))
        process.start()
        process.join(moments.uniform(0, seconds / 2))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert of_the_user(tmp_path) == before
        if job.out.exists():
            read_record(job.out)  # whole, whenever it is there
        if process.exitcode == 0:
            check_same_weights(job.out, whole.out)
            finished += 1
            job.out.unlink()
            shutil.rmtree(job.work)
    process = context.Process(target=run_to_the_end, args=(job,))
    process.start()
    process.join()
    assert process.exitcode == 0
    check_same_weights(job.out, whole.out)
    assert of_the_user(tmp_path) == before
    assert not list(tmp_path.rglob("*.tmp"))
    print(f"{kills} kills in runs of {seconds:.1f} s, {finished + 1} runs finished")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk on which the outputs lie."""
    with mounted(tmp_path / "disk", "6m") as folder:
        yield folder


@pytest.mark.slow
def test_on_a_full_disk_a_training_stops_in_a_sentence_and_goes_on_later(disk: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path)
    run_to_the_end(job)
    on_disk = dataclasses.replace(job, out=disk / "m.safetensors")
    (disk / "mine").write_bytes(bytes(4 * 2**20))
    before = of_the_user(tmp_path)
    with pytest.raises(AlitError, match=r"The disk is full.*make space and run the same command again"):
        run_to_the_end(on_disk)
    assert not list(disk.rglob("*.tmp"))
    assert (disk / "mine").read_bytes() == bytes(4 * 2**20)
    subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
    run_to_the_end(on_disk)
    check_same_weights(on_disk.out, job.out)
    assert not list(disk.rglob("*.tmp"))
    assert of_the_user(tmp_path) == before
