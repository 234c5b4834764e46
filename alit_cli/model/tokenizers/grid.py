"""A base tokenizer on its own: every image gets one token for each place of the grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from alit_cli.config import MOST_PIXELS, BaseConfig, check_budgets, check_name, check_whole, token_bits
from alit_cli.errors import InputError
from alit_cli.model.bases.base_tokenizer import BaseTokenizer, to_grid, to_tokens
from alit_cli.model.rollout import BASES
from alit_cli.model.tokenizer_model import Latents, State, TokenizerModel


@dataclass(frozen=True)
class GridConfig:
    """A VQGAN or a VAE alone.

    Attributes:
        name: what tables call it.
        base: the network.
        image_size: side of its images in pixels.
    """

    kind: ClassVar[str] = "grid"
    prefix: ClassVar[bool] = False
    decoder_layers: ClassVar[int] = 0  # convolutions alone, no attention to tokens
    name: str
    base: BaseConfig
    image_size: int

    def __post_init__(self) -> None:
        check_name(self.name)
        check_whole(MOST_PIXELS, image_size=self.image_size)
        if self.image_size % self.base.stride:
            raise InputError(f"Image size {self.image_size} must be a multiple of the stride {self.base.stride}.")

    @property
    def grid_side(self) -> int:
        """Grid tokens along one side."""
        return self.image_size // self.base.stride

    @property
    def budgets(self) -> tuple[int, ...]:
        """All n grid tokens."""
        return (self.grid_side**2,)

    @property
    def codes(self) -> int:
        """Codes of a VQGAN, 0 for a VAE."""
        return self.base.codes

    @property
    def token_dim(self) -> int:
        """Numbers of a grid token."""
        return self.base.latent_dim

    @property
    def bits_per_token(self) -> float:
        """log2 of the codebook, or 16 bits for each number of a VAE's latent."""
        return token_bits(self.codes, self.token_dim)

    def summary(self) -> str:
        """Kind, grid and codebook, for people."""
        latents = f"{self.codes} codes of {self.token_dim}" if self.codes else f"continuous latents of {self.token_dim}"
        return (
            f"{self.name}, a {self.base.kind} alone, {self.image_size} px, {self.budgets[0]} tokens on a grid of "
            f"{self.grid_side}×{self.grid_side}, {latents}"
        )

    def offering(self, budgets: Sequence[int]) -> GridConfig:
        """The configuration itself. Raises InputError for another budget than the whole grid."""
        check_budgets(self.name, self.budgets, budgets)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> GridConfig:
        """The inverse of to_dict.

        Raises:
            InputError: a field is unknown or a value does not fit.
        """
        try:
            base = BaseConfig(**{**values["base"], "multipliers": tuple(values["base"]["multipliers"])})
            return GridConfig(**{name: value for name, value in values.items() if name != "kind"} | {"base": base})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"This file's model configuration cannot be read: {error}.") from error


class GridTokenizer(TokenizerModel):
    """The interface of every tokenizer around a base tokenizer; its decoder gets exactly what was encoded."""

    config: GridConfig

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.base = BASES[config.base.kind](config.base)

    def start(self, images: Tensor) -> State:
        """b 3 h w pixels in [0, 1] → b n d features, row-major, before quantization."""
        # Under autocast convolutions give half precision, but nearest codes are looked for in float32.
        return State(to_tokens(self.base.encode(images)).float(), t=0)

    def advance(self, state: State) -> tuple[State, Latents]:
        """All grid tokens: ids of a VQGAN's nearest codes, or a VAE's latents as they are."""
        target = self.base.target(to_grid(state.x))
        vectors = self.base.vectors(target)
        latents = Latents(0, state.x, target if self.config.codes else None, vectors)
        return State(state.x, state.t + 1), latents

    def vectors(self, tokens: Tensor) -> Tensor:
        """b n ids or b n d latents → b n d."""
        return self.base.vectors(tokens)

    def predict(self, vectors: Tensor) -> Tensor:
        """b n d → the same: nothing is left to be predicted.

        Raises:
            InputError: the vectors are not those of a whole grid.
        """
        if vectors.shape[1] != self.config.budgets[0]:
            raise InputError(f"{self.config.name} decodes {self.config.budgets[0]} tokens, not {vectors.shape[1]}.")
        return vectors

    def pixels(self, prediction: Tensor) -> Tensor:
        """b n d → b 3 h w pixels, unclamped."""
        return self.base.decode_vectors(prediction)

    @property
    def autoencoder(self) -> BaseTokenizer:
        """The network itself."""
        return self.base

    @property
    def convolutions(self) -> Sequence[nn.Module]:
        """The network itself."""
        return (self.base,)
