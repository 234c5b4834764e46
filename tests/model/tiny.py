"""A random model small enough to train and tokenize in a test."""

from __future__ import annotations

from pathlib import Path

import torch

from alit_cli.config import BaseConfig, BaseKind, ModelConfig
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit


def config(kind: BaseKind = "vae", codes: int = 32, iterations: int = 3) -> ModelConfig:
    """32 px, 16 grid tokens, budgets 2, 4, 6."""
    base = BaseConfig(
        kind=kind,
        channels=8,
        multipliers=(1, 2),
        latent_dim=4,
        codes=16 if kind == "vqgan" else 0,
        unshuffle=4,
        norm_groups=4,
    )
    return ModelConfig(
        name="test",
        base=base,
        image_size=32,
        width=24,
        layers=2,
        heads=2,
        tokens_per_iteration=2,
        iterations=iterations,
        codes=codes,
        token_dim=4,
    )


def model(kind: BaseKind = "vae", codes: int = 32) -> Alit:
    """The same weights every time, in eval mode."""
    torch.manual_seed(0)
    return Alit(config(kind, codes)).eval()


def checkpoint(folder: Path, kind: BaseKind = "vae", codes: int = 32) -> Path:
    """A file of the model."""
    path = folder / f"tiny-{kind}-{codes}.safetensors"
    tiny = model(kind, codes)
    write_checkpoint(path, tiny, Record(tiny.config, ("base", "distill")))
    return path
