"""What is to be trained, as a user asks for it, and the folder in which an unfinished run lies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alit_cli.config import STAGES, BaseKind, ModelConfig, StageName
from alit_cli.data.files import check_output, open_output
from alit_cli.errors import InputError
from alit_cli.training.crops import CROPS_MARK, decode_threads
from alit_cli.training.distributed import Distributed
from alit_cli.training.recipe import PIXEL_STAGES, Recipe, current_keys, recipe_for
from alit_cli.training.records.boards import BoardName, check_boards
from alit_cli.training.records.card import card_path, curves_path
from alit_cli.training.start import Start, choose_start


@dataclass(frozen=True)
class ModelOptions:
    """Sizes and start of the model, as a user gives them; None leaves the preset's or the start's value.

    Attributes:
        preset: a name of config.PRESETS.
        name: what the model calls itself in its record.
        base: vqgan or vae.
        continuous: leave the 1D latents unquantized.
        init: a checkpoint to start from.
        init_fit: how a checkpoint of other sizes is made to fit.
        sizes: fields of ModelConfig.
    """

    preset: str | None = None
    name: str | None = None
    base: BaseKind | None = None
    continuous: bool = False
    init: Path | None = None
    init_fit: Literal["tile", "resample"] | None = None
    sizes: Mapping[str, int | None] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where it goes.

    Attributes:
        photos: folders, files, globs or tars.
        out: the checkpoint; `out.work/` beside it keeps crops, states and the log until the end.
        start: the model and where its weights come from.
        recipe: how.
        stages: which stages to run, in order.
        half: store float16 weights.
        decode_threads: threads that decode photographs, where no decoded crops are cached.
        overwrite: delete the unfinished run in the work folder first.
        log_to: boards that show the curves; None is TensorBoard where it is installed.
        command: the line that the user wrote, for the card; '' where there is none.
        distributed: who takes part, and where this process computes.
    """

    photos: Sequence[str]
    out: Path
    start: Start
    recipe: Recipe
    stages: Sequence[StageName] = STAGES
    half: bool = False
    decode_threads: int = dataclasses.field(default_factory=decode_threads)
    overwrite: bool = False
    log_to: Sequence[BoardName] | None = None
    command: str = ""
    distributed: Distributed = dataclasses.field(default_factory=Distributed)

    @property
    def config(self) -> ModelConfig:
        """The model."""
        return self.start.config

    @property
    def work(self) -> Path:
        """The folder of unfinished work."""
        return self.out.with_name(self.out.name + ".work")


def training_job(
    photos: Sequence[str],
    out: Path,
    model: ModelOptions,
    stages: Sequence[StageName],
    stage_changes: Mapping[StageName, Mapping[str, Any]],
    changes: Mapping[str, Any],
    **rest: Any,
) -> TrainJob:
    """A job from what a user gives.

    Args:
        photos: folders, files, globs or tars.
        out: the checkpoint to write.
        model: its sizes and start.
        stages: the stages to run, in any order.
        stage_changes: fields of StageRecipe by stage; None leaves the recipe's value.
        changes: other fields of Recipe, and the recipe's name, as recipe_for takes them.
        rest: half, decode_threads, overwrite, log_to, command and distributed of TrainJob.

    Raises:
        InputError: a value does not fit.
    """
    check_output(out, "model")
    check_output(card_path(out), "card")
    check_output(curves_path(out), "figure")
    check_boards(rest.get("log_to") or ())
    # The name says whose model this is, not by which recipe it was trained.
    sizes = {**model.sizes, "name": model.name or out.stem}
    start = choose_start(model.init, model.preset, sizes, model.base, model.continuous, model.init_fit)
    fields = dict(changes)
    # Stages build on each other, in whatever order they were named.
    ordered = [name for name in STAGES if name in stages]
    if "distill" in start.trained and "base" not in ordered:
        # Trained transformers go on as they are: no first lesson, and no new codebook.
        fields |= {
            "continue_transformers": True,
            "parallel_until": 0.0,
            "full_rollouts_from": 0.0,
            "quantize_from": 0.0,
        }
    recipe = recipe_for(start.preset, stage_changes, **fields)
    pixels = [name for name in ordered if name in PIXEL_STAGES]
    if fields.get("name") == "paper" and pixels and not recipe.lpips and recipe.perceptual_weight:
        raise InputError(
            f"The recipe of the paper has a perceptual term in {' and '.join(pixels)}. Give the weights of LPIPS with "
            "--lpips, or leave the term out with --perceptual-weight 0."
        )
    for name in ordered:
        # Told before photographs are decoded, which takes minutes.
        if (odds := recipe.stage(name).iteration_odds) and len(odds) != start.config.iterations:
            raise InputError(
                f"--iteration-odds has {len(odds)} numbers, but the model has {start.config.iterations} iterations."
            )
    return TrainJob(photos, out, start, recipe, ordered, **rest)


def claim_folder(job: TrainJob, photographs: int) -> None:
    """Make the work folder this run's, or find that it is another's; one that has decoded nothing yet is nobody's.

    Raises:
        InputError: the folder holds a run with other options; they are named.
    """
    options = {
        "photos": list(job.photos),
        "photographs": photographs,
        "config": job.config.to_dict(),
        "recipe": job.recipe.to_dict(),
        "stages": list(job.stages),
        "init": None if job.start.path is None else str(job.start.path),
    }
    options = json.loads(json.dumps(options, sort_keys=True))  # as it will be read again: tuples become lists
    path = job.work / "job.json"
    if path.exists() and (job.work / CROPS_MARK).exists():
        before = json.loads(path.read_text())
        # A run that an earlier release began may be resumed.
        before["recipe"] = current_keys(before["recipe"])
        differing = list(_differences(before, options))
        if differing:
            raise InputError(
                f"{job.work} holds a run with other options ({'; '.join(differing)}). Repeat its command to resume it, "
                "give another --out, or --overwrite to delete that run and start again."
            )
        return
    with open_output(path, "working file") as file:
        file.write(json.dumps(options, sort_keys=True).encode())


MAY_CHANGE = ("accumulate", "checkpointing", "name")
"""Options that change no step that is taken (memory, the model's name), so a run may be resumed with another value."""


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Each value that differs, as `finetune.steps 800, now 40`; what an earlier release did not note does not count."""
    for key, value in now.items():
        name = f"{inside}.{key}" if inside and inside not in ("recipe", "config") else key
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            yield from _differences(before[key], value, name)
        elif key in before and before[key] != value and key not in MAY_CHANGE:
            yield f"{name} {_shown(before[key])}, now {_shown(value)}"


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else "none" if value is None else str(value)
