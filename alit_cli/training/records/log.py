"""What a training run says of itself: records, kept as a JSON-lines log and shown on boards, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from alit_cli.config import StageName
from alit_cli.data.files import open_output
from alit_cli.data.marks import png_metadata
from alit_cli.progress import Progress
from alit_cli.training.records.boards import Board

PICTURED = 6
"""Held-out photographs in a picture of reconstructions."""


@dataclass(frozen=True)
class Remark:
    """A sentence about the run, such as how many photographs it trains on."""

    text: str


@dataclass(frozen=True)
class TrainRecord:
    """One step, or one validation.

    Attributes:
        stage: the stage.
        step: finished steps of the stage.
        steps: all steps of the stage.
        losses: means since the last record that was logged; empty in a record that only says how far the run is.
        validation: mean L1 by budget of the averaged weights, where this step validated; of a base tokenizer one entry,
            that of its number of grid tokens.
        images_per_second: speed since the last record that was logged.
        seconds: time spent in this stage.
        memory: largest memory so far in GiB: a GPU's, else this process's.
        loss: the total of the last record that was logged, so that the progress line can keep showing it.
    """

    stage: StageName
    step: int
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[int, float] | None = None
    images_per_second: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0
    loss: float | None = None

    @property
    def progress(self) -> Progress:
        """For the console. The loss alone, which fits on a line of 80 columns; the log has everything else."""
        note = "" if self.loss is None else f"loss {self.loss:.4g}"
        return Progress(self.step, self.steps, f"{self.stage} steps", note=note)

    @property
    def headline(self) -> str:
        """The validation of this step in one line, smallest budget first."""
        unit = "grid tokens" if self.stage == "base" else "tokens"
        figures = "  ".join(f"{budget}: {l1:.4f}" for budget, l1 in (self.validation or {}).items())
        return f"{self.stage} step {self.step}: L1 of held-out photographs by {unit}  {figures}"


class TrainLog:
    """Writes under `folder`: `log.jsonl` and `pictures/STAGE-STEP.png`; and shows the same on boards."""

    def __init__(self, folder: Path, boards: Sequence[Board] = ()) -> None:
        self.folder, self.boards = folder, boards

    def write(self, record: TrainRecord) -> None:
        """One line, and the same numbers as curves."""
        values = {key: value for key, value in vars(record).items() if value is not None and key != "loss"}
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(values) + "\n")
        validation = {f"validation_l1/{budget}": l1 for budget, l1 in (record.validation or {}).items()}
        for board in self.boards:
            shown = {**record.losses, "images_per_second": record.images_per_second, **validation}
            board.numbers(record.stage, record.step, shown)

    def picture(self, record: TrainRecord, columns: Sequence[Tensor]) -> Path:
        """A sheet with one row per photograph: the original, then its reconstruction at every budget (b 3 h w each)."""
        sheet = rearrange(torch.stack(list(columns), dim=1).float().cpu(), "b k c h w -> (b h) (k w) c")
        pixels = (sheet.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
        path = self.folder / "pictures" / f"{record.stage}-{record.step:06d}.png"
        with open_output(path, "picture") as file:
            Image.fromarray(pixels).save(file, "PNG", pnginfo=png_metadata("picture"))
        for board in self.boards:
            board.picture(record.stage, record.step, pixels)
        return path

    def close(self) -> None:
        """Close the boards."""
        for board in self.boards:
            board.close()
