"""What a model is made of: validated, frozen configurations and one table of presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from alit_cli.errors import InputError

BaseKind = Literal["vqgan", "vae"]
StageName = Literal["base", "distill", "finetune"]
STAGES: tuple[StageName, ...] = ("base", "distill", "finetune")
"""The stages of training, in their order: each starts from the weights that the stage before it has left."""


# Far above every published model. A file that lies about its sizes is refused before a network is built of them.
MOST_LAYERS = 256
MOST_ITERATIONS = 4096
MOST_SIZE = 65536
MOST_PIXELS = 8192
MOST_NAME = 200


def _require(fine: bool, sentence: str) -> None:
    # An assert would be gone under `python -O`, and would be no error that a user understands.
    if not fine:
        raise InputError(sentence)


def check_whole(most: int, **sizes: object) -> None:
    """Raises InputError where one of the sizes, by its name, is no whole number from 1 to `most`."""
    for name, size in sizes.items():
        fine = type(size) is int and 1 <= size <= most  # bool is an int to isinstance, and no size
        _require(fine, f"A model's {name.replace('_', ' ')} must be a whole number from 1 to {most}.")


def check_name(name: object) -> None:
    """Raises InputError where a model's name is no short text that a terminal can show as it is."""
    fine = isinstance(name, str) and 0 < len(name) <= MOST_NAME and name.isprintable()
    _require(fine, f"A model's name must be 1 to {MOST_NAME} characters that can be printed.")


@dataclass(frozen=True)
class BaseConfig:
    """A base tokenizer: an f-stride convolutional autoencoder that turns b 3 h w pixels into a grid of 2D tokens.

    `unshuffle` folds u×u pixels into channels before the first convolution (and back after the last), so that
    no convolution runs at full resolution; the reference models use 1. A VAE's latent is its posterior mean
    times `latent_scale`; decoding divides by `decode_scale` (released stage-2 decoders have absorbed it: 1).
    """

    kind: BaseKind = "vqgan"
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    latent_dim: int = 256
    codes: int = 1024
    unshuffle: int = 1
    norm_groups: int = 32
    latent_scale: float = 1.0
    decode_scale: float = 1.0

    def __post_init__(self) -> None:
        _require(self.kind in ("vqgan", "vae"), f"A base kind must be vqgan or vae, not {self.kind!r}.")
        check_whole(
            MOST_SIZE,
            base_channels=self.channels,
            base_latent_dim=self.latent_dim,
            base_unshuffle=self.unshuffle,
            base_norm_groups=self.norm_groups,
        )
        # Each level halves the picture, so that sixteen leave one grid token of the largest one.
        _require(1 <= len(self.multipliers) <= 16, "A base tokenizer must have 1 to 16 levels.")
        for multiplier in self.multipliers:
            check_whole(MOST_SIZE, base_multiplier=multiplier)
        if self.codes:
            # Zero codes stand for a VAE, which has none. Codes of the base tokenizer are not stored in tables, so
            # uint16 does not limit them.
            check_whole(2**24, base_codes=self.codes)
        for multiplier in self.multipliers:
            _require(
                self.channels * multiplier % self.norm_groups == 0,
                f"Base channels {self.channels}×{multiplier} must be a multiple of norm_groups {self.norm_groups}.",
            )
        scales = (self.latent_scale, self.decode_scale)
        fine = all(isinstance(scale, int | float) and 0 < scale < math.inf for scale in scales)
        _require(fine, "Base scales must be positive numbers.")

    @property
    def stride(self) -> int:
        """Pixels per grid token, along one side."""
        # Every level but the last one halves the picture; the annotation stands for a cast, because a power of ints may
        # be a float to the type checker.
        stride: int = self.unshuffle * 2 ** (len(self.multipliers) - 1)
        return stride


@dataclass(frozen=True)
class ModelConfig:
    """A whole tokenizer. Symbols follow the reference: n grid tokens, k latent tokens, d = width, v = codes.

    `codes` is the 1D codebook's size; 0 means continuous latents of `token_dim` numbers each. `tiles` counts the tiles
    along one side of the image that attention holds apart to a learned degree; 1, as in all published models, is none.
    """

    # These two are ClassVars, so that they are not written to model files; released files of other kinds have classes
    # of their own.
    kind: ClassVar[str] = "alit"
    prefix: ClassVar[bool] = False  # every iteration may change the ids of earlier tokens
    name: str = "custom"
    base: BaseConfig = field(default_factory=BaseConfig)
    image_size: int = 256
    width: int = 1024
    layers: int = 8
    heads: int = 8
    tokens_per_iteration: int = 32
    iterations: int = 8
    codes: int = 4096
    token_dim: int = 12
    tiles: int = 1

    def __post_init__(self) -> None:
        check_name(self.name)
        check_whole(MOST_PIXELS, image_size=self.image_size)
        check_whole(MOST_SIZE, width=self.width, heads=self.heads, token_dim=self.token_dim)
        check_whole(MOST_LAYERS, layers=self.layers)
        check_whole(MOST_ITERATIONS, iterations=self.iterations, tokens_per_iteration=self.tokens_per_iteration)
        _require(
            self.image_size % self.base.stride == 0,
            f"Image size {self.image_size} must be a multiple of the base tokenizer's stride {self.base.stride}.",
        )
        _require(self.width % self.heads == 0, f"Width {self.width} must be a multiple of heads {self.heads}.")
        _require(self.width > self.base.latent_dim, "A model's width must exceed the base tokenizer's latent_dim.")
        check_whole(MOST_SIZE, tiles=self.tiles)
        fits = self.grid_side % self.tiles == 0 and self.tokens_per_iteration % self.tiles**2 == 0
        _require(fits, f"A grid of {self.grid_side} and its tokens cannot be cut into {self.tiles}×{self.tiles} tiles.")
        # Tables store the ids as uint16, so 65,536 codes are the most.
        fine = type(self.codes) is int and (self.codes == 0 or 2 <= self.codes <= 65536)
        _require(fine, "A model's codes must be 0 (continuous) or a whole number from 2 to 65536.")

    @property
    def grid_side(self) -> int:
        """Grid tokens along one side."""
        return self.image_size // self.base.stride

    @property
    def grid_tokens(self) -> int:
        """Number n of 2D tokens."""
        return self.grid_side**2

    @property
    def budgets(self) -> tuple[int, ...]:
        """Token counts after each iteration, smallest first."""
        return tuple(self.tokens_per_iteration * (t + 1) for t in range(self.iterations))

    @property
    def bits_per_token(self) -> float:
        """What a token costs, as `token_bits` counts it."""
        return token_bits(self.codes, self.token_dim)

    @property
    def decoder_layers(self) -> int:
        """Layers of the distillation decoder."""
        return self.layers

    def summary(self) -> str:
        """Base tokenizer, image size, budgets, codebook and widths, for people."""
        latents = f"{self.codes} codes" if self.codes else f"continuous latents of {self.token_dim}"
        return (
            f"{self.name}, {self.base.kind} base, {self.image_size} px, {self.budgets[0]}…{self.budgets[-1]} tokens, "
            f"{latents}, width {self.width}, {self.layers}+{self.layers} layers"
        )

    def offering(self, budgets: Sequence[int]) -> ModelConfig:
        """The configuration itself: a rollout passes through all of its budgets, whichever are wanted.

        Raises:
            InputError: one of them is no budget of the model.
        """
        check_budgets(self.name, self.budgets, budgets)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelConfig:
        """The inverse of to_dict.

        Raises:
            InputError: a field is unknown or a value does not fit.
        """
        try:
            base = dict(values["base"])
            # JSON has only lists, and a frozen configuration needs a tuple to be compared and hashed.
            base["multipliers"] = tuple(base["multipliers"])
            return ModelConfig(**{**values, "base": BaseConfig(**base)})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"This file's model configuration cannot be read: {error}.") from error


# Reference sizes (width, layers, heads) of both distillation transformers; the paper calls "small" its S model.
SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (512, 8, 8),
    "small": (1024, 8, 8),
    "base": (768, 12, 12),
    "semilarge": (1024, 16, 16),
}

VQGAN = BaseConfig(kind="vqgan")
# The released VAE files were trained on posterior × 0.2325 and their stage-2 decoder takes it undivided.
VAE = BaseConfig(kind="vae", latent_dim=16, codes=0, latent_scale=0.2325, decode_scale=1.0)

# The sizes of the model inside the package, small enough to be trained and used on a CPU. That one is also made of
# tiles, since it grew out of a model of quarters; a new one has no need of them.
NANO = ModelConfig(
    name="nano",
    base=BaseConfig(
        kind="vae", channels=48, multipliers=(1, 2, 3), latent_dim=16, codes=0, unshuffle=4, norm_groups=16
    ),
    width=176,
    layers=4,
    heads=4,
    codes=4096,
    token_dim=5,
)

PRESETS: tuple[str, ...] = ("nano", *SIZES)


def preset(name: str, base: BaseKind | None = None, continuous: bool = False) -> ModelConfig:
    """A named configuration.

    Args:
        name: one of PRESETS.
        base: vqgan (the default of the reference sizes) or vae; nano's own base is fixed.
        continuous: leave the 1D latents unquantized.

    Raises:
        InputError: no such preset, or nano with another base.
    """
    if name == "nano":
        # Asking for the base that nano has anyway is no error.
        if base not in (None, NANO.base.kind):
            raise InputError("The preset 'nano' has a vae as its base tokenizer; choose another preset for a vqgan.")
        config = NANO
    elif name in SIZES:
        width, layers, heads = SIZES[name]
        chosen = VAE if base == "vae" else VQGAN
        config = ModelConfig(name=name, base=chosen, width=width, layers=layers, heads=heads)
    else:
        raise InputError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return dataclasses.replace(config, codes=0) if continuous else config


def check_budgets(name: str, budgets: Sequence[int], chosen: Sequence[int]) -> None:
    """Raises InputError where one of `chosen` is none of the budgets of the model called `name`."""
    for budget in sorted(set(chosen) - set(budgets)):
        available = ", ".join(map(str, budgets))
        raise InputError(f"The model {name} has no budget {budget}; choose among {available}.")


def token_bits(codes: int, token_dim: int) -> float:
    """log2 of the codebook, or 16 bits for each number of a continuous latent (no codes)."""
    # Continuous latents are stored as float16, which are 16 bits for each number.
    return math.log2(codes) if codes else 16.0 * token_dim
