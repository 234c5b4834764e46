"""TiTok and One-D-Piece: one pass of a transformer writes an image into a fixed sequence of 1D tokens.

"An Image is Worth 32 Tokens for Reconstruction and Generation", Yu et al., NeurIPS 2024; "One-D-Piece: Image Tokenizer
Meets Quality-Controllable Compression", Miwa et al., 2025.
Shapes: b images, n grid tokens (patches), N latent tokens, k ≤ N of them kept, w width, c token dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from alit_cli.config import (
    MOST_LAYERS,
    MOST_PIXELS,
    MOST_SIZE,
    BaseConfig,
    check_budgets,
    check_name,
    check_whole,
    token_bits,
)
from alit_cli.errors import InputError
from alit_cli.model.bases.base_tokenizer import to_grid, to_tokens
from alit_cli.model.bases.vqgan import Decoder as PixelDecoder
from alit_cli.model.layers import Linear, Transformer, full_precision
from alit_cli.model.quantizer import Codebook
from alit_cli.model.rollout import DecoderSizes, DistillationDecoder
from alit_cli.model.tokenizer_model import Latents, State, TokenizerModel


@dataclass(frozen=True)
class Half:
    """Sizes of the encoder's or the decoder's transformer."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class TiTokConfig:
    """A TiTok or One-D-Piece model.

    Attributes:
        name: what tables call it.
        image_size, patch: sides in pixels of the images and of the encoder's patches.
        encoder, decoder: sizes of both halves, which may differ.
        latents: number N of latent tokens that the encoder writes.
        codes, token_dim: the 1D codebook, C codes of c numbers.
        normalized: whether latents and codes are divided by their L2 norm before they are compared.
        reinterpreted: whether the read-out takes the N×w output for a w×N matrix, as all legacy weights want.
        pixel_network: the VQGAN whose codes the decoder predicts; None where it predicts the pixels of each patch.
        prefix: whether the first k tokens decode on their own, for any k (One-D-Piece).
        budgets: the token counts on offer; for a model of fixed length N alone.
    """

    kind: ClassVar[str] = "titok"
    name: str
    image_size: int
    patch: int
    encoder: Half
    decoder: Half
    latents: int
    codes: int
    token_dim: int
    normalized: bool
    reinterpreted: bool
    pixel_network: BaseConfig | None
    prefix: bool
    budgets: tuple[int, ...]

    def __post_init__(self) -> None:
        check_name(self.name)
        check_whole(MOST_PIXELS, image_size=self.image_size, patch=self.patch)
        check_whole(MOST_SIZE, latents=self.latents, token_dim=self.token_dim)
        for half in (self.encoder, self.decoder):
            check_whole(MOST_SIZE, width=half.width, heads=half.heads)
            check_whole(MOST_LAYERS, layers=half.layers)
        # True is an int as well, but no number of codes; 65536 is the most that uint16 ids can tell apart.
        if type(self.codes) is not int or not 2 <= self.codes <= 65536:
            raise InputError("A TiTok codebook must have 2 to 65536 codes.")
        if self.image_size % self.patch:
            raise InputError(f"Image size {self.image_size} must be a multiple of the patch size {self.patch}.")
        for half in (self.encoder, self.decoder):
            if half.width % half.heads:
                raise InputError(f"Width {half.width} must be a multiple of heads {half.heads}.")
        if self.pixel_network is not None and self.pixel_network.stride != self.patch:
            raise InputError(f"The pixel network has {self.pixel_network.stride} pixels per code, not {self.patch}.")
        self._check(self.budgets)

    @property
    def grid_side(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch

    @property
    def bits_per_token(self) -> float:
        """log2 of the codebook."""
        return token_bits(self.codes, self.token_dim)

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder."""
        return self.decoder.layers

    def summary(self) -> str:
        """Budgets, codebook and both halves, for people."""
        length = f"any prefix of {self.latents} tokens" if self.prefix else f"{self.latents} tokens"
        pixels = "pixels by patch" if self.pixel_network is None else "a VQGAN for the pixels"
        return (
            f"{self.name}, {self.image_size} px, {length}, {self.codes} codes of {self.token_dim}, "
            f"width {self.encoder.width} and {self.decoder.width}, {self.encoder.layers}+{self.decoder.layers} layers, "
            f"{pixels}"
        )

    def offering(self, budgets: Sequence[int]) -> TiTokConfig:
        """The same model with other prefixes on offer; a model of fixed length has N alone.

        Raises:
            InputError: a length that the model cannot give.
        """
        self._check(budgets)
        return dataclasses.replace(self, budgets=tuple(sorted(set(budgets))))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TiTokConfig:
        """The inverse of to_dict.

        Raises:
            InputError: a field is unknown or a value does not fit.
        """
        try:
            fields = {name: value for name, value in values.items() if name != "kind"}
            halves = {name: Half(**fields[name]) for name in ("encoder", "decoder")}
            pixels = fields["pixel_network"]
            if pixels is not None:
                pixels = BaseConfig(**{**pixels, "multipliers": tuple(pixels["multipliers"])})
            return TiTokConfig(**{**fields, **halves, "pixel_network": pixels, "budgets": tuple(fields["budgets"])})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"This file's model configuration cannot be read: {error}.") from error

    def _check(self, budgets: Sequence[int]) -> None:
        if not self.prefix:
            check_budgets(self.name, (self.latents,), budgets)
        elif not budgets or not all(type(k) is int and 1 <= k <= self.latents for k in budgets):
            raise InputError(f"The budgets of the model {self.name} are any numbers from 1 to {self.latents}.")


def default_budgets(latents: int, prefix: bool) -> tuple[int, ...]:
    """N alone, or eight prefixes evenly apart as ALIT has them: 32, 64 … 256 of 256."""
    return tuple(sorted({max(1, latents * eighth // 8) for eighth in range(1, 9)})) if prefix else (latents,)


class Encoder(nn.Module):
    """Patches and learned queries go through one transformer; the queries come out as the latents."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        half, patch = config.encoder, config.patch
        w = half.width
        self.reinterpreted = config.reinterpreted
        self.patch_embed = nn.Conv2d(3, w, patch, patch)
        self.class_token = nn.Parameter(torch.empty(1, w))
        self.positions = nn.Parameter(torch.empty(1 + config.grid_side**2, w))
        self.latent_tokens = nn.Parameter(torch.empty(config.latents, w))
        self.latent_positions = nn.Parameter(torch.empty(config.latents, w))
        self.norm_in = nn.LayerNorm(w)
        self.blocks = Transformer(w, half.layers, half.heads)
        self.norm_out = nn.LayerNorm(w)
        self.to_latent = nn.Linear(w, config.token_dim)

    def forward(self, images: Tensor) -> Tensor:
        """b 3 h w pixels in [0, 1] → b N c latents, in float32 whatever the precision around it."""
        b = len(images)
        patches = to_tokens(self.patch_embed(images))
        image = torch.cat([repeat(self.class_token, "1 w -> b 1 w", b=b), patches], dim=1) + self.positions
        queries = repeat(self.latent_tokens + self.latent_positions, "k w -> b k w", b=b)
        x = self.blocks(self.norm_in(torch.cat([image, queries], dim=1)))
        # Codes lie close together, so that half precision would change ids.
        with torch.autocast(images.device.type, enabled=False):
            read: Tensor = self.to_latent(self.arrange(self.norm_out(x[:, -len(self.latent_tokens) :].float())))
        return read

    def arrange(self, y: Tensor) -> Tensor:
        """b N w → b N w, what the read-out's rows are.

        The legacy models were trained with the memory of the N×w output taken for a w×N matrix, where a transpose was
        meant. Token n therefore reads numbers of many rows; the weights depend on it.
        """
        return y.reshape(y.shape[0], y.shape[2], y.shape[1]).transpose(1, 2) if self.reinterpreted else y


class ExpectedCode(nn.Module):
    """Pixels from logits over a VQGAN's codes: the code expected under their softmax, then the VQGAN's decoder."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(config.codes, config.latent_dim))
        self.decoder = PixelDecoder(config)

    def expected(self, logits: Tensor) -> Tensor:
        """b n K logits → b n d codes."""
        with full_precision(logits):
            return logits.float().softmax(dim=-1) @ self.codebook

    def forward(self, logits: Tensor) -> Tensor:
        """b n K logits → b 3 h w pixels, unclamped."""
        pixels: Tensor = self.decoder(to_grid(self.expected(logits)))
        return pixels


class Patches(nn.Module):
    """Pixels of each patch put in place, then one convolution over the picture."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.patch, self.side = config.patch, config.grid_side
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, patches: Tensor) -> Tensor:
        """b n 3p² numbers, ordered by row in the patch, column in it, colour → b 3 h w pixels, unclamped."""
        # Not F.pixel_shuffle: that expects the colour first.
        picture = rearrange(patches, "b (i j) (p q k) -> b k (i p) (j q)", i=self.side, p=self.patch, k=3)
        pixels: Tensor = self.smooth(picture)
        return pixels


class TiTok(TokenizerModel):
    """Encoder, codebook, decoder, and the network that makes pixels of its predictions."""

    config: TiTokConfig

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        half, grid = config.decoder, config.grid_side**2
        sizes = DecoderSizes(half.width, half.layers, half.heads, grid, config.latents, config.token_dim)
        self.encoder = Encoder(config)
        self.codebook = Codebook(config.codes, config.token_dim, config.normalized)
        if config.pixel_network is None:
            head = nn.Sequential(nn.Linear(half.width, 3 * config.patch**2))
            self.to_pixels: ExpectedCode | Patches = Patches(config)
        else:
            outputs = config.pixel_network.codes
            head = nn.Sequential(Linear(half.width, 2 * half.width), nn.Tanh(), Linear(2 * half.width, outputs))
            self.to_pixels = ExpectedCode(config.pixel_network)
        self.decoder = DistillationDecoder(sizes, head)

    def start(self, images: Tensor) -> State:
        """b 3 h w pixels in [0, 1] → all N latents: encoding does not depend on the budget."""
        return State(self.encoder(images), t=0)

    def advance(self, state: State) -> tuple[State, Latents]:
        """The tokens of the next budget, which are the first k of N. This costs next to nothing."""
        # All N are quantized and then cut, so that a prefix equals the stored sequence to the bit.
        quantized = self.codebook(state.x)
        k = self.config.budgets[state.t]
        latents = Latents(state.t, state.x[:, :k], quantized.ids[:, :k], quantized.vectors[:, :k])
        return State(state.x, state.t + 1), latents

    def vectors(self, tokens: Tensor) -> Tensor:
        """b k ids → b k c codes, normalized where the codebook is."""
        return self.codebook.lookup(tokens)

    def predict(self, vectors: Tensor) -> Tensor:
        """b k c codes → b n K logits over the VQGAN's codes, or b n 3p² pixels of patches.

        Raises:
            InputError: k is not N, and the model is no prefix tokenizer.
        """
        k = vectors.shape[1]
        if not self.config.prefix and k != self.config.latents:
            raise InputError(f"{self.config.name} decodes exactly {self.config.latents} tokens, not {k}.")
        prediction: Tensor = self.decoder(vectors)
        return prediction

    def pixels(self, prediction: Tensor) -> Tensor:
        """b n outputs → b 3 h w pixels, unclamped."""
        pixels: Tensor = self.to_pixels(prediction)
        return pixels

    def attention(self, vectors: Tensor, layer: int) -> Tensor:
        """How much each grid token attends to each latent: b a n k, softmax over all keys (a heads)."""
        return self.decoder.attention(vectors, layer)

    @property
    def convolutions(self) -> Sequence[nn.Module]:
        """The network that makes pixels."""
        return (self.to_pixels,)

    @property
    def transformers(self) -> Sequence[Transformer]:
        """Both halves."""
        return (self.encoder.blocks, self.decoder.blocks)
