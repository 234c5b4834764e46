"""`alit train`: photographs to a finished tokenizer, stage after stage, resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alit_cli.config import BaseKind, ModelConfig, preset
from alit_cli.data.files import check_output, claimed, make_folder, named_write_errors, open_output
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, read_alit, read_base_weights, read_record, write_checkpoint
from alit_cli.model.device import choose_precision
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import DECODE_THREADS, VIEWS_MARK, Views, make_views, open_views
from alit_cli.training.distributed import Processes
from alit_cli.training.log import TrainRecord
from alit_cli.training.loop import Pace, StageRun
from alit_cli.training.recipe import STAGES, Recipe, StageName, recipe_for
from alit_cli.training.stages.base import BaseObjective, align_with_pixels
from alit_cli.training.stages.distill import DistillObjective
from alit_cli.training.stages.finetune import FinetuneObjective
from alit_cli.training.stages.stage import Objective


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where it goes.

    Attributes:
        photos: folders, files, globs or tars.
        out: the checkpoint; `out.work/` beside it keeps views, states and the log until the end.
        config: the model.
        recipe: how.
        stages: which stages to run, in order.
        start: a checkpoint to go on from; of one that holds a base tokenizer alone, only that is taken.
        half: store float16 weights.
        workers: threads that decode photographs, where no decoded crops are kept.
        processes: who takes part, and where this one computes.
    """

    photos: Sequence[str]
    out: Path
    config: ModelConfig
    recipe: Recipe
    stages: Sequence[StageName] = STAGES
    start: Path | None = None
    half: bool = False
    workers: int = DECODE_THREADS
    processes: Processes = dataclasses.field(default_factory=lambda: Processes("cpu"))

    @property
    def work(self) -> Path:
        """The folder of unfinished work."""
        return self.out.with_name(self.out.name + ".work")


def training_job(
    photos: Sequence[str],
    out: Path,
    preset_name: str,
    stages: str,
    steps: Mapping[StageName, int | None],
    every_stage: Mapping[str, Any],
    base: BaseKind | None = None,
    continuous: bool = False,
    start: Path | None = None,
    device: str = "auto",
    half: bool = False,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> TrainJob:
    """A job from what a user says; `every_stage` and `changes` go to recipe_for.

    Raises:
        InputError: an unknown preset, stage or device, a value that does not fit, or nothing to resume.
    """
    check_output(out, "model")
    names: list[StageName] = [name for name in STAGES if name in stages.split(",")]
    unknown = set(stages.split(",")) - set(STAGES)
    if unknown:
        raise InputError(f"There is no stage {sorted(unknown)[0]!r}; the stages are {', '.join(STAGES)}.")
    config = _config(preset(preset_name, base, continuous), start)
    recipe = recipe_for(config.name, steps, every_stage, **changes)
    job = TrainJob(photos, out, config, recipe, names, start, half, workers or DECODE_THREADS, Processes(device))
    if resume and not job.work.exists():
        raise InputError(
            f"There is no unfinished run in {job.work}: give its --out, or leave --resume out to begin one."
        )
    if overwrite and job.processes.is_main and job.work.exists():
        with _ours(job):
            shutil.rmtree(job.work, ignore_errors=True)
    return job


def headline(job: TrainJob) -> str:
    """Model, stages, device, precision and processes, for the first lines of a run; what is off is said."""
    recipe, processes = job.recipe, job.processes
    crowd = f", {processes.count} processes" if processes.count > 1 else ""
    lines = [f"training {job.config.name} on {processes.device.type}{crowd}"]
    for name in job.stages:
        stage = recipe.stage(name)
        precision = choose_precision(stage.precision, processes.device)
        lines.append(f"{name}: {stage.steps} steps of {stage.batch_size} photographs, in {precision}")
    if {"base", "finetune"} & set(job.stages):
        on = [name for name in job.stages if name in recipe.gan]
        lines.append(
            f"perceptual term: {'LPIPS' if recipe.lpips else 'off (--lpips gives its weights)'}; "
            f"critic: {', '.join(on) if on else 'off'}"
        )
    return "\n".join(lines)


def train(job: TrainJob, pace: Pace) -> Iterator[Progress | TrainRecord]:
    """Run the stages that are not done yet; the checkpoint is written after each.

    Yields: Progress while photographs are decoded and where a stage begins or ends with long work, and a TrainRecord
    every so many steps.

    Raises:
        InputError: no photographs, another run's work folder, or one in which another process trains, stages that lack
            an earlier one.
    """
    model, record = _begin(job)
    items = list_items(list(job.photos))
    with _ours(job):
        yield from _train(job, pace, model, record, items)


def _train(
    job: TrainJob, pace: Pace, model: Alit, record: Record, items: Sequence[Item]
) -> Iterator[Progress | TrainRecord]:
    held_out = min(job.recipe.validation, len(items) // 5)
    if job.processes.is_main:
        _claim(job, record, len(items))
        yield from make_views(items, model.config.image_size, job.recipe.views, held_out, job.recipe.seed, job.work)
    job.processes.wait()
    views = open_views(job.work, items, model.config.image_size, held_out, job.recipe.seed, job.workers)
    for name in job.stages:
        finished = job.work / f"{name}.safetensors"
        if not finished.exists():
            objective = _objective(name, model.train(), job, views)
            run = StageRun(objective, job.recipe.stage(name), views, job.work, job.processes)
            job.processes.wait()  # every process has read the state that one will write
            last: TrainRecord | None = None
            for step in run.run(pace):
                last = step if isinstance(step, TrainRecord) else last
                yield step
            model = run.average
            if name == "base":
                model = yield from align_with_pixels(model, views, job.processes.device)
                job.processes.same(model)
            record = _extend(record, name, model, job, last)
            if job.processes.is_main:
                write_checkpoint(finished, model, record)
                run.state_path.unlink()
            job.processes.wait()
        else:
            model, record = read_alit(finished)
            model = model.to(job.processes.device)
        if job.processes.is_main:
            write_checkpoint(job.out, model, record, torch.float16 if job.half else torch.float32)


def _config(wanted: ModelConfig, start: Path | None) -> ModelConfig:
    """The model to train: as wanted, as started, or as wanted around the base tokenizer that is already there."""
    if start is None:
        return wanted
    record = read_record(start)
    if record.stages != ("base",):
        return record.alit_config
    return dataclasses.replace(wanted, base=record.base_config)


def _begin(job: TrainJob) -> tuple[Alit, Record]:
    """A fresh model, the one to go on from, or a fresh one around the base tokenizer to go on from."""
    torch.manual_seed(job.recipe.seed)
    if job.start is None:
        model, record = Alit(job.config), Record(job.config)
    elif (record := read_record(job.start)).stages == ("base",):
        model = Alit(job.config)
        model.base.load_state_dict(read_base_weights(job.start))
        record = Record(job.config, record.stages, record.training)
    else:
        model, record = read_alit(job.start)
    have = {*record.stages} | ({*STAGES} if "imported" in record.stages else set())
    for name in job.stages:
        missing = [earlier for earlier in STAGES[: STAGES.index(name)] if earlier not in have]
        if missing:
            raise InputError(f"Stage {name} needs {missing[0]} first: add it to --stages or give a trained --init.")
        have.add(name)
    return model.to(job.processes.device), record


@contextlib.contextmanager
def _ours(job: TrainJob) -> Iterator[None]:
    """Keep other runs out of the work folder, for this block. Raises InputError: another process trains in it."""
    if not job.processes.is_main:
        yield
        return
    make_folder(job.work)
    lock = job.work / "job.lock"
    with named_write_errors(lock):
        lock.touch()
    with claimed(lock) as mine:
        if not mine:
            raise InputError(f"Another process is training in {job.work}: wait for it, or give another --out.")
        yield


def _claim(job: TrainJob, record: Record, photographs: int) -> None:
    """Make the work folder ours, or find that it is another run's; one that decoded nothing yet is nobody's."""
    options = {
        "photos": list(job.photos),
        "photographs": photographs,
        "config": record.config.to_dict(),
        "recipe": job.recipe.to_dict(),
        "stages": list(job.stages),
        "init": None if job.start is None else str(job.start),
    }
    text = json.dumps(options, sort_keys=True)
    path = job.work / "job.json"
    if path.exists() and (job.work / VIEWS_MARK).exists():
        differing = list(_differences(json.loads(path.read_text()), json.loads(text)))
        if differing:
            raise InputError(
                f"{job.work} holds a run with other options ({'; '.join(differing)}): repeat its command to go on, "
                "give another --out, or --overwrite to delete that run and start again."
            )
        return
    with open_output(path, "working file") as file:
        file.write(text.encode())


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Each value that is another one now, as `finetune.steps 800, now 40`; what an old run never noted is not one."""
    for key, value in now.items():
        name = f"{inside}.{key}" if inside and inside not in ("recipe", "config") else key
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            yield from _differences(before[key], value, name)
        elif key in before and before[key] != value:
            yield f"{name} {_shown(before[key])}, now {_shown(value)}"


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else "none" if value is None else str(value)


def _objective(name: StageName, model: Alit, job: TrainJob, views: Views) -> Objective:
    if name == "base":
        return BaseObjective(model, job.recipe, views, job.processes)
    if name == "distill":
        return DistillObjective(model, job.recipe, views, job.processes)
    return FinetuneObjective(model, job.recipe, views, job.processes)


def _extend(record: Record, name: StageName, model: Alit, job: TrainJob, last: TrainRecord | None) -> Record:
    entry = {
        "stage": name,
        "photos": list(job.photos),
        "recipe": job.recipe.to_dict(),
        "device": str(job.processes.device),
        "processes": job.processes.count,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "finished": time.strftime("%Y-%m-%d"),
        "steps": last.step if last else 0,
        "seconds": round(last.seconds) if last else 0,
        "losses": dict(last.losses) if last else {},
        "validation_l1": {str(k): round(v, 5) for k, v in (last.validation or {}).items()} if last else {},
    }
    return Record(model.config, (*record.stages, name), (*record.training, entry))
