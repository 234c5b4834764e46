"""What a training run says of itself: records, kept as a JSON-lines log and TensorBoard's curves, and pictures."""

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

from alit_cli.data.files import open_output
from alit_cli.data.marks import png_metadata
from alit_cli.progress import Progress
from alit_cli.training.recipe import StageName

PICTURED = 6
"""Held-out photographs in a picture of reconstructions."""


@dataclass(frozen=True)
class TrainRecord:
    """One step, or one validation.

    Attributes:
        stage, step, steps: where the run is; `step` counts finished steps.
        losses: means since the last record that was logged.
        validation: mean L1 by budget of the averaged weights, where this step validated; of a base tokenizer one entry,
            that of its number of grid tokens.
        images_per_second, seconds: speed of late, and time spent in this stage.
        memory: largest memory so far in GiB: a GPU's, else this process's.
    """

    stage: StageName
    step: int
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[int, float] | None = None
    images_per_second: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0

    @property
    def progress(self) -> Progress:
        """For the console."""
        parts = [f"{self.images_per_second:.3g} images/s, {self.memory:.1f} GiB"] if self.losses else []
        note = ", ".join([*parts, *(f"{name} {value:.4g}" for name, value in self.losses.items())])
        return Progress(self.step, self.steps, f"{self.stage} steps", note=note)


class TrainLog:
    """Writes under `folder`: `log.jsonl`, `tensorboard/`, and `pictures/STAGE-STEP.png`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board: SummaryWriter | None = SummaryWriter(str(folder / "tensorboard"))
        except ImportError:
            self.board = None

    def write(self, record: TrainRecord) -> None:
        """One line, and the same numbers as curves."""
        values = {key: value for key, value in vars(record).items() if value is not None}
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(values) + "\n")
        if self.board is None:
            return
        for name, value in {**record.losses, "images_per_second": record.images_per_second}.items():
            self.board.add_scalar(f"{record.stage}/{name}", value, record.step)
        for budget, l1 in (record.validation or {}).items():
            self.board.add_scalar(f"{record.stage}/validation_l1/{budget}", l1, record.step)
        self.board.flush()

    def picture(self, record: TrainRecord, columns: Sequence[Tensor]) -> Path:
        """A sheet with a row a photograph: the original, then its reconstruction at every budget (b 3 h w each)."""
        sheet = rearrange(torch.stack(list(columns), dim=1).float().cpu(), "b k c h w -> (b h) (k w) c")
        pixels = (sheet.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
        path = self.folder / "pictures" / f"{record.stage}-{record.step:06d}.png"
        with open_output(path, "picture") as file:
            Image.fromarray(pixels).save(file, "PNG", pnginfo=png_metadata("picture"))
        if self.board is not None:
            self.board.add_image(f"{record.stage}/reconstructions", pixels, record.step, dataformats="HWC")
        return path
