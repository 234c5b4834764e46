"""What every tokenizer must do: pixels to tokens at each of its budgets, and tokens back to pixels.

ALIT (rollout.py) is one implementation, those in tokenizers/ are others. Jobs, tasks and pages know only this file.
Shapes: b images, k latent tokens, c numbers per token, n grid tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from alit_cli.errors import InputError
from alit_cli.model.bases.base_tokenizer import BaseTokenizer
from alit_cli.model.layers import Transformer


class TokenizerConfig(Protocol):
    """What the rest of alit asks of a tokenizer's configuration; each kind has a frozen dataclass of its own."""

    @property
    def kind(self) -> str:
        """Which implementation: the key of kinds.KINDS."""

    @property
    def name(self) -> str:
        """What tables and figures call the model."""

    @property
    def image_size(self) -> int:
        """Side of the square images it takes, in pixels."""

    @property
    def grid_side(self) -> int:
        """Grid tokens along one side, the resolution of its attention maps."""

    @property
    def budgets(self) -> tuple[int, ...]:
        """The token counts an image may have, smallest first; one for a tokenizer of fixed length."""

    @property
    def prefix(self) -> bool:
        """Whether the tokens of every budget are the first ones of the largest budget."""

    @property
    def codes(self) -> int:
        """Size v of the codebook; 0 for continuous latents."""

    @property
    def token_dim(self) -> int:
        """Numbers c of a token before quantization."""

    @property
    def bits_per_token(self) -> float:
        """What a token costs: log2 v, or 16 bits for each number of a continuous latent."""

    @property
    def decoder_layers(self) -> int:
        """Transformer layers in which grid tokens attend to latent tokens; 0 where there is no such thing."""

    def summary(self) -> str:
        """Sizes for people, as `alit info` and a run's first line print them."""

    def offering(self, budgets: Sequence[int]) -> TokenizerConfig:
        """The same model, with budgets that the user asks for.

        Raises:
            InputError: the model cannot give one of them.
        """

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values; `kind` tells which class reads them (absent: ALIT)."""


@dataclass(frozen=True)
class State:
    """Where a rollout stands, between two iterations.

    Attributes:
        x: b s w, whatever the model carries from one iteration to the next; rows are images. For ALIT it is the
            encoder's whole sequence of 1+n+k: class token, image tokens, k latents so far.
        t: iterations done.
    """

    x: Tensor
    t: int

    def take(self, rows: Tensor) -> State:
        """The same rollout for some of the images (indices or a mask over b)."""
        return State(self.x[rows], self.t)


@dataclass(frozen=True)
class Latents:
    """What one iteration reads out.

    Attributes:
        t: the iteration, from 0.
        values: b k c latents before quantization.
        ids: b k int64 codes, or None for continuous models.
        vectors: b k c, what the decoder is fed: codes, or the latents themselves. Gradients pass from codes straight
            through to `values`.
    """

    t: int
    values: Tensor
    ids: Tensor | None
    vectors: Tensor

    @property
    def budget(self) -> int:
        """Number k of latent tokens."""
        return self.values.shape[1]

    @property
    def tokens(self) -> Tensor:
        """What is stored: b k int64 ids, or the b k c values of a continuous model."""
        return self.values if self.ids is None else self.ids


@dataclass(frozen=True)
class Iteration:
    """One record of a whole rollout: the tokens of a budget and the picture they give."""

    latents: Latents
    reconstruction: Tensor
    """b 3 h w, unclamped."""

    @property
    def budget(self) -> int:
        """Number of latent tokens."""
        return self.latents.budget


class TokenizerModel(nn.Module, ABC):
    """A network behind a token table.

    Attributes:
        config: sizes, budgets and codebook.
    """

    config: TokenizerConfig

    @abstractmethod
    def start(self, images: Tensor) -> State:
        """b 3 h w pixels in [0, 1], of config.image_size → the state before the first budget."""

    @abstractmethod
    def advance(self, state: State) -> tuple[State, Latents]:
        """One budget further: the next state, and the tokens of config.budgets[state.t]."""

    @abstractmethod
    def vectors(self, tokens: Tensor) -> Tensor:
        """Stored tokens (b k ids, or b k c continuous latents) → decoder inputs, as Latents.vectors, to the bit."""

    @abstractmethod
    def predict(self, vectors: Tensor) -> Tensor:
        """b k c decoder inputs → b n outputs, what is predicted for every grid token; k is any of config.budgets."""

    @abstractmethod
    def pixels(self, prediction: Tensor) -> Tensor:
        """b n outputs → b 3 h w pixels, unclamped."""

    def decode(self, vectors: Tensor) -> Tensor:
        """b k c decoder inputs → b 3 h w pixels, unclamped."""
        return self.pixels(self.predict(vectors))

    def attention(self, vectors: Tensor, layer: int) -> Tensor:
        """How much each grid token attends to each latent: b a n k, softmax over all keys (a heads).

        Raises:
            InputError: there is no such attention in this kind of tokenizer.
        """
        # This method is not abstract, since only a decoder that is a transformer has such attention.
        raise InputError(f"The tokenizer {self.config.name} decodes without attention to its tokens.")

    @property
    def autoencoder(self) -> BaseTokenizer | None:
        """The autoencoder whose grid the tokens describe, where the model holds the whole of one."""
        return None

    @property
    def convolutions(self) -> Sequence[nn.Module]:
        """The parts that are faster in channels-last layout on a GPU."""
        return ()

    @property
    def transformers(self) -> Sequence[Transformer]:
        """The stacks of blocks that are worth compiling on a GPU."""
        return ()
