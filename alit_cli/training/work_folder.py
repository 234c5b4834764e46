"""What the work folder of a training says about it, read while it runs or after an interruption."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alit_cli.errors import InputError

JOB = "job.json"
LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainingState:
    """How far a training is.

    Attributes:
        folder: the work folder.
        model: the name of the model that is trained.
        photos: the inputs as they were given; `photographs` how many images they hold.
        stage, step, steps: where the log ends; `step` counts finished steps. '' and 0 before the first.
        images_per_second, seconds: speed of late, and time spent in this stage.
        losses: means since the record before.
        validation: mean L1 by token budget on the photographs held out, from the last validation; empty before it.
    """

    folder: str
    model: str
    photos: tuple[str, ...]
    photographs: int
    stage: str
    step: int
    steps: int
    images_per_second: float
    seconds: float
    losses: dict[str, float]
    validation: dict[str, float]

    def fields(self) -> dict[str, str | None]:
        """What `alit info` and `alit status` print, one line each."""
        inputs = ", ".join(self.photos[:3]) + (" …" if len(self.photos) > 3 else "")
        speed = f"{self.images_per_second:.4g} images/s, {self.seconds / 60:.1f} min in this stage"
        held_out = ", ".join(f"{l1:.4f} at {budget} tokens" for budget, l1 in self.validation.items())
        return {
            "training": f"{self.folder}, of the model {self.model}",
            "photographs": f"{self.photographs} in {inputs}",
            "stage": f"{self.stage}, step {self.step} of {self.steps}" if self.stage else "not begun",
            "speed": speed if self.stage else None,
            "losses": ", ".join(f"{name} {value:.4g}" for name, value in self.losses.items()) or None,
            "L1 of photographs held out": held_out or None,
        }


def training_folder(path: Path) -> Path | None:
    """The work folder of a training that the path is, or that lies beside the checkpoint it names; None without one."""
    beside = path.with_name(f"{path.name}.work")
    return next((folder for folder in (path, beside) if (folder / JOB).is_file()), None)


def read_training(folder: Path) -> TrainingState:
    """Read the last lines of the log. Raises InputError where the folder is damaged."""
    try:
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines() if (folder / LOG).exists() else []
        # The last line may be half written while the training runs.
        records = [json.loads(line) for line in lines if line.endswith("}")]
    except (OSError, ValueError) as problem:
        raise InputError(
            f"'{folder}' is a damaged work folder of alit train; train again with --overwrite."
        ) from problem
    last: dict[str, Any] = records[-1] if records else {}
    latest: dict[str, dict[str, float]] = {"losses": {}, "validation": {}}
    for record in records:
        latest.update({name: record[name] for name in latest if record.get(name)})
    return TrainingState(
        folder=str(folder),
        model=str(job.get("config", {}).get("name", "")),
        photos=tuple(job.get("photos", ())),
        photographs=int(job.get("photographs", 0)),
        stage=str(last.get("stage", "")),
        step=int(last.get("step", 0)),
        steps=int(last.get("steps", 0)),
        images_per_second=float(last.get("images_per_second", 0)),
        seconds=float(last.get("seconds", 0)),
        losses=latest["losses"],
        validation=latest["validation"],
    )
