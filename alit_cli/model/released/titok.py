"""TiTok and One-D-Piece as their authors release them: names, shapes and config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from alit_cli.config import BaseConfig
from alit_cli.errors import InputError
from alit_cli.model.released.alit import BLOCK_NAMES, maskgit_as_mage, rename_base, replace_all
from alit_cli.model.tokenizers.titok import Half, TiTokConfig, default_budgets

# All released models have 64 numbers per head; the count is not in the weights.
NUMBERS_PER_HEAD = 64
# Widths of their sizes, and the letters that their names are made of.
SIZE_LETTERS = {512: "s", 768: "b", 1024: "l"}
SIZE_WIDTHS = {"small": 512, "base": 768, "large": 1024}
PREFIX_LATENTS = 256
# A count of how often training used each code.
LEFT_BEHIND = ("quantize.embed_prob",)

# Order matters: the first pattern that matches a name renames it.
_NAMES = (
    (r"latent_tokens", "encoder.latent_tokens"),
    (r"encoder\.conv_out\.(.*)", r"encoder.to_latent.\1"),
    (r"quantize\.embedding\.weight", "codebook.weight"),
    (r"pixel_quantize\.embedding\.weight", "to_pixels.codebook"),
    (r"decoder\.conv_out\.(.*)", r"to_pixels.smooth.\1"),
    (r"decoder\.decoder_embed\.(.*)", r"decoder.from_latent.\1"),
    (r"decoder\.ffn\.(.*)", r"decoder.head.\1"),
    (r"(encoder|decoder)\.class_embedding", r"\1.class_token"),
    (r"(encoder|decoder)\.positional_embedding", r"\1.positions"),
    (r"(encoder|decoder)\.latent_token_positional_embedding", r"\1.latent_positions"),
    (r"(encoder|decoder)\.ln_pre\.(.*)", r"\1.norm_in.\2"),
    (r"(encoder|decoder)\.ln_post\.(.*)", r"\1.norm_out.\2"),
    (r"(encoder|decoder)\.transformer\.(\d+)\.(.*)", r"\1.blocks.\2.\3"),
    (r"(encoder\.patch_embed\..*|decoder\.mask_token)", r"\1"),
)

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Told:
    """What the weights do not show: whether prefixes decode, and whether latents and codes are normalized."""

    prefix: bool
    normalized: bool


def is_titok(weights: Weights) -> bool:
    """Whether these are a TiTok or One-D-Piece, of whatever kind."""
    return "latent_tokens" in weights and "encoder.conv_out.weight" in weights


def config_of(weights: Weights, config: Mapping[str, Any], heads: int | None) -> TiTokConfig:
    """The configuration that weights and config.json imply.

    Args:
        weights: under their authors' names.
        config: the config.json beside them, empty where there is none.
        heads: given by the user; None is one for each 64 numbers of the width.

    Raises:
        InputError: it is a relative that alit does not run, a tensor is missing, or config.json says otherwise.
    """
    if "quantize.embedding.weight" not in weights:
        raise InputError("This is a TiTok with a VAE's latents, without a codebook, which alit does not read.")
    legacy = "pixel_decoder.conv_in.weight" in weights
    if not legacy and "decoder.conv_out.weight" not in weights:
        raise InputError("This TiTok has no network that makes pixels; take the file of its last training stage.")
    latents, width = _shape(weights, "latent_tokens", 2)
    codes, token_dim = _shape(weights, "quantize.embedding.weight", 2)
    patch = _shape(weights, "encoder.patch_embed.weight", 4)[-1]
    # One of the positions is the class token's.
    grid_side = round((_shape(weights, "encoder.positional_embedding", 2)[0] - 1) ** 0.5)
    told = _told(config, latents, legacy)
    read = TiTokConfig(
        name="titok",
        image_size=grid_side * patch,
        patch=patch,
        encoder=_half(weights, "encoder", width, heads),
        decoder=_half(weights, "decoder", _shape(weights, "decoder.positional_embedding", 2)[1], heads),
        latents=latents,
        codes=codes,
        token_dim=token_dim,
        normalized=told.normalized,
        reinterpreted=legacy,
        pixel_network=_pixel_network(weights) if legacy else None,
        prefix=told.prefix,
        budgets=default_budgets(latents, told.prefix),
    )
    _check_declared(read, config)
    # The name comes last, as it is made of everything else.
    return _named(read)


def renamed(weights: Weights) -> dict[str, Tensor]:
    """The weights under the names of tokenizers.titok.TiTok, 1×1 convolutions as matrices.

    Raises:
        InputError: a tensor belongs to no TiTok.
    """
    ours: dict[str, Tensor] = {}
    pixel_network = {
        name.removeprefix("pixel_"): tensor for name, tensor in weights.items() if name.startswith("pixel_decoder.")
    }
    levels = _levels(pixel_network)
    for name, tensor in maskgit_as_mage(pixel_network).items():
        ours[f"to_pixels.{rename_base(name, levels, 'vqgan')}"] = tensor
    for name, tensor in weights.items():
        if name.startswith("pixel_decoder.") or name in LEFT_BEHIND:
            continue
        new = _rename(name)
        if new.startswith(("encoder.to_latent.weight", "decoder.head.")) and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        ours[new] = tensor[0] if name == "decoder.mask_token" else tensor
    return ours


def _rename(name: str) -> str:
    for pattern, replacement in _NAMES:
        if match := re.fullmatch(pattern, name):
            return replace_all(match.expand(replacement), BLOCK_NAMES)
    raise InputError(f"The tensor {name!r} belongs to no released TiTok.")


def _half(weights: Weights, half: str, width: int, heads: int | None) -> Half:
    numbers = [int(m[1]) for name in weights if (m := re.match(rf"{half}\.transformer\.(\d+)\.", name))]
    if width % NUMBERS_PER_HEAD and heads is None:
        raise InputError(f"The number of attention heads of a width of {width} is unknown; give it with --heads.")
    return Half(width, 1 + max(numbers, default=-1), heads or width // NUMBERS_PER_HEAD)


def _pixel_network(weights: Weights) -> BaseConfig:
    """The VQGAN whose decoder is inside; widths are read from its levels, the first of which has multiplier 1."""
    levels = _levels({name.removeprefix("pixel_"): tensor for name, tensor in weights.items()})
    widths = [_shape(weights, f"pixel_decoder.up.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    codes, dim = _shape(weights, "pixel_quantize.embedding.weight", 2)
    return BaseConfig("vqgan", widths[0], tuple(width // widths[0] for width in widths), dim, codes)


def _levels(decoder: Weights) -> int:
    numbers = [int(m[1]) for name in decoder if (m := re.match(r"decoder\.up\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def _told(config: Mapping[str, Any], latents: int, legacy: bool) -> Told:
    model = _dict(config, "model")
    declared = _dict(model, "vq_model")
    if declared.get("quantize_mode", "vq") != "vq":
        raise InputError(f"The config.json says quantize_mode {declared['quantize_mode']!r}; alit reads vq alone.")
    # All of One-D-Piece's weights are legacy ones of 256 tokens, and no other release's are.
    prefix = model.get("type") == "one_d_piece" or declared.get("strict_length_assertion") is False
    prefix = prefix or (legacy and latents == PREFIX_LATENTS)
    normalized = declared.get("use_l2_norm")
    # Where config.json says nothing, legacy weights are taken for normalized ones and all others are not.
    return Told(prefix, normalized if isinstance(normalized, bool) else legacy)


def _check_declared(read: TiTokConfig, config: Mapping[str, Any]) -> None:
    """Raises InputError where config.json speaks of another model than the weights beside it."""
    declared = _dict(_dict(config, "model"), "vq_model")
    facts: dict[str, object] = {
        "codebook_size": read.codes,
        "token_size": read.token_dim,
        "num_latent_tokens": read.latents,
        "vit_enc_patch_size": read.patch,
        "vit_dec_patch_size": read.patch,
        "is_legacy": read.reinterpreted,
        "finetune_decoder": read.pixel_network is not None,
    }
    for name, fact in facts.items():
        if name in declared and declared[name] != fact:
            raise InputError(f"The config.json says {name} {declared[name]!r}, but its weights say {fact!r}.")
    for name, half in (("vit_enc_model_size", read.encoder), ("vit_dec_model_size", read.decoder)):
        size = declared.get(name)
        width = SIZE_WIDTHS.get(size) if isinstance(size, str) else None
        if width is not None and width != half.width:
            raise InputError(f"The config.json says {name} {size!r}, but its weights have width {half.width}.")
    crop = _dict(_dict(config, "dataset"), "preprocessing").get("crop_size")
    if crop is not None and crop != read.image_size:
        raise InputError(f"The config.json says crop_size {crop!r}, but the weights are for {read.image_size} pixels.")


def _named(read: TiTokConfig) -> TiTokConfig:
    """The name that its authors give it, in small letters: titok-l-32, titok-bl-64-vq8k, one-d-piece-s-256."""
    letters = [SIZE_LETTERS.get(half.width, str(half.width)) for half in (read.encoder, read.decoder)]
    size = letters[0] if read.encoder == read.decoder else "".join(letters)
    family = "one-d-piece" if read.prefix else "titok"
    suffix = "" if read.reinterpreted else f"-vq{read.codes // 1024}k"
    values = read.to_dict() | {"name": f"{family}-{size}-{read.latents}{suffix}"}
    return TiTokConfig.from_dict(values)


def _dict(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name, {})
    if not isinstance(section, dict):
        raise InputError(f"The config.json has no section {name!r} but {type(section).__name__} under this name.")
    return section


def _shape(weights: Weights, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in weights:
        raise InputError(f"This file lacks the tensor {name!r} that every TiTok has.")
    shape = tuple(weights[name].shape)
    if len(shape) != dimensions:
        raise InputError(f"The tensor {name!r} has shape {shape}, where {dimensions} dimensions are expected.")
    return shape
