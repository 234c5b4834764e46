"""The losses of the steps since the last record; they stay on the device until a record is written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from alit_cli.errors import AlitError


class LossMeter:
    """Adds up what each step costs, without making this process wait for a GPU.

    Args:
        stage: for the sentence about a loss that is not finite.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.unread: list[tuple[int, tuple[str, ...], Tensor]] = []
        self.sums: dict[str, float] = {}
        self.steps = 0
        self.broken: int | None = None

    def add(self, step: int, names: Sequence[str], values: Tensor) -> None:
        """Note the losses of a finished step, of which one is called total.

        Args:
            step: its number, from 1.
            names: of the losses.
            values: as many, float32, on any one device.
        """
        self.unread.append((step, tuple(names), values.detach()))

    def check(self) -> None:
        """Read what was noted, which waits for the device.

        Raises:
            AlitError: a total is not finite; the first step of which that is true is named.
        """
        self._read()
        if self.broken is not None:
            raise AlitError(
                f"The loss is not finite at step {self.broken} of stage {self.stage}. "
                "Start again with a lower --lr and --overwrite."
            )

    def finite(self) -> bool:
        """Whether all totals so far are finite, so that the weights are worth saving; waits for the device."""
        self._read()
        return self.broken is None

    def means(self) -> dict[str, float]:
        """The mean losses of the steps since the last call; a part that a step does not have counts 0. As check."""
        self.check()
        means = {name: value / self.steps for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def _read(self) -> None:
        if not self.unread:
            return
        # One copy for all steps, and the one moment of waiting.
        values = iter(torch.cat([values for _, _, values in self.unread]).tolist())
        for step, names, _ in self.unread:
            for name in names:
                value = next(values)
                self.sums[name] = self.sums.get(name, 0.0) + value
                if name == "total" and not math.isfinite(value) and self.broken is None:
                    self.broken = step
        self.steps += len(self.unread)
        self.unread = []
