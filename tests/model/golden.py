"""Models of the golden recipe: weights drawn from names and shapes, numbers recorded from the authors' code.

Nothing but names, shapes and seeds is stored; see `draw` for how each tensor is drawn.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alit_cli.config import BaseConfig
from alit_cli.model.checkpoint import load_weights
from alit_cli.model.released import alit as released_files
from alit_cli.model.released.files import ReleasedFile
from alit_cli.model.released.importing import import_weights
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import TokenizerModel
from alit_cli.model.tokenizers.titok import Half, TiTokConfig

FOLDER = Path(__file__).parents[1] / "golden"
TOKENIZERS = ("titok_small", "titok_vq8k_small", "onedpiece_small", "vqgan_alone")
VARIANTS = ("vqgan_quantized", "vqgan_continuous", "vae_quantized", "vae_continuous")


def description(variant: str) -> dict[str, Any]:
    """Seed, configuration and the name and shape of every tensor."""
    described: dict[str, Any] = json.loads((FOLDER / f"{variant}.json").read_text())
    return described


def weights(variant: str) -> dict[str, Tensor]:
    """The variant's state dict under the authors' names."""
    described = description(variant)
    return {name: draw(described["seed"], name, shape) for name, shape in described["state_dict"]}


def model(variant: str) -> Alit:
    """The variant as our model, in eval mode."""
    released = released_files.split(weights(variant))
    config = released_files.config_of(released, description(variant)["config"]["heads"], None)
    with torch.device("meta"):
        model = Alit(config)
    load_weights(model, released.renamed())
    return model.eval()


def tokenizer(variant: str, layout: str | None = None) -> TokenizerModel:
    """One of TOKENIZERS as our model, by the same way as `alit import` takes.

    Args:
        variant: its name.
        layout: "mage" gives a VQGAN the names of MAGE's file first.
    """
    drawn = weights(variant)
    if layout == "mage":
        drawn = released_files.maskgit_as_mage(drawn)
    return import_weights(ReleasedFile(FOLDER / variant, drawn, description(variant)["config"])).model


def recorded(variant: str) -> dict[str, np.ndarray]:
    """What the authors' code gave."""
    with np.load(FOLDER / f"{variant}.npz") as file:
        return dict(file)


def images() -> Tensor:
    """2 3 256 256 in [0, 1]."""
    pixels = np.load(FOLDER / "images_uint8.npy")
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def draw(seed: int, name: str, shape: list[int]) -> Tensor:
    """A tensor that depends on nothing but the seed, its name under the authors' names, and its shape.

    Matrices and convolutions keep the scale of what they are given; norms are near one, and biases near zero.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    n = rng.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        n = n / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(".weight"):
        n = 1 + 0.1 * n
    else:
        n = 0.02 * n
    return torch.from_numpy(np.asarray(n, dtype=np.float32))


def released_size(
    halves: tuple[tuple[int, int], tuple[int, int]], latents: int, codes: tuple[int, int], direct: bool
) -> TiTokConfig:
    """A TiTok or One-D-Piece of a released size: width and layers of both halves, N, and the codebook's C and c."""
    encoder, decoder = (Half(width, layers, width // 64) for width, layers in halves)
    return TiTokConfig(
        name="released",
        image_size=256,
        patch=16,
        encoder=encoder,
        decoder=decoder,
        latents=latents,
        codes=codes[0],
        token_dim=codes[1],
        normalized=not direct,
        reinterpreted=not direct,
        pixel_network=None if direct else BaseConfig(),
        prefix=latents == 256 and not direct,
        budgets=(latents,),
    )


def full_size_vqgan() -> dict[str, list[int]]:
    """Names and shapes of the released MaskGIT-VQGAN: those of the small one with four times its channels.

    Codes have eight times as many numbers (256), and colours stay three.
    """
    shapes = {}
    for name, small in description("vqgan_alone")["state_dict"]:
        shape = list(small)
        for axis in range(min(len(shape), 2)):
            if shape[axis] != 3:
                shape[axis] *= 4
        if name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
            shape[0] = 256
        elif name == "decoder.conv_in.weight":
            shape[1] = 256
        elif name == "quantize.embedding.weight":
            shape = [1024, 256]
        shapes[name] = shape
    return shapes


def full_size_titok(width: int, layers: int, latents: int) -> dict[str, list[int]]:
    """Names and shapes of a released legacy TiTok or One-D-Piece whose halves are alike."""
    w, shapes = width, {"latent_tokens": [latents, width]}
    for half in ("encoder", "decoder"):
        shapes |= {
            f"{half}.class_embedding": [1, w],
            f"{half}.positional_embedding": [257, w],
            f"{half}.latent_token_positional_embedding": [latents, w],
        }
        for norm in ("ln_pre", "ln_post"):
            shapes |= {f"{half}.{norm}.weight": [w], f"{half}.{norm}.bias": [w]}
        for layer in range(layers):
            block = f"{half}.transformer.{layer}"
            for norm in ("ln_1", "ln_2"):
                shapes |= {f"{block}.{norm}.weight": [w], f"{block}.{norm}.bias": [w]}
            shapes |= {f"{block}.attn.in_proj_weight": [3 * w, w], f"{block}.attn.in_proj_bias": [3 * w]}
            for part, outer, inner in (("attn.out_proj", w, w), ("mlp.c_fc", 4 * w, w), ("mlp.c_proj", w, 4 * w)):
                shapes |= {f"{block}.{part}.weight": [outer, inner], f"{block}.{part}.bias": [outer]}
    for part, outer, rest in (
        ("encoder.patch_embed", w, [3, 16, 16]),
        ("encoder.conv_out", 12, [w, 1, 1]),
        ("decoder.decoder_embed", w, [12]),
        ("decoder.ffn.0", 2 * w, [w, 1, 1]),
        ("decoder.ffn.2", 1024, [2 * w, 1, 1]),
    ):
        shapes |= {f"{part}.weight": [outer, *rest], f"{part}.bias": [outer]}
    shapes |= {"decoder.mask_token": [1, 1, w], "quantize.embedding.weight": [4096, 12]}
    decoder = {f"pixel_{name}": shape for name, shape in full_size_vqgan().items() if name.startswith("decoder.")}
    return shapes | decoder | {"pixel_quantize.embedding.weight": [1024, 256]}


def drawn(shapes: dict[str, list[int]], seed: int = 0) -> dict[str, Tensor]:
    """Weights by the recipe; they mean nothing, and their pictures are noise."""
    return {name: draw(seed, name, shape) for name, shape in shapes.items()}
