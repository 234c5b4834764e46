"""`alit train`: photographs to a finished tokenizer, stage after stage, resumable."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence

import torch

from alit_cli.config import STAGES, StageName
from alit_cli.data.files import claimed, make_folder, named_write_errors, remove_orphans_below
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, read_alit, write_checkpoint
from alit_cli.model.memory import reuse_memory
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress, duration
from alit_cli.training.arithmetic import flop_per_photograph
from alit_cli.training.crops import CropDataset, CropSettings, make_crops, open_crops
from alit_cli.training.job import TrainJob, claim_folder
from alit_cli.training.loop import Intervals, StageRun
from alit_cli.training.records.card import CardFacts, card_path, thumbnail_errors, write_card
from alit_cli.training.records.log import Remark, TrainRecord
from alit_cli.training.speed import training_precision
from alit_cli.training.stages.base import BaseStage
from alit_cli.training.stages.distill import DistillStage
from alit_cli.training.stages.finetune import FinetuneStage
from alit_cli.training.stages.stage import Stage
from alit_cli.training.start import load_start
from alit_cli.training.work_folder import LOG

STAGE_CLASSES: dict[StageName, type[Stage]] = {"base": BaseStage, "distill": DistillStage, "finetune": FinetuneStage}

COUNTED_FROM = 60
"""Seconds of a stage from which its arithmetic is counted for the card, as counting takes some seconds itself."""
FEW_PHOTOGRAPHS = 1000
"""Below this a remark is due. It is a rule of thumb: nano's recipe uses each of a thousand 250 times."""


def headline(job: TrainJob) -> str:
    """Model, start, stages, device, precision and processes, for the first lines of a run; what is off is said."""
    recipe, config, distributed = job.recipe, job.config, job.distributed
    crowd = f", {distributed.world_size} processes" if distributed.world_size > 1 else ""
    lines = [
        f"training {config.name} on {distributed.device.type}{crowd}: {config.image_size} px, "
        f"{config.budgets[0]}…{config.budgets[-1]} tokens, {job.start.sentence}"
    ]
    for name in job.stages:
        stage = recipe.stage(name)
        precision = training_precision(stage.precision, distributed.device)
        lines.append(f"{name}: {stage.steps} steps of {stage.batch_size} photographs, in {precision}")
    if {"base", "finetune"} & set(job.stages):
        critic = [name for name in job.stages if name in recipe.gan]
        lines.append(
            f"perceptual term: {'LPIPS' if recipe.lpips else 'off (--lpips gives its weights)'}; "
            f"critic: {', '.join(critic) if critic else 'off'}"
        )
    return "\n".join(lines)


def train(job: TrainJob, intervals: Intervals) -> Iterator[Progress | TrainRecord | Remark]:
    """Run the stages that are not done yet; the checkpoint is written after each.

    Yields: Progress while photographs are decoded and where a stage begins or ends with long work, a TrainRecord every
    so many steps, and Remarks.

    Raises:
        InputError: no photographs, another run's work folder, or one in which another process trains, stages that lack
            an earlier one.
    """
    _check_stages(job)
    items = list_items(list(job.photos))
    reuse_memory(job.distributed.device)
    with _folder_of_ours(job):
        yield from _train(job, intervals, items)


def _train(job: TrainJob, intervals: Intervals, items: Sequence[Item]) -> Iterator[Progress | TrainRecord | Remark]:
    recipe, distributed = job.recipe, job.distributed
    torch.manual_seed(recipe.seed)  # the same fresh weights in every process
    model, record = load_start(job.start)
    model = model.to(distributed.device)

    # Photographs. The main process decodes them once for all.
    held_out = recipe.held_out(len(items))
    drawn = recipe.crop_area, recipe.crop_box, recipe.crop_filter
    settings = CropSettings(job.config.image_size, recipe.crops, held_out, recipe.seed, *drawn)
    if distributed.is_main:
        claim_folder(job, len(items))
        yield from make_crops(items, settings, job.work, job.decode_threads)
    distributed.barrier()
    crops = open_crops(job.work, items, settings, job.decode_threads)
    if not all((job.work / f"{name}.safetensors").exists() for name in job.stages):
        yield from _about_photographs(job, crops, len(items))

    with contextlib.closing(crops):
        yield from _stages(job, intervals, model, record, crops, len(items))


def _stages(
    job: TrainJob, intervals: Intervals, model: Alit, record: Record, crops: CropDataset, listed: int
) -> Iterator[Progress | TrainRecord | Remark]:
    """Train stage by stage, from a model and its record, and write the card."""
    recipe, distributed = job.recipe, job.distributed
    # A finished one lies in the work folder and is read instead of being run again.
    seconds: dict[str, float] = {}
    for name in job.stages:
        finished = job.work / f"{name}.safetensors"
        if finished.exists():
            # This stage was done before an interruption.
            model, record = read_alit(finished)
            model = model.to(distributed.device)
        else:
            stage = STAGE_CLASSES[name](model.train(), recipe, crops, distributed)
            run = StageRun(stage, recipe, crops, job.work, job.log_to)
            model = yield from run.run(intervals)
            seconds[name] = run.seconds
            record = _extended(record, model, job, run)
            if distributed.is_main:
                write_checkpoint(finished, model, record)
                # The finished model replaces the state, which is several times as large.
                run.state_path.unlink(missing_ok=True)
            distributed.barrier()
        if distributed.is_main:
            write_checkpoint(job.out, model, record, torch.float16 if job.half else torch.float32)
    if distributed.is_main and (seconds or not card_path(job.out).exists()):
        held_out = len(crops.validation)
        thumbnails = thumbnail_errors(crops.validation, job.config) if held_out else {}
        unread = listed - held_out - crops.photos
        flop = _arithmetic(job, record, crops)
        facts = CardFacts(job.command, thumbnails, flop, crops.photos, held_out, unread, job.work / LOG)
        write_card(job.out, model, record, facts)
        yield Remark(f"what it reaches and cost is in {card_path(job.out)}")
    if seconds:
        parts = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items())
        yield Remark(f"trained in {duration(sum(seconds.values()))}: {parts}")


def _arithmetic(job: TrainJob, record: Record, crops: CropDataset) -> dict[str, float]:
    """Floating-point operations per photograph of each stage that was no rehearsal, where they can be counted."""
    trained = {entry.get("stage"): entry.get("seconds", 0) for entry in record.training}
    counted: dict[str, float | None] = {
        name: flop_per_photograph(STAGE_CLASSES[name], name, job.config, job.recipe, crops.photos, crops.per_photo)
        for name in job.stages
        if trained[name] >= COUNTED_FROM
    }
    return {name: flop for name, flop in counted.items() if flop is not None}


def _about_photographs(job: TrainJob, crops: CropDataset, listed: int) -> Iterator[Remark]:
    """How many photographs there are, and what a thumbnail of as many bits reaches on those held out."""
    held_out = len(crops.validation)
    # Where crops are made on the fly, a broken photograph shows only when it is drawn.
    unread = listed - held_out - crops.photos
    missing = f", {unread} could not be read" if unread > 0 else ""
    yield Remark(f"{crops.photos} photographs to train on, {held_out} held out{missing}")
    if crops.photos < FEW_PHOTOGRAPHS:
        taken = sum(job.recipe.stage(name).steps * job.recipe.stage(name).batch_size for name in job.stages)
        often = round(taken / crops.photos)
        times = "1 time" if often == 1 else f"{often:,} times"
        yield Remark(
            f"These are few photographs: each is used about {times}, and the model will "
            f"know them better than any other image. Train on {FEW_PHOTOGRAPHS:,} or more, as different as "
            "the images that the model is for."
        )
    if held_out and job.distributed.is_main:
        errors = thumbnail_errors(crops.validation, job.config)
        figures = "  ".join(f"{budget}: {l1:.4f}" for budget, l1 in errors.items())
        yield Remark(f"for comparison, L1 of a thumbnail of as many bits, by tokens  {figures}")


def _check_stages(job: TrainJob) -> None:
    """Raises InputError: a stage is to run without an earlier one."""
    have = set(job.start.trained)
    for name in job.stages:
        missing = [earlier for earlier in STAGES[: STAGES.index(name)] if earlier not in have]
        if missing:
            raise InputError(
                f"Stage {name} needs {missing[0]} first. Add it to --stages, or give a trained model with --init."
            )
        have.add(name)


@contextlib.contextmanager
def _folder_of_ours(job: TrainJob) -> Iterator[None]:
    """Keep other runs out of the work folder, for this block. Raises InputError: another process trains in it."""
    if not job.distributed.is_main:
        yield
        return
    # Only with the lock: another process may be training in it right now.
    if job.overwrite and job.work.exists():
        with _folder_lock(job):
            shutil.rmtree(job.work, ignore_errors=True)
    with _folder_lock(job):
        # Pictures and small files of a killed run; no other process writes here while this one has the lock.
        remove_orphans_below(job.work, min_age=0)
        yield


@contextlib.contextmanager
def _folder_lock(job: TrainJob) -> Iterator[None]:
    make_folder(job.work)
    lock = job.work / "job.lock"
    with named_write_errors(lock):
        lock.touch()
    with claimed(lock) as ours:
        if not ours:
            raise InputError(f"Another process is training in {job.work}. Wait for it, or give another --out.")
        yield


def _extended(record: Record, model: Alit, job: TrainJob, run: StageRun) -> Record:
    """The record with one more entry: how, where and on what this stage was trained, and what came out."""
    name, last = run.stage.name, run.last_record
    entry = {
        "stage": name,
        "preset": job.start.preset,
        "start": job.start.sentence,
        "photos": list(job.photos),
        "recipe": job.recipe.to_dict(),
        "precision": training_precision(job.recipe.stage(name).precision, job.distributed.device),
        "device": str(job.distributed.device),
        "processes": job.distributed.world_size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "finished": time.strftime("%Y-%m-%d"),
        "steps": run.step,
        "seconds": round(run.seconds),
        "losses": dict(last.losses) if last else {},
        "validation_l1": {str(k): round(v, 5) for k, v in (last.validation or {}).items()} if last else {},
    }
    return Record(model.config, (*record.stages, name), (*record.training, entry))
