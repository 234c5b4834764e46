"""Names and shapes of the authors' released files, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from alit_cli.config import SIZES, BaseConfig, BaseKind, ModelConfig
from alit_cli.errors import InputError

# Discriminators and perceptual networks that stage-2 files and base tokenizer files carry along.
TRAINING_ONLY = ("gan_losses.", "loss.")
# The files do not hold this number; it stands in the authors' code.
RELEASED_LATENT_SCALE = 0.2325

# Order matters: the first pattern that matches a name renames it.
_DISTILLATION = (
    (r"encoder\.transformer\.(\d+)\.(.*)", r"encoder.blocks.\1.\2"),
    (r"decoder\.transformer\.(\d+)\.(.*)", r"decoder.blocks.\1.\2"),
    (r"encoder_positional_embedding", "encoder.positions"),
    (r"encoder_class_embedding", "encoder.class_token"),
    (r"encoder_mask_token", "encoder.mask_token"),
    (r"encoder_ln_pre\.(.*)", r"encoder.norm_first.\1"),
    (r"encoder_ln_recursive\.(.*)", r"encoder.norm_next.\1"),
    (r"encoder_ln_post\.(.*)", r"encoder.norm_out.\1"),
    (r"latent_tokens", "encoder.latent_tokens"),
    (r"latent_token_positional_embedding", "encoder.latent_positions"),
    (r"timestep_embedding", "encoder.iteration_embedding"),
    (r"patch_embed\.(.*)", r"encoder.patch_embed.\1"),
    (r"pre_quantizer_mlp\.(.*)", r"encoder.to_latent.\1"),
    (r"quantize\.embedding\.weight", "codebook.weight"),
    (r"decoder_positional_embedding", "decoder.positions"),
    (r"decoder_class_embedding", "decoder.class_token"),
    (r"decoder_mask_token", "decoder.mask_token"),
    (r"decoder\.latent_token_positional_embedding", "decoder.latent_positions"),
    (r"decoder\.decoder_embed\.(.*)", r"decoder.from_latent.\1"),
    (r"decoder\.ln_pre\.(.*)", r"decoder.norm_in.\1"),
    (r"decoder\.ln_post\.(.*)", r"decoder.norm_out.\1"),
    (r"decoder\.ffn\.(.*)", r"decoder.head.\1"),
)
BLOCK_NAMES = (
    (r"\.ln_1\.", ".norm_attention."),
    (r"\.ln_2\.", ".norm_mlp."),
    (r"\.attn\.in_proj_", ".attention.qkv."),
    (r"\.attn\.out_proj\.", ".attention.out."),
    (r"\.mlp\.c_fc\.", ".mlp.0."),
    (r"\.mlp\.c_proj\.", ".mlp.2."),
)


# q, k, v are shared between both; `out` is the attention's 1×1 projection.
_CONVOLUTION = ((r"\.nin_shortcut\.", ".skip."), (r"\.proj_out\.", ".out."))

# MaskGIT's VQGAN, converted from the authors' weights, beside MAGE's; all other names are equal.
_MASKGIT = (
    (r"\.mid\.0\.", ".mid.block_1."),
    (r"\.mid\.1\.", ".mid.block_2."),
    (r"\.upsample_conv\.", ".upsample.conv."),
)

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Released:
    """A released state dict, split in two and still under the authors' names.

    Attributes:
        kind: which base tokenizer.
        base: its weights, without prefix.
        distillation: everything else; empty where the file holds a base tokenizer alone.
    """

    kind: BaseKind
    base: Weights
    distillation: Weights

    def renamed(self) -> dict[str, Tensor]:
        """All weights under the names of rollout.Alit (`base.…` included)."""
        ours = {f"base.{name}": tensor for name, tensor in self.renamed_base().items()}
        for name, tensor in self.distillation.items():
            # Their mask tokens have a batch dimension of one, which ours lack.
            ours[rename_distillation(name)] = tensor[0] if name.endswith("mask_token") else tensor
        return ours

    def renamed_base(self) -> dict[str, Tensor]:
        """The base tokenizer's weights under our names."""
        levels = _levels(self.base)
        return {rename_base(name, levels, self.kind): tensor for name, tensor in self.base.items()}


def maskgit_as_mage(weights: Weights) -> dict[str, Tensor]:
    """A VQGAN of MaskGIT's layout under the names of MAGE's, which compute the same function."""
    return {replace_all(name, _MASKGIT): tensor for name, tensor in weights.items()}


def split(weights: Weights) -> Released:
    """Tell base tokenizer and distillation network apart, and leave training-only networks behind.

    Raises:
        InputError: neither of the two base tokenizers is in the file.
    """
    kept = {k: v for k, v in weights.items() if not k.startswith(TRAINING_ONLY)}
    distillation = {k: v for k, v in kept.items() if not k.startswith("base_tokenizer.")}
    for kind in ("vqgan", "vae"):
        prefix = f"base_tokenizer.{kind}."
        base = {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}
        if base:
            return Released(kind, _known(base), distillation)
    # The names in a file of a base tokenizer alone have no prefix.
    if "encoder.conv_in.weight" not in kept:
        raise InputError("It holds no tokenizer that alit knows: ALIT, TiTok, One-D-Piece, a VQGAN or a KL VAE.")
    return Released("vae" if "quant_conv.weight" in kept else "vqgan", _known(kept), {})


def config_of(released: Released, heads: int | None, model: str | None) -> ModelConfig:
    """The configuration that released weights imply.

    Args:
        released: with its distillation part.
        heads: given by the user; the count is not in the weights.
        model: `args.model` of the file, for instance alit_small.

    Raises:
        InputError: a tensor is missing, or the head count cannot be told.
    """
    weights = released.distillation
    m, width = _shape(weights, "latent_tokens")
    layers = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.transformer."))
    base = base_config_of(released)
    # One of the positions is the class token's.
    grid_side = round((_shape(weights, "encoder_positional_embedding")[0] - 1) ** 0.5)
    name = (model or "").removeprefix("alit_").split("_")[0]
    return ModelConfig(
        name=name or "imported",
        base=base,
        image_size=grid_side * base.stride,
        width=width,
        layers=layers,
        heads=heads or _heads(name, width, layers),
        tokens_per_iteration=m,
        iterations=_shape(weights, "timestep_embedding")[0],
        codes=weights["quantize.embedding.weight"].shape[0] if "quantize.embedding.weight" in weights else 0,
        token_dim=_shape(weights, "pre_quantizer_mlp.weight")[0],
    )


def base_config_of(released: Released) -> BaseConfig:
    """The base tokenizer's configuration."""
    channels = _shape(released.base, "encoder.conv_in.weight")[0]
    widths = [_shape(released.base, f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(_levels(released.base))]
    multipliers = tuple(width // channels for width in widths)
    if released.kind == "vqgan":
        codes, dim = _shape(released.base, "quantize.embedding.weight")
        return BaseConfig("vqgan", channels, multipliers, dim, codes)
    dim = _shape(released.base, "post_quant_conv.weight")[0]
    return BaseConfig("vae", channels, multipliers, dim, codes=0, latent_scale=RELEASED_LATENT_SCALE)


def rename_distillation(name: str) -> str:
    """Our name of one of the authors' distillation tensors."""
    for pattern, replacement in _DISTILLATION:
        if match := re.fullmatch(pattern, name):
            return replace_all(match.expand(replacement), BLOCK_NAMES)
    raise InputError(f"The tensor {name!r} belongs to no released ALIT model.")


def rename_base(name: str, levels: int, kind: BaseKind) -> str:
    """Our name of one of the authors' base tokenizer tensors; ours count decoder levels in the order they run."""
    name = replace_all(name, _CONVOLUTION)
    # A VAE has attention between the two blocks of its middle.
    last_block = 2 if kind == "vae" else 1
    fixed = {
        ".mid.block_1.": ".middle.0.",
        ".mid.attn_1.": ".middle.1.",
        ".mid.block_2.": f".middle.{last_block}.",
        "quantize.embedding.weight": "codebook",
    }
    for theirs, ours in fixed.items():
        name = name.replace(theirs, ours)
    if name.startswith(("quant_conv.", "post_quant_conv.")):
        # The longer name is replaced first, since it contains the shorter one.
        return name.replace("post_quant_conv", "from_latent").replace("quant_conv", "to_moments")
    match = re.fullmatch(r"(encoder|decoder)\.(?:down|up)\.(\d+)\.(\w+)\.(.*)", name)
    if not match:
        return name
    half, level, part, rest = match[1], int(match[2]), match[3], match[4]
    level = level if half == "encoder" else levels - 1 - level
    if part in ("downsample", "upsample"):
        return f"{half}.{part}s.{level}.{rest}"
    index, rest = rest.split(".", 1)
    # Where a level attends, its blocks and attentions take turns in one list.
    attends = kind == "vae" and half == "encoder" and level == levels - 1
    position = 2 * int(index) + (part == "attn") if attends else int(index)
    return f"{half}.levels.{level}.{position}.{rest}"


def _known(base: Weights) -> Weights:
    """A base file may carry extra keys; keep what its networks use."""
    roots = ("encoder.", "decoder.", "quantize.embedding.weight", "quant_conv.", "post_quant_conv.")
    return {k: v for k, v in base.items() if k.startswith(roots)}


def _levels(base: Weights) -> int:
    return 1 + max((int(k.split(".")[2]) for k in base if k.startswith("encoder.down.")), default=-1)


def _heads(name: str, width: int, layers: int) -> int:
    if name in SIZES:
        return SIZES[name][2]
    for size in SIZES.values():
        if size[:2] == (width, layers):
            return size[2]
    raise InputError(
        f"The number of attention heads is not in this file (width {width}, {layers} layers): give it with --heads."
    )


def _shape(weights: Weights, name: str) -> tuple[int, ...]:
    if name not in weights:
        raise InputError(f"This file lacks the tensor {name!r} that every released ALIT model has.")
    return tuple(weights[name].shape)


def replace_all(name: str, patterns: Sequence[tuple[str, str]]) -> str:
    """The name after every pattern was replaced in it."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name
