"""What a training stage is to the loop that runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe, StageName


@dataclass(frozen=True)
class Losses:
    """What a batch costs.

    Attributes:
        total: the scalar that is minimized.
        parts: detached scalars by name, for the log.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Stage(ABC):
    """A stage: which parameters move, and what they minimize.

    Attributes:
        name: the stage.
        model: the network being trained; stays in train mode.
        recipe: of the whole run.
        crops: the photographs.
        distributed: who takes part, and where this process computes.
    """

    name: StageName

    def __init__(self, model: Alit, recipe: Recipe, crops: CropDataset, distributed: Distributed) -> None:
        self.model, self.recipe, self.crops, self.distributed = model, recipe, crops, distributed

    @abstractmethod
    def trained(self) -> list[nn.Module]:
        """The modules whose parameters move."""

    def prepare(self, plan: StepPlan, ema: Alit) -> Iterator[Progress]:
        """Everything that happens before a step beside the optimizer: a critic's updates, care of a codebook.

        Changes that it makes to weights are made to the averaged ones, too, and are the same in all processes.
        Nothing is changed before the last report, so that a run may be interrupted at each of them.

        Args:
            plan: of the step that is about to be taken.
            ema: the averaged weights.

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
