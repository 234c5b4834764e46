"""`alit train --dry-run`: what a run will train on, and how long it will take, by a few steps of each of its stages."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alit_cli.config import StageName
from alit_cli.data.sources.listing import list_items
from alit_cli.model.memory import reuse_memory
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import CropDataset
from alit_cli.training.feed import Pixels
from alit_cli.training.job import TrainJob
from alit_cli.training.loop import StageRun
from alit_cli.training.start import load_start
from alit_cli.training.train import STAGE_CLASSES

PLACES = (0.1, 0.35, 0.6, 0.85)
"""Where in a stage steps are timed, as shares of it: early steps of distillation cost less than late ones, and a critic
joins on the way."""
LONG = 5.0
"""Seconds. On a CPU, where the time is nearly proportional to the photographs, smaller batches are timed if a step
would take longer than this."""


@dataclass(frozen=True)
class Expected:
    """What a run will read and take.

    Attributes:
        photographs: to train on, by their number; which of them cannot be read is not known yet.
        held_out: photographs for validation.
        crop_bytes: of the crops that will be kept on the disk.
        steps: of each stage that is not done yet.
        seconds: what its steps take, without validation.
        memory: a sentence for each stage.
    """

    photographs: int
    held_out: int
    crop_bytes: int
    steps: dict[StageName, int]
    seconds: dict[StageName, float]
    memory: dict[StageName, str]

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


class NoisePictures(CropDataset):
    """As many photographs as a run will have, all of them noise; nothing is read."""

    def __init__(self, photos: int, per_photo: int, side: int) -> None:
        super().__init__()
        self.photos, self.per_photo = photos, max(1, per_photo)
        self.validation = np.zeros((0, side, side, 3), np.uint8)
        self.side = side

    def read(self, rows: np.ndarray) -> Pixels:
        """The same noise for the same number of rows."""
        return np.random.default_rng(0).integers(0, 256, (len(rows), self.side, self.side, 3), dtype=np.uint8)


def dry_run(job: TrainJob) -> Iterator[Progress | Expected]:
    """Find out what a run would take; nothing is written beside its output.

    Every process of the run has to take part, as in the training itself.

    Yields: progress, and at last an Expected.

    Raises:
        InputError: no photographs.
    """
    items = list_items(list(job.photos))
    reuse_memory(job.distributed.device)
    recipe, side = job.recipe, job.config.image_size
    held_out = recipe.held_out(len(items))
    photos = len(items) - held_out
    left = [name for name in job.stages if not (job.work / f"{name}.safetensors").exists()]
    seconds: dict[StageName, float] = {}
    memory: dict[StageName, str] = {}
    model = load_start(job.start)[0].to(job.distributed.device)
    crops = NoisePictures(photos, recipe.crops, side)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(crops):
        for number, name in enumerate(left):
            yield Progress(number, len(left), "stages timed")
            seconds[name], memory[name] = _time_stage(job, name, model, crops, Path(folder))
    yield Progress(len(left), len(left), "stages timed")
    crop_bytes = photos * recipe.crops * side * side * 3
    yield Expected(photos, held_out, crop_bytes, {name: recipe.stage(name).steps for name in left}, seconds, memory)


def _time_stage(job: TrainJob, name: StageName, model: Alit, crops: CropDataset, folder: Path) -> tuple[float, str]:
    """Seconds of all steps of a stage, and a sentence about its memory; `folder` is for files that nobody needs."""
    stage, distributed = job.recipe.stage(name), job.distributed
    whole = min(stage.batch_size, crops.photos)
    places = [int(share * stage.steps) for share in PLACES]

    def trial(rows: int) -> StageRun:
        changed = dataclasses.replace(stage, batch_size=rows, accumulate=stage.accumulate if rows == whole else 1)
        change: dict[str, Any] = {name: changed}
        recipe = dataclasses.replace(job.recipe, **change)
        # A copy of the model, as steps move its weights.
        tried = STAGE_CLASSES[name](copy.deepcopy(model).train(), recipe, crops, distributed)
        return StageRun(tried, recipe, crops, folder, ())

    # Estimated once, for the whole batch: smaller trials then checkpoint as the run will.
    memory = trial(whole).memory_plan()
    rows = whole
    if distributed.device.type == "cpu":
        # How many photographs take a few seconds; the main process decides, as all have to take the same steps.
        one = trial(min(whole, distributed.world_size)).time_steps([places[-1]] * 2, memory)
        fitting = torch.tensor([min(whole, distributed.world_size * max(1, int(LONG / one[-1])))])
        distributed.broadcast(fitting)
        rows = int(fitting.item())
    # The first step is a warm-up: it makes buffers, and caches what later ones read.
    found = trial(rows).time_steps([places[0], *places], memory)
    return stage.steps * float(np.mean(found[1:])) * whole / rows, memory.sentence
