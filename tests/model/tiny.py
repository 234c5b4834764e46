"""A random model small enough to train and tokenize in a test."""

from __future__ import annotations

from pathlib import Path

import torch

from alit_cli.config import BaseConfig, BaseKind, ModelConfig
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import TokenizerModel
from alit_cli.model.tokenizers.grid import GridConfig, GridTokenizer
from alit_cli.model.tokenizers.titok import Half, TiTok, TiTokConfig


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


def titok_config(prefix: bool = False) -> TiTokConfig:
    """32 px, 16 grid tokens, 6 latent tokens of 5 bits; the first k alone where `prefix` says so, for k of 2, 4, 6."""
    return TiTokConfig(
        name="tiny-piece" if prefix else "tiny-titok",
        image_size=32,
        patch=8,
        encoder=Half(16, 1, 2),
        decoder=Half(24, 2, 2),
        latents=6,
        codes=32,
        token_dim=4,
        normalized=True,
        reinterpreted=prefix,
        pixel_network=None,
        prefix=prefix,
        budgets=(2, 4, 6) if prefix else (6,),
    )


def other_checkpoint(folder: Path, kind: str) -> Path:
    """A file of a tokenizer that is no ALIT: `titok`, `piece` (prefixes), `vqgan` or `vae` (alone)."""
    torch.manual_seed(1)
    if kind in ("titok", "piece"):
        model: TokenizerModel = TiTok(titok_config(kind == "piece"))
    else:
        base = config("vqgan" if kind == "vqgan" else "vae").base
        model = GridTokenizer(GridConfig(f"tiny-{kind}", base, 32))
    # Whatever a network starts with, also what its constructor left empty.
    weights = {name: torch.randn(tensor.shape) * 0.3 for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    path = folder / f"tiny-{kind}.safetensors"
    write_checkpoint(path, model, Record(model.config, ("imported",)))
    return path
