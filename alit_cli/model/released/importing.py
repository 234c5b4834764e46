"""`alit import`: tells what a released file is by the names of its tensors, and makes a model of ours of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alit_cli.data.files import readable
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, build
from alit_cli.model.released import alit as alit_files
from alit_cli.model.released import titok as titok_files
from alit_cli.model.released.files import ReleasedFile, read_released
from alit_cli.model.tokenizer_model import TokenizerConfig, TokenizerModel
from alit_cli.model.tokenizers.grid import GridConfig

# Convolutions fit any size; these weights were trained and published at this one.
BASE_IMAGE_SIZE = 256

TABLE_1 = (
    "The errors in the paper's Table 1 were measured while image tokens were halted at random, so they cannot be "
    "reproduced exactly. alit halts no token when it tokenizes."
)
"""The authors' evaluation leaves halting on. With their VAEs it has no effect, because the mask is lost."""


@dataclass(frozen=True)
class Imported:
    """A released model as ours.

    Attributes:
        model: in eval mode, float32.
        record: what its checkpoint will say of it.
        summary: a sentence about the file, for people, and what they should know of such a model.
    """

    model: TokenizerModel
    record: Record
    summary: str


@dataclass(frozen=True)
class _Known:
    """A released file that was recognized: what it is, its weights under our names, and what to say of such models."""

    layout: str
    config: TokenizerConfig
    stage: str
    weights: dict[str, Tensor]
    remark: str = ""


def import_released(path: Path, heads: int | None = None) -> Imported:
    """Read a released file: ALIT, TiTok, One-D-Piece, or a base tokenizer alone.

    Args:
        path: a .safetensors, or a pickled .bin, .pth or .ckpt; or a folder that holds one.
        heads: attention heads, where neither the weights nor the file beside them tell.

    Raises:
        InputError: the file is missing, damaged, unsafe or of no layout that is known, or it contradicts itself.
    """
    return import_weights(read_released(path), heads)


def import_weights(file: ReleasedFile, heads: int | None = None) -> Imported:
    """As import_released, of a file that was read.

    Raises:
        InputError: it is of no layout that is known, or it contradicts itself.
    """
    name = readable(str(file.path))
    try:
        known = _recognize(file, heads)
        model = build(known.config, known.weights)
    except InputError as error:
        sentence = str(error).removesuffix(".")
        raise InputError(f"'{name}' cannot be imported. {sentence}.") from error
    # The names told a layout, but the shapes of a file made up or cut short can break any step behind it.
    except (ValueError, LookupError, RuntimeError) as error:
        raise InputError(f"'{name}' cannot be imported: its tensors have names, but not shapes, that fit.") from error
    note = {"stage": known.stage, "file": file.path.name, "imported": True, "layout": known.layout, "epoch": file.epoch}
    count = sum(tensor.numel() for tensor in known.weights.values())
    beside = " and config.json" if file.config else ""
    sentence = f"Found {known.layout} in {name}{beside}: {len(known.weights)} tensors, {count:,} numbers."
    return Imported(model, Record(known.config, (known.stage,), (note,)), f"{sentence} {known.remark}".rstrip())


def _recognize(file: ReleasedFile, heads: int | None) -> _Known:
    """Names decide; the order matters, since relatives share many of them."""
    weights = dict(file.weights)
    if not weights:
        raise InputError("It holds no tensors.")
    if "decoder.text_guidance_proj.weight" in weights:
        raise InputError("It is a TA-TiTok, whose decoder also reads a caption, which alit does not run.")
    if titok_files.is_titok(weights):
        config = titok_files.config_of(weights, file.config, heads)
        family = "One-D-Piece" if config.prefix else "TiTok"
        layout = f"{family} ({'legacy' if config.reinterpreted else 'direct'} weights)"
        return _Known(layout, config, "imported", _float(titok_files.renamed(weights)))
    maskgit = "encoder.mid.0.conv1.weight" in weights
    released = alit_files.split(alit_files.maskgit_as_mage(weights) if maskgit else weights)
    if released.distillation:
        alit_config = alit_files.config_of(released, heads, file.model)
        remark = TABLE_1 if alit_config.base.kind == "vqgan" else ""
        return _Known("ALIT", alit_config, "imported", _float(released.renamed()), remark)
    base = alit_files.base_config_of(released)
    if base.kind == "vae":
        # On its own, a VAE's decoder takes the unscaled latent.
        base = dataclasses.replace(base, decode_scale=base.latent_scale)
        name, layout = "kl-vae", "a KL VAE"
    else:
        name, layout = ("maskgit-vqgan", "MaskGIT's VQGAN") if maskgit else ("mage-vqgan", "MAGE's VQGAN")
    ours = {f"base.{key}": tensor for key, tensor in released.renamed_base().items()}
    return _Known(layout, GridConfig(name, base, BASE_IMAGE_SIZE), "base", _float(ours))


def _float(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32; InputError for those that no training leaves behind."""
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise InputError(f"Its weights '{name}' are of the type {tensor.dtype}, and no floating-point numbers.")
        if not torch.isfinite(tensor).all():
            raise InputError(f"Its weights '{name}' hold numbers that are not finite.")
    return {name: tensor.float() for name, tensor in weights.items()}
