"""The one training loop: deterministic order, cosine, clipping, averaged weights, resumable to the bit on a CPU."""

from __future__ import annotations

import contextlib
import copy
import errno
import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alit_cli.data.files import named_write_errors, open_output
from alit_cli.errors import AlitError, InputError
from alit_cli.model.device import autocast, speed_up
from alit_cli.model.losses import l1_per_image
from alit_cli.model.oom import out_of_memory
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, CropDataset, to_images
from alit_cli.training.distributed import Distributed
from alit_cli.training.memory import MemoryPlan, plan_memory
from alit_cli.training.optimizers import Optimizers
from alit_cli.training.plan import StepPlan, plan_step
from alit_cli.training.recipe import Recipe
from alit_cli.training.records.boards import BoardName, open_boards
from alit_cli.training.records.log import PICTURED, Remark, TrainLog, TrainRecord
from alit_cli.training.records.meter import LossMeter
from alit_cli.training.signals import DeferredSignals
from alit_cli.training.speed import peak_memory, training_precision
from alit_cli.training.stages.stage import Stage

EMA_DECAY = 0.9999
"""The authors' decay: an average over the last 10,000 steps or so."""
EMA_WARMUP = 10
"""A short run must not average its random start: after s steps the decay is (1 + s) / (EMA_WARMUP + s) at most."""
VALIDATED = 32
"""Photographs that are validated at a time."""


@dataclass(frozen=True)
class Intervals:
    """How often a run saves and reports.

    Attributes:
        save_seconds: between two saved states.
        tell_seconds: where steps are slow, a record says at least this often how far the run is; such a record has no
            losses and is not logged.
        log_steps: between two records with losses.
        validate_steps: between two validations; each comes with a picture of reconstructions.
    """

    save_seconds: float = 300.0
    tell_seconds: float = 10.0
    log_steps: int = 20
    validate_steps: int = 200


class StageRun:
    """One stage of training, from its first step or from where it was interrupted. Nothing happens before run().

    Attributes:
        ema: the averaged weights, which are what a stage leaves behind.
        step: finished steps.
        seconds: time spent in this stage, over all its sessions.
        last_record: the last one that was logged in this session.
    """

    ema: Alit
    optimizer: Optimizers
    log: TrainLog | None

    def __init__(
        self,
        stage: Stage,
        recipe: Recipe,
        crops: CropDataset,
        folder: Path,
        log_to: Sequence[BoardName] | None = None,
    ) -> None:
        self.stage, self.recipe, self.stage_recipe = stage, recipe, recipe.stage(stage.name)
        self.crops, self.folder, self.log_to = crops, folder, log_to
        self.distributed: Distributed = stage.distributed
        self.device = stage.distributed.device
        self.precision = training_precision(self.stage_recipe.precision, self.device)
        self.signals = DeferredSignals()
        self.step, self.seconds = 0, 0.0
        self.last_record: TrainRecord | None = None
        self.losses = LossMeter(stage.name)
        pieces = self.distributed.world_size * self.stage_recipe.accumulate
        if self.stage_recipe.batch_size < pieces:
            raise InputError(
                f"A batch of {self.stage_recipe.batch_size} photographs cannot be divided into {pieces} equal pieces "
                f"({self.distributed.world_size} processes, --accumulate {self.stage_recipe.accumulate}). "
                "Raise --batch-size."
            )

    @property
    def state_path(self) -> Path:
        """Where the state of this stage is saved."""
        return self.folder / f"{self.stage.name}.state"

    def run(self, intervals: Intervals) -> Generator[TrainRecord | Progress | Remark, None, Alit]:
        """Train to the last step; returns what the stage leaves behind.

        Yields: where it resumes, a record every log_steps and at the end, and Progress while long work is done between
        steps. On interruption the state is saved first.

        Raises:
            AlitError: the loss is not finite, memory runs out, or the disk is full.
        """
        memory = self.memory_plan()
        self._begin(memory)
        name, steps = self.stage.name, self.stage_recipe.steps
        if self.step:
            yield Remark(f"{name} resumes after step {self.step} of {steps}")
        if self.step < steps:
            yield Remark(memory.sentence)
            yield TrainRecord(name, self.step, steps, seconds=self.seconds)
            with self.signals:
                try:
                    with named_write_errors(self.folder):
                        yield from self._steps(intervals)
                except Exception:
                    self.losses.check()  # what went wrong may be what a loss that is not finite has led to
                    raise
                finally:
                    self.save()
        if self.log is not None:
            self.log.close()
        return (yield from self.stage.finish(self.ema))

    def time_steps(self, steps: Sequence[int], memory: MemoryPlan) -> list[float]:
        """Take some steps for a trial, of which nothing is kept but moved weights.

        Args:
            steps: their numbers; they are drawn as in a run.
            memory: whether they checkpoint.

        Returns: the seconds of each.
        """
        seconds = []
        self._begin(memory)
        for self.step in steps:
            began = time.monotonic()
            for _ in self._step():
                pass
            self.losses.means()  # waits for the device
            seconds.append(time.monotonic() - began)
        return seconds

    def _begin(self, memory: MemoryPlan) -> None:
        """Open the log, choose what is trained, prepare the model for its device, and resume where there is a state."""
        with named_write_errors(self.folder):
            self.log = None
            if self.distributed.is_main:
                name = self.stage.model.config.name
                self.log = TrainLog(self.folder, open_boards(self.log_to, self.folder, name))
        model = self.stage.model
        self.stage.checkpoint(memory.checkpointing)
        self.ema = copy.deepcopy(model).eval()
        # Frozen parts get no gradients, no optimizer state and no averaging.
        model.requires_grad_(False)
        for module in self.stage.trained():
            module.requires_grad_(True)
        speed_up(model, self.device)
        self.trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.optimizer = Optimizers(self.trained, self.stage_recipe)
        if self.state_path.exists():
            self._resume()
        self.distributed.barrier()  # every process has read the state that the main one will write again

    def memory_plan(self) -> MemoryPlan:
        """How much memory a step takes, as the main process finds, for all: they would only come to the same result."""
        plan = MemoryPlan(False, "")
        if self.distributed.is_main:
            batch = min(self.stage_recipe.batch_size, self.crops.photos)
            pieces = self.distributed.world_size * self.stage_recipe.accumulate
            plan = plan_memory(self.stage, math.ceil(batch / pieces), self.precision)
        on = torch.tensor([float(plan.checkpointing)], device=self.device)
        self.distributed.broadcast(on)
        return MemoryPlan(bool(on.item()), plan.sentence)

    def _steps(self, intervals: Intervals) -> Iterator[TrainRecord | Progress]:
        """All steps that are left, with what is said and saved between them."""
        name, steps = self.stage.name, self.stage_recipe.steps
        taken = 0  # steps since the last logged record
        logged = saved = told = time.monotonic()
        while self.step < steps:
            self._stop_if_asked()
            yield from self._step()
            taken += 1
            validate = self.step % intervals.validate_steps == 0 or self.step == steps
            if self.step % intervals.log_steps == 0 or validate:
                losses = self.losses.means()  # before the clock is read, since a GPU finishes its steps first
                seconds, logged = time.monotonic() - logged, time.monotonic()
                self.seconds += seconds
                record = TrainRecord(
                    name,
                    self.step,
                    steps,
                    losses,
                    validation=None,
                    images_per_second=taken * self.stage_recipe.batch_size / seconds,
                    seconds=self.seconds,
                    memory=peak_memory(self.device),
                    loss=losses["total"],
                )
                taken = 0
                self.last_record = self._logged(record, validate)
                yield self.last_record
                told = time.monotonic()
            elif time.monotonic() - told > intervals.tell_seconds:
                loss = None if self.last_record is None else self.last_record.loss
                yield TrainRecord(name, self.step, steps, seconds=self.seconds, loss=loss)
                told = time.monotonic()
            if time.monotonic() - saved > intervals.save_seconds:
                self.save()
                saved = time.monotonic()

    def _step(self) -> Iterator[Progress]:
        """One optimizer step; its losses are means over the whole batch, whoever worked on it."""
        plan = self._plan(self.step)
        following = [self._plan(self.step + 1)] if self.step + 1 < self.stage_recipe.steps else []
        self.crops.prefetch([rows for each in (plan, *following) for rows in self._batches(each)], self.device)
        if self.recipe.ema == "epoch" and self.step and self._begins_epoch():
            self._move_ema(1.0)
        pieces = [self.crops.batch(rows, self.device) for rows in self._pieces(plan)]
        # What torch draws depends on the step alone, so a resumed run repeats it.
        torch.manual_seed(plan.torch_seed)
        with self._memory_errors(len(pieces[0].rows)):
            for report in self.stage.prepare(plan, self.ema, pieces):
                self._stop_if_asked()  # it may take minutes
                yield report
            self.optimizer.zero_grad()
            local = self._backward(plan, pieces)
        parameters = [p for _, p in self.trained]
        sums = self.distributed.sum_gradients(parameters, torch.stack(list(local.values())))
        self.losses.add(self.step + 1, tuple(local), sums)
        nn.utils.clip_grad_norm_(parameters, self.stage_recipe.clip)
        self.optimizer.step(self.stage_recipe.rate(self.step))
        self.step += 1
        self._update_ema()

    def _plan(self, step: int) -> StepPlan:
        return plan_step(step, self.stage.name, self.recipe, self.stage.model.config.iterations, self.crops)

    def _pieces(self, plan: StepPlan) -> list[np.ndarray]:
        """This process's rows of a step, in the pieces in which they are computed."""
        return np.array_split(self.distributed.shard(plan.rows), self.stage_recipe.accumulate)

    def _batches(self, plan: StepPlan) -> list[np.ndarray]:
        """The rows of all batches that a step takes."""
        return [*self._pieces(plan), *(self.distributed.shard(rows) for rows in plan.critic_rows)]

    def _backward(self, plan: StepPlan, pieces: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients of this process's rows, piece by piece; each piece weighs as much as its part of the batch."""
        sums: dict[str, Tensor] = {}
        for batch in pieces:
            weight = len(batch.rows) / len(plan.rows)
            with autocast(self.device, self.precision):
                losses = self.stage.step(batch, plan)
            (weight * losses.total).backward()
            for name, value in {**losses.parts, "total": losses.total}.items():
                sums[name] = sums.get(name, 0.0) + weight * value.detach().float().to(self.device)
        return sums

    @contextlib.contextmanager
    def _memory_errors(self, rows: int) -> Iterator[None]:
        """Say what to do when memory runs out in this block, which works on so many photographs at a time."""
        try:
            yield
        except Exception as problem:
            if not out_of_memory(problem):
                raise
            cure = f"--accumulate {2 * self.stage_recipe.accumulate}"
            if not self.stage.checkpointing:
                cure = f"--checkpointing on, or with {cure}"
            raise AlitError(
                f"There is not enough memory for {rows} photographs at a time in stage {self.stage.name}. Repeat the "
                f"command with {cure}: the run then resumes with the same batch, in less memory."
            ) from problem

    def _begins_epoch(self) -> bool:
        """Whether the next step is the first of an epoch."""
        before, now = (
            self.recipe.epoch(self.stage.name, step, self.crops.photos) for step in (self.step - 1, self.step)
        )
        return now > before

    @torch.no_grad()
    def _update_ema(self) -> None:
        # Only trained parameters move; the frozen ones are equal in both models.
        decay = EMA_DECAY
        if self.recipe.ema == "warmup":
            decay = min(EMA_DECAY, (1 + self.step) / (EMA_WARMUP + self.step))
        self._move_ema(1 - decay)

    @torch.no_grad()
    def _move_ema(self, share: float) -> None:
        """Move the averaged weights towards the live ones by this share of the way."""
        averaged = dict(self.ema.named_parameters())
        torch._foreach_lerp_([averaged[name] for name, _ in self.trained], [p for _, p in self.trained], share)

    def _stop_if_asked(self) -> None:
        """Act on a signal, at a moment when every process is at the same place."""
        # One process may have got the signal alone; if it stopped by itself, the others would wait for it forever.
        # On the CPU, so that nobody waits for a GPU.
        asked = torch.tensor([float(self.signals.pending is not None)])
        if self.distributed.all_reduce(asked).item():
            self.signals.reraise()

    def _logged(self, record: TrainRecord, validate: bool) -> TrainRecord:
        """Write a record to the log, after validating where that is due; returns what was written."""
        if self.log is None:
            return record
        if not validate or len(self.crops.validation) == 0:
            self.log.write(record)
            return record
        validation, columns = self._validate()
        record = TrainRecord(**{**vars(record), "validation": validation})
        self.log.write(record)
        self.log.picture(record, columns)
        return record

    @torch.no_grad()
    def _validate(self) -> tuple[dict[int, float], list[Tensor]]:
        """Mean L1 by budget on the held-out photographs, in the precision of training.

        Returns: also the columns of a picture: the first photographs, and their reconstructions at every budget.
        """
        images = to_images(self.crops.validation, self.device)
        sums: dict[int, float] = {}
        columns = [images[:PICTURED]]
        for start, chunk in zip(range(0, len(images), VALIDATED), images.split(VALIDATED), strict=True):
            with autocast(self.device, self.precision):
                for budget, reconstruction in self.stage.reconstructions(self.ema, chunk):
                    sums[budget] = sums.get(budget, 0.0) + l1_per_image(reconstruction, chunk).sum().item()
                    if start == 0:  # the pictured ones are among the first, so nothing is computed twice
                        columns.append(reconstruction[:PICTURED].float())
        return {budget: total / len(images) for budget, total in sums.items()}, columns

    def save(self) -> None:
        """Write everything a resumed run needs, atomically; the main process alone does. Raises as open_output.

        Where a loss was not finite, the last state stays: the weights are worth nothing, and the run ends at its next
        record.
        """
        if not self.distributed.is_main or not self.losses.finite():
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.stage.model.state_dict(),
            "average": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.stage.state(),
        }
        with open_output(self.state_path, "working file", tidy=True) as file:
            try:
                torch.save(state, file)
            except RuntimeError as problem:  # torch's own words for bytes that did not arrive
                raise OSError(errno.ENOSPC, str(problem)) from problem

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self.state_path, map_location=self.device, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.stage.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stage.restore(state["objective"])
