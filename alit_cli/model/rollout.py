"""The paper: a recurrent rollout that distils a grid of 2D tokens into a growing set of 1D tokens, and back.

"Adaptive Length Image Tokenization via Recurrent Allocation", Duggal, Isola, Torralba, Freeman, ICLR 2025.
Shapes: b images, n grid tokens, k latent tokens (m more every iteration), w width, c token dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from alit_cli.config import ModelConfig
from alit_cli.model.bases.base_tokenizer import BaseTokenizer, to_tokens
from alit_cli.model.bases.vae import VAE
from alit_cli.model.bases.vqgan import VQGAN
from alit_cli.model.initialization import initialize
from alit_cli.model.layers import Linear, Transformer
from alit_cli.model.quantizer import Codebook
from alit_cli.model.tiles import Tiles
from alit_cli.model.tokenizer_model import Iteration, Latents, State, TokenizerModel

BASES: dict[str, type[BaseTokenizer]] = {"vqgan": VQGAN, "vae": VAE}


class DistillationEncoder(nn.Module):
    """Writes image tokens into latent tokens, m more at every iteration, with the same weights every time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w, n, m = config.width, config.grid_tokens, config.tokens_per_iteration
        self.n = n
        # Raw patches fill the width that the base features leave, so the encoder sees detail that the base has lost.
        self.patch_embed = nn.Conv2d(3, w - config.base.latent_dim, config.base.stride, config.base.stride)
        self.class_token = nn.Parameter(torch.empty(1, w))
        # Only training reads this token, in the place of image tokens that are halted.
        self.mask_token = nn.Parameter(torch.empty(1, w))
        self.positions = nn.Parameter(torch.empty(1 + n, w))
        self.latent_tokens = nn.Parameter(torch.empty(m, w))
        self.latent_positions = nn.Parameter(torch.empty(m, w))
        self.iteration_embedding = nn.Parameter(torch.empty(config.iterations, m, w))
        # Two norms for one stack of blocks: see append.
        self.norm_first = nn.LayerNorm(w)
        self.norm_next = nn.LayerNorm(w)
        self.blocks = Transformer(w, config.layers, config.heads, Tiles.of(config))
        self.norm_out = nn.LayerNorm(w)
        self.to_latent = nn.Linear(w, config.token_dim)

    def embed(self, images: Tensor, features: Tensor) -> Tensor:
        """b 3 h w pixels and b d g g base features → b n w image tokens of unit length."""
        grid = torch.cat([features, self.patch_embed(images)], dim=1)
        return F.normalize(to_tokens(grid), dim=-1)

    def start(self, image_tokens: Tensor) -> State:
        """b n w → the state before the first iteration."""
        class_token = repeat(self.class_token, "1 w -> b 1 w", b=len(image_tokens))
        return State(torch.cat([class_token, image_tokens], dim=1) + self.positions, t=0)

    def advance(self, state: State) -> State:
        """One iteration of the paper: append m new latents and read the whole sequence again."""
        new = self.latent_tokens + self.latent_positions + self.iteration_embedding[state.t]
        return self.append(state, new, iterations=1)

    def append(self, state: State, new: Tensor, iterations: int) -> State:
        """Append new latents to every image's sequence and read it once.

        Args:
            state: where the rollout stands.
            new: r w, the new latents before they have seen the image.
            iterations: how many iterations they belong to.
        """
        x = torch.cat([state.x, repeat(new, "r w -> b r w", b=len(state.x))], dim=1)
        # The first iteration reads embeddings, all others read the output of these same blocks: two scales, two norms.
        x = self.norm_first(x) if state.t == 0 else self.norm_next(x)
        return State(self.blocks(x), state.t + iterations)

    def read_out(self, state: State) -> Tensor:
        """The latents of a state, b k c; in float32 whatever the precision around it, as codes lie close together."""
        with torch.autocast(state.x.device.type, enabled=False):
            latents: Tensor = self.to_latent(self.norm_out(state.x[:, 1 + self.n :].float()))
        return latents


@dataclass(frozen=True)
class DecoderSizes:
    """Width, layers, heads and tiles of a decoder; its n grid tokens; the most latent tokens k, of c numbers each."""

    width: int
    layers: int
    heads: int
    grid_tokens: int
    latents: int
    token_dim: int
    tiles: Tiles | None = None


class DistillationDecoder(nn.Module):
    """Reads any number of latent tokens back into a prediction for every grid token.

    Args:
        sizes: its own.
        head: b n w grid tokens → b n outputs.
    """

    def __init__(self, sizes: DecoderSizes, head: nn.Sequential) -> None:
        super().__init__()
        w, n = sizes.width, sizes.grid_tokens
        self.n = n
        self.from_latent = nn.Linear(sizes.token_dim, w)
        self.class_token = nn.Parameter(torch.empty(1, w))
        self.mask_token = nn.Parameter(torch.empty(1, w))
        self.positions = nn.Parameter(torch.empty(1 + n, w))
        # One position per latent of the longest sequence: a shorter sequence uses the first ones.
        self.latent_positions = nn.Parameter(torch.empty(sizes.latents, w))
        self.norm_in = nn.LayerNorm(w)
        self.blocks = Transformer(w, sizes.layers, sizes.heads, sizes.tiles)
        self.norm_out = nn.LayerNorm(w)
        self.head = head

    def forward(self, vectors: Tensor) -> Tensor:
        """b k c → b n outputs."""
        x = self.blocks(self._sequence(vectors))
        prediction: Tensor = self.head(self.norm_out(x[:, 1 : 1 + self.n]))
        return prediction

    def attention(self, vectors: Tensor, layer: int) -> Tensor:
        """How much each grid token attends to each latent: b a n k, softmax over all keys (a heads)."""
        weights = self.blocks.attention(self._sequence(vectors), layer)
        return weights[:, :, 1 : 1 + self.n, 1 + self.n :]

    def _sequence(self, vectors: Tensor) -> Tensor:
        latents = self.from_latent(vectors) + self.latent_positions[: vectors.shape[1]]
        # Every grid token is the same mask at its place. Latents come last, so the grid stays put at any budget.
        grid = torch.cat([self.class_token, self.mask_token.expand(self.n, -1)]) + self.positions
        x = torch.cat([repeat(grid, "s w -> b s w", b=len(vectors)), latents], dim=1)
        out: Tensor = self.norm_in(x)
        return out


class Alit(TokenizerModel):
    """Base tokenizer, distillation encoder and decoder, and the codebook they share."""

    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.base = BASES[config.base.kind](config.base)
        self.encoder = DistillationEncoder(config)
        # A configuration without codes is that of a model with continuous latents.
        self.codebook = Codebook(config.codes, config.token_dim) if config.codes else None
        w = config.width
        # The head has the layers of the released weights.
        head = nn.Sequential(Linear(w, 2 * w), nn.Tanh(), Linear(2 * w, self.base.outputs))
        sizes = DecoderSizes(
            w,
            config.layers,
            config.heads,
            config.grid_tokens,
            config.budgets[-1],
            config.token_dim,
            Tiles.of(config),
        )
        self.decoder = DistillationDecoder(sizes, head)
        initialize(self.encoder, self.decoder, config)

    def start(self, images: Tensor, features: Tensor | None = None) -> State:
        """b 3 h w pixels in [0, 1] → the state before the first iteration.

        Args:
            images: fitted to config.image_size.
            features: the base tokenizer's b d g g features of these images, where they are already known.
        """
        # Training caches the features of a frozen base tokenizer.
        features = self.base.encode(images) if features is None else features
        return self.encoder.start(self.encoder.embed(images, features))

    def advance(self, state: State) -> tuple[State, Latents]:
        """One iteration: the next state, and the tokens read out of it."""
        state = self.encoder.advance(state)
        return state, self.read(state)

    def read(self, state: State) -> Latents:
        """The 1D tokens of a state."""
        # The state counts the iterations that are done, while Latents.t counts from 0; hence the 1 below.
        values = self.encoder.read_out(state)
        if self.codebook is None:
            return Latents(state.t - 1, values, None, values)
        quantized = self.codebook(values)
        return Latents(state.t - 1, values, quantized.ids, quantized.vectors)

    def iterate(self, state: State, iterations: int | None = None) -> Iterator[Latents]:
        """Tokens after each iteration; no pixels are decoded."""
        for _ in range(self.config.iterations if iterations is None else iterations):
            state, latents = self.advance(state)
            yield latents

    def rollout(self, images: Tensor) -> Iterator[Iteration]:
        """b 3 h w pixels in [0, 1] → one record per iteration, smallest budget first."""
        for latents in self.iterate(self.start(images)):
            yield Iteration(latents, self.decode(latents.vectors))

    def predict(self, vectors: Tensor) -> Tensor:
        """b k c decoder inputs (Latents.vectors) → b n outputs: logits over the base's codes, or its latents."""
        prediction: Tensor = self.decoder(vectors)
        return prediction

    def pixels(self, prediction: Tensor) -> Tensor:
        """b n outputs → b 3 h w pixels, unclamped."""
        return self.base.decode(prediction)

    def attention(self, vectors: Tensor, layer: int) -> Tensor:
        """How much each grid token attends to each latent: b a n k, softmax over all keys (a heads)."""
        return self.decoder.attention(vectors, layer)

    @property
    def autoencoder(self) -> BaseTokenizer:
        """The base tokenizer."""
        return self.base

    @property
    def convolutions(self) -> Sequence[nn.Module]:
        """The base tokenizer."""
        return (self.base,)

    @property
    def transformers(self) -> Sequence[Transformer]:
        """Both halves of the distillation network."""
        return (self.encoder.blocks, self.decoder.blocks)

    def vectors(self, tokens: Tensor) -> Tensor:
        """Stored tokens → decoder inputs: b k ids are looked up; b k c continuous latents are themselves."""
        return tokens if self.codebook is None else self.codebook.lookup(tokens)
