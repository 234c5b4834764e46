"""What the tests of large runs share: a random model that is quick, and tars that repeat a few small pictures."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alit_cli.config import BaseConfig, ModelConfig
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit

KINDS = 50
"""Different pictures in a tar."""


def quick_checkpoint(path: Path) -> Path:
    """64 px, 1 + 1 layers, budgets 4, 8, 12: hundreds of images a second."""
    base = BaseConfig(kind="vae", channels=8, multipliers=(1, 2), latent_dim=4, codes=0, unshuffle=8, norm_groups=4)
    config = ModelConfig(
        name="quick", base=base, image_size=64, width=32, layers=1, heads=2, tokens_per_iteration=4, iterations=3,
        codes=64, token_dim=4,
    )  # fmt: skip
    torch.manual_seed(0)
    write_checkpoint(path, Alit(config).eval(), Record(config))
    return path


def write_tar(path: Path, count: int) -> Path:
    """`count` members, 0000000.jpg …, of KINDS small pictures; every 97th is cut off in the middle."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(KINDS):
        buffer = io.BytesIO()
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((80, 72), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
        pictures.append(buffer.getvalue())
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            data = pictures[number % KINDS]
            data = data[: len(data) // 2] if number % 97 == 96 else data
            member = tarfile.TarInfo(f"{number:07d}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path
