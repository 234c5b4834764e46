"""Where curves are shown while a training runs: TensorBoard's files, and Weights & Biases."""

from __future__ import annotations

import importlib
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alit_cli.data.files import open_output
from alit_cli.errors import AlitError, InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

BoardName = Literal["tensorboard", "wandb"]
# torch's writer needs TensorBoard, which says so only when the writer is imported.
MODULES: Mapping[BoardName, str] = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}
PROJECT = "alit"
WANDB_ID = "wandb.txt"
"""The file of the work folder that holds a run's id, so that a resumed training continues its curves."""


class Board(ABC):
    """A place that takes numbers and pictures of a stage's steps."""

    @abstractmethod
    def numbers(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Show some numbers by their names, at once."""

    @abstractmethod
    def picture(self, stage: str, step: int, pixels: np.ndarray) -> None:
        """Show a sheet of reconstructions, h w 3 uint8."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is being written."""


class TensorBoard(Board):
    """Event files in `tensorboard/` of the work folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: SummaryWriter = SummaryWriter(str(folder / "tensorboard"))

    def numbers(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """One curve per name."""
        for name, value in values.items():
            self.writer.add_scalar(f"{stage}/{name}", value, step)
        # So that curves can be watched while the run goes on.
        self.writer.flush()

    def picture(self, stage: str, step: int, pixels: np.ndarray) -> None:
        """Under the name reconstructions."""
        self.writer.add_image(f"{stage}/reconstructions", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class WeightsAndBiases(Board):
    """A run of wandb, the same one after an interruption. With WANDB_MODE=offline it needs no network.

    Args:
        folder: the work folder, where wandb keeps its files.
        name: of the run.

    Raises:
        AlitError: wandb cannot begin a run.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.wandb: Any = importlib.import_module("wandb")
        place = folder / WANDB_ID
        if not place.exists():
            with open_output(place, "working file") as file:
                file.write(secrets.token_hex(4).encode())
        try:
            self.run: Any = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=name,
                id=place.read_text(),
                resume="allow",
                dir=str(folder),
            )
        # wandb raises errors of its own, of the network and of the operating system, and none must be a crash.
        except Exception as problem:
            raise AlitError(
                f"Weights & Biases cannot begin a run ({str(problem).strip().rstrip('.')}). Set WANDB_MODE=offline to "
                "log without a network, or leave wandb out of --log-to."
            ) from problem

    def numbers(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """One curve per name, over the steps of the stage."""
        # Each stage counts its own steps, and wandb's own counter may only rise.
        self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self.run.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})

    def picture(self, stage: str, step: int, pixels: np.ndarray) -> None:
        """Under the name reconstructions."""
        self.run.log({f"{stage}/step": step, f"{stage}/reconstructions": self.wandb.Image(pixels)})

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()


def check_boards(names: Sequence[BoardName]) -> None:
    """Raise InputError where the package of a board is not installed."""
    for name in names:
        try:
            module = importlib.import_module(MODULES[name])
            # wandb writes into a folder of its own name; where that lies here, Python takes it for an empty package.
            if name == "wandb" and not hasattr(module, "init"):
                raise ImportError("a folder called wandb is no package")
        except ImportError as problem:
            raise InputError(
                f"--log-to {name} needs the package {name}, which is not installed. Install it (pip install {name}), "
                "or leave it out; log.jsonl is always written."
            ) from problem


def open_boards(names: Sequence[BoardName] | None, folder: Path, run: str) -> list[Board]:
    """The boards of a run; None is TensorBoard where it is installed. Raises as they do."""
    if names is None:
        try:
            return [TensorBoard(folder)]
        except ImportError:
            return []
    return [TensorBoard(folder) if name == "tensorboard" else WeightsAndBiases(folder, run) for name in names]
