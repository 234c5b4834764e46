"""The one training loop: deterministic order, cosine, clipping, averaged weights, resumable to the bit on a CPU."""

from __future__ import annotations

import copy
import errno
import math
import resource
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alit_cli.data.files import named_write_errors, open_output
from alit_cli.errors import AlitError, InputError
from alit_cli.model.device import autocast, choose_precision, speed_up
from alit_cli.model.losses import l1_per_image
from alit_cli.progress import Progress
from alit_cli.training.crops import Views, to_images
from alit_cli.training.distributed import Processes
from alit_cli.training.log import PICTURED, TrainLog, TrainRecord
from alit_cli.training.optimizers import Optimizers
from alit_cli.training.recipe import StageRecipe
from alit_cli.training.signals import DeferredSignals
from alit_cli.training.stages.stage import Objective

FINAL_RATE = 0.02
"""The cosine ends at this share of the learning rate."""
VALIDATED = 32
"""Photographs that are validated at a time."""


@dataclass(frozen=True)
class Pace:
    """How often a run looks up: seconds between saves, steps between log lines and between validations.

    A validation comes with a picture of reconstructions. Where steps are slow, `tell_seconds` pass at most before a
    record says how far the run is; such a record has no losses and is not logged.
    """

    save_seconds: float = 300.0
    tell_seconds: float = 10.0
    log_steps: int = 20
    validate_steps: int = 200


class StageRun:
    """One stage of training, from its first step or from where it was interrupted."""

    def __init__(
        self, objective: Objective, recipe: StageRecipe, views: Views, folder: Path, processes: Processes
    ) -> None:
        pieces = processes.count * recipe.accumulate
        if recipe.batch_size < pieces:
            raise InputError(
                f"A batch of {recipe.batch_size} photographs cannot be divided into {pieces} equal pieces "
                f"({processes.count} processes, --accumulate {recipe.accumulate}): raise --batch-size."
            )
        self.objective, self.recipe, self.views, self.folder = objective, recipe, views, folder
        self.processes, self.device = processes, processes.device
        self.precision = choose_precision(recipe.precision, self.device)
        with named_write_errors(folder):
            self.journal = TrainLog(folder) if processes.is_main else None
        self.interruption = DeferredSignals()
        self.step = 0
        self.seconds = 0.0
        self.average = copy.deepcopy(objective.model).eval()
        objective.model.requires_grad_(False)
        for module in objective.trained():
            module.requires_grad_(True)
        speed_up(objective.model, self.device)
        self.trained = [(n, p) for n, p in objective.model.named_parameters() if p.requires_grad]
        self.optimizer = Optimizers(self.trained, recipe)
        self._resume()

    def run(self, pace: Pace) -> Iterator[TrainRecord | Progress]:
        """Yield a record every log_steps and at the end, and Progress while a codebook is filled.

        On interruption the state is saved first.
        """
        name, steps = self.objective.name, self.recipe.steps
        if self.step >= steps:
            return
        yield TrainRecord(name, self.step, steps, seconds=self.seconds)
        with DeferredSignals() as self.interruption:
            try:
                with named_write_errors(self.folder):
                    yield from self._steps(pace)
            finally:
                self.save()

    def save(self) -> None:
        """Write everything a resumed run needs, atomically; the main process alone does. Raises as open_output."""
        if not self.processes.is_main:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.objective.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state(),
        }
        with open_output(self.state_path, "working file", tidy=True) as file:
            try:
                torch.save(state, file)
            except RuntimeError as problem:  # torch's own words for bytes that did not arrive
                raise OSError(errno.ENOSPC, str(problem)) from problem

    @property
    def state_path(self) -> Path:
        """Where the state of this stage lies."""
        return self.folder / f"{self.objective.name}.state"

    def _stop_if_asked(self) -> None:
        """Between two steps, where every process is at the same one."""
        asked = torch.tensor([float(self.interruption.received is not None)], device=self.device)
        if self.processes.add(asked).item():
            self.interruption.act()

    def _steps(self, pace: Pace) -> Iterator[TrainRecord | Progress]:
        sums: dict[str, float] = {}
        taken = 0
        mark = saved = told = time.monotonic()
        while self.step < self.recipe.steps:
            self._stop_if_asked()
            for name, value in (yield from self._step()).items():
                sums[name] = sums.get(name, 0.0) + value
            taken += 1
            validate = self.step % pace.validate_steps == 0 or self.step == self.recipe.steps
            if self.step % pace.log_steps == 0 or validate:
                seconds, mark = time.monotonic() - mark, time.monotonic()
                self.seconds += seconds
                record = TrainRecord(
                    self.objective.name,
                    self.step,
                    self.recipe.steps,
                    {name: value / taken for name, value in sums.items()},
                    self._validate() if validate else None,
                    taken * self.recipe.batch_size / seconds,
                    self.seconds,
                    self._memory(),
                )
                sums, taken = {}, 0
                self._write(record)
                yield record
                told = time.monotonic()
            elif time.monotonic() - told > pace.tell_seconds:
                yield TrainRecord(self.objective.name, self.step, self.recipe.steps, seconds=self.seconds)
                told = time.monotonic()
            if time.monotonic() - saved > pace.save_seconds:
                self.save()
                saved = time.monotonic()

    def _step(self) -> Generator[Progress, None, dict[str, float]]:
        """One optimizer step; its losses are means over the whole batch, whoever worked on it."""
        self._seed()
        rows = self._rows(self.step)
        self.views.expect(np.concatenate([self.processes.share(self._rows(s)) for s in (self.step, self.step + 1)]))
        filled = False
        for report in self.objective.fill(self.step, self.average):
            self._stop_if_asked()  # it may take minutes
            yield report
            filled = True
        if self.objective.before_step(self.step, rows, self.average) or filled:
            self.processes.same(self.objective.model)
            self.processes.same(self.average)
        self.optimizer.clear()
        parameters = [p for _, p in self.trained]
        local = self._backward(rows)
        sums = self.processes.add_gradients(parameters, torch.stack(list(local.values())))
        losses = dict(zip(local, sums.tolist(), strict=True))
        if not math.isfinite(losses["total"]):
            raise AlitError(
                f"The loss is not finite at step {self.step + 1} of stage {self.objective.name}: "
                "start again with a lower --lr and --overwrite."
            )
        nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        self.optimizer.step(cosine(self.step, self.recipe.warmup, self.recipe.steps))
        self.step += 1
        self._average()
        return losses

    def _backward(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Gradients of this process's rows, piece by piece; each piece weighs as much of the batch as it is."""
        if self.processes.rank:
            self._seed(self.processes.rank)
        sums: dict[str, Tensor] = {}
        for piece in np.array_split(self.processes.share(rows), self.recipe.accumulate):
            batch = self.views.batch(piece, self.device)
            with autocast(self.device, self.precision):
                losses = self.objective.losses(self.step, batch)
            weight = len(piece) / len(rows)
            (weight * losses["total"]).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + weight * value.detach().float().to(self.device)
        return sums

    def _seed(self, *more: int) -> None:
        # Every draw of a step depends on stage, seed, step and process alone, so that a resumed run repeats it.
        seed = np.random.default_rng([self.objective.recipe.seed, self.step, *more]).integers(2**31)
        torch.manual_seed(int(seed))

    def _rows(self, step: int) -> np.ndarray:
        size = min(self.recipe.batch_size, self.views.photos)
        epoch, place = divmod(step, self.views.photos // size)
        order = self.views.order(epoch, self.objective.recipe.seed)
        return np.sort(order[place * size : (place + 1) * size])

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(0.9999, (1 + self.step) / (10 + self.step))
        ours = dict(self.average.named_parameters())
        torch._foreach_lerp_([ours[n] for n, _ in self.trained], [p for _, p in self.trained], 1 - decay)

    @torch.no_grad()
    def _validate(self) -> dict[int, float]:
        """Mean L1 by budget on the held-out photographs."""
        if len(self.views.validation) == 0 or not self.processes.is_main:
            return {}
        images = to_images(self.views.validation).to(self.device)
        sums: dict[int, float] = {}
        for chunk in images.split(VALIDATED):
            for budget, reconstruction in self.objective.reconstructions(self.average, chunk):
                sums[budget] = sums.get(budget, 0.0) + l1_per_image(reconstruction, chunk).sum().item()
        return {budget: total / len(images) for budget, total in sums.items()}

    def _resume(self) -> None:
        if not self.state_path.exists():
            return
        state: dict[str, Any] = torch.load(self.state_path, map_location=self.device, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.objective.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.restore(state["objective"])

    def _write(self, record: TrainRecord) -> None:
        if self.journal is None:
            return
        self.journal.write(record)
        if record.validation:
            photographs = to_images(self.views.validation[:PICTURED]).to(self.device)
            with torch.no_grad():
                made = [pixels for _, pixels in self.objective.reconstructions(self.average, photographs)]
            self.journal.picture(record, [photographs, *made])

    def _memory(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on a Mac
        return size / (2**30 if sys.platform == "darwin" else 2**20)


def cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then half a cosine down to FINAL_RATE."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done))
