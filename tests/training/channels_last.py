"""`alit` with convolutions channels-last on a CPU, which the product does on a GPU only: the layout that tests need.

python -m tests.training.channels_last train ./photos --out m.safetensors
"""

from __future__ import annotations

import unittest.mock

import torch

from alit_cli.cli import main
from alit_cli.model.tokenizer_model import TokenizerModel


def channels_last(model: TokenizerModel, device: torch.device) -> None:
    """In the place of speed_up."""
    for part in model.convolutions:
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


if __name__ == "__main__":
    unittest.mock.patch("alit_cli.training.loop.speed_up", channels_last).start()
    main(prog_name="alit")
