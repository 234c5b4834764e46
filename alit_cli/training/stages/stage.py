"""What a training stage is to the loop that runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch
from alit_cli.training.recipe import Recipe, StageName


class Objective(ABC):
    """A stage: which parameters move, and what they minimize.

    Attributes:
        name: the stage.
        model: the network being trained; stays in train mode.
        recipe: of the whole run.
    """

    name: StageName

    def __init__(self, model: Alit, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe

    @abstractmethod
    def trained(self) -> list[nn.Module]:
        """The modules whose parameters move."""

    @abstractmethod
    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """Scalars by name; `total` is minimized, the others are reported."""

    def reconstructions(self, average: Alit, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What the averaged weights make of b 3 S S images: each budget, smallest first, and b 3 S S unclamped."""
        for iteration in average.rollout(images):
            yield iteration.budget, iteration.reconstruction

    def fill(self, step: int, average: Alit) -> Iterator[Progress]:
        """Fill a codebook, of the averaged weights too, where the step about to be taken begins to use it.

        Yields how far that is, and nothing where there is nothing to fill; no weight changes before the last report.
        """
        yield from ()

    def before_step(self, step: int, rows: np.ndarray, average: Alit) -> bool:
        """Anything else that changes weights outside the optimizer, such as reviving codes; whether it did.

        Args:
            step: the step about to be taken.
            rows: the views of its whole batch, of all processes.
            average: the averaged weights, to be changed alike.
        """
        return False

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside weights, optimizer and step."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 (a stage may have no state)
        """The inverse of state."""
