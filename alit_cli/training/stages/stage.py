"""What a training stage is to the loop that runs it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from alit_cli.config import StageName
from alit_cli.model.layers import Stack
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe


@dataclass(frozen=True)
class Losses:
    """What a batch costs.

    Attributes:
        total: the scalar that is minimized.
        parts: detached scalars by name, for the log.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def pieces_of(batch: Batch, count: int) -> list[Batch]:
    """A batch in `count` pieces of nearly equal size, fewer where it has fewer rows."""
    count = min(count, len(batch.rows))
    rows = np.array_split(batch.rows, count)
    images = batch.images.split([len(part) for part in rows])
    return [Batch(*piece) for piece in zip(rows, images, strict=True)]


@contextlib.contextmanager
def only(parameter: nn.Parameter, model: nn.Module) -> Iterator[None]:
    """In this block, graphs of a model lead to one of its parameters alone, so they hold next to nothing."""
    others = [p for p in model.parameters() if p.requires_grad and p is not parameter]
    try:
        for other in others:
            other.requires_grad_(False)
        yield
    finally:
        for other in others:
            other.requires_grad_(True)


class Stage(ABC):
    """A stage: which parameters move, and what they minimize.

    Attributes:
        name: the stage.
        model: the network being trained; stays in train mode.
        recipe: of the whole run.
        crops: the photographs.
        distributed: who takes part, and where this process computes.
        checkpointing: whether a step computes again for its backward pass what would not fit into memory.
    """

    name: StageName
    checkpointing = False

    def __init__(self, model: Alit, recipe: Recipe, crops: CropDataset, distributed: Distributed) -> None:
        self.model, self.recipe, self.crops, self.distributed = model, recipe, crops, distributed

    def checkpoint(self, on: bool) -> None:
        """Turn gradient checkpointing on or off: of every iteration, and of every block of the base tokenizer."""
        self.checkpointing = on
        for module in self.model.modules():
            if isinstance(module, Stack):
                module.checkpointing = on

    @abstractmethod
    def trained(self) -> list[nn.Module]:
        """The modules whose parameters move."""

    def prepare(self, plan: StepPlan, ema: Alit, pieces: Sequence[Batch]) -> Iterator[Progress]:
        """Everything that happens before a step beside the optimizer: a critic's updates, care of a codebook.

        Changes that it makes to weights are made to the averaged ones, too, and are the same in all processes.
        Nothing is changed before the last report, so that a run may be interrupted at each of them.

        Args:
            plan: of the step that is about to be taken.
            ema: the averaged weights.
            pieces: this process's rows of the step's batch, as `step` will be given them.

        Yields: progress, where the work takes long (k-means); usually nothing.
        """
        yield from ()

    @abstractmethod
    def step(self, batch: Batch, plan: StepPlan) -> Losses:
        """The losses of a batch, which is the step's whole batch or a piece of it."""

    def reconstructions(self, ema: Alit, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What the averaged weights make of b 3 S S images: each budget, smallest first, and b 3 S S unclamped."""
        for iteration in ema.rollout(images):
            yield iteration.budget, iteration.reconstruction

    def finish(self, ema: Alit) -> Generator[Progress, None, Alit]:
        """The model that this stage leaves behind, made of the averaged weights after the last step."""
        yield from ()
        return ema

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside weights, optimizer and step."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 (a stage may have no state)
        """The inverse of state."""
