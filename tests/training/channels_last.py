"""`alit` with convolutions channels-last on a CPU, which the product does on a GPU only: the layout that tests need.

python -m tests.training.channels_last train ./photos --out m.safetensors
"""

from __future__ import annotations

import unittest.mock

import torch

from alit_cli.cli import main
from alit_cli.model.device import Precision
from alit_cli.model.tokenizer_model import TokenizerModel
from alit_cli.training.memory import MemoryPlan
from alit_cli.training.stages.stage import Stage


def channels_last(model: TokenizerModel, device: torch.device) -> None:
    """In the place of speed_up."""
    for part in model.convolutions:
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def no_estimate(stage: Stage, rows: int, precision: Precision) -> MemoryPlan:
    """In the place of plan_memory, which takes longer than the training of a tiny model."""
    return MemoryPlan(stage.recipe.checkpointing == "on", f"{stage.name}: its memory is not estimated in this test")


def run(words: list[str]) -> None:
    """`alit WORDS…` in this process, without an estimate of memory; SystemExit with its exit code where it fails."""
    with (
        unittest.mock.patch("alit_cli.training.loop.speed_up", channels_last),
        unittest.mock.patch("alit_cli.training.loop.plan_memory", no_estimate),
    ):
        # In this mode click returns the exit code instead of ending the process.
        if code := main(words, prog_name="alit", standalone_mode=False):
            raise SystemExit(code)


if __name__ == "__main__":
    with unittest.mock.patch("alit_cli.training.loop.speed_up", channels_last):
        main(prog_name="alit")
