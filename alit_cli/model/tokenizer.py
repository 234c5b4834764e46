"""The Python interface: load a model, then encode, decode or roll out images."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import EMBEDDED, Checkpoint, Record, embedded, read_checkpoint
from alit_cli.model.device import Precision, autocast, choose_device, choose_precision, prepare_model
from alit_cli.model.released.hub import checkpoint_file
from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer_model import Iteration, Latents, State, TokenizerConfig, TokenizerModel

Picture = str | Path | Image
Images = Tensor | np.ndarray | Picture | Sequence[Picture]


def load(path_or_name: str | Path | None = None, device: str = "auto", precision: str = "auto") -> Tokenizer:
    """Load a tokenizer.

    Args:
        path_or_name: a checkpoint file, or hf:OWNER/NAME on the hub; None or "nano" is the model inside the package.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, float32, mixed (tokens in float32, pixels in bf16) or bf16.

    Raises:
        InputError: there is no such file or device, or the file is not ours.
    """
    chosen = choose_device(device)
    checkpoint = _read(path_or_name)
    model = checkpoint.model.to(chosen)
    prepare_model(model, chosen)
    return Tokenizer(model, checkpoint.record, checkpoint.sha256, chosen, choose_precision(precision, chosen))


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A loaded model.

    Images go in as b 3 h w float tensors in [0, 1], as b h w 3 uint8 arrays, or as paths and PIL images, of which one
    alone will do (they are fitted: short side resized, centre crop). A tensor 3 h w or an array h w 3 is one image.
    Token ids come out as one int64 tensor (k) per image; a continuous model gives float tensors (k c) instead.
    """

    # Methods use no_grad, not inference_mode: what they return may enter a computation of the caller's with gradients.
    model: TokenizerModel
    record: Record
    sha256: str
    device: torch.device
    precision: Precision

    @property
    def config(self) -> TokenizerConfig:
        """Sizes, budgets and codebook of the model."""
        return self.model.config

    @property
    def budgets(self) -> tuple[int, ...]:
        """The token counts an image may have, smallest first."""
        return self.config.budgets

    @property
    def model_id(self) -> str:
        """First 16 hex digits of the file's sha256."""
        return self.sha256[:16]

    def offering(self, budgets: Sequence[int]) -> Tokenizer:
        """The same weights with the budgets that are asked for, which may be any for a prefix tokenizer.

        Raises:
            InputError: the model cannot give one of them.
        """
        model = copy.copy(self.model)  # shallow: the copy has a configuration of its own and the same weights
        model.config = self.config.offering(budgets)
        return dataclasses.replace(self, model=model)

    def __repr__(self) -> str:
        """One line: the name, pixels, budgets, id and device."""
        config, budgets = self.config, f"{self.budgets[0]}…{self.budgets[-1]} tokens"
        sizes = f"{config.image_size} px, {budgets}"
        return f"Tokenizer({config.name}, {sizes}, {self.model_id}, on {self.device} in {self.precision})"

    def rollout(self, images: Images) -> Iterator[Iteration]:
        """One record per iteration: its tokens and its reconstruction (b 3 S S, unclamped)."""
        for latents in self.iterate(self.as_pixels(images)):
            yield Iteration(latents, self.reconstruct(latents.vectors))

    def iterate(self, pixels: Tensor, budget: int | None = None) -> Iterator[Latents]:
        """Tokens after each iteration, up to a budget; no pixels are decoded. Pixels as as_pixels gives them."""
        state = self.start(pixels)
        while state.t < len(self.budgets) and self.budgets[state.t] <= (budget or self.budgets[-1]):
            state, latents = self.advance(state)
            yield latents

    @torch.no_grad()
    def start(self, pixels: Tensor) -> State:
        """The state of a rollout before its first iteration, of pixels as as_pixels gives them."""
        with autocast(self.device, self.precision):
            return self.model.start(pixels)

    @torch.no_grad()
    def advance(self, state: State) -> tuple[State, Latents]:
        """One iteration: the next state, and the tokens read out of it."""
        with autocast(self.device, self.precision):
            return self.model.advance(state)

    @torch.no_grad()
    def reconstruct(self, vectors: Tensor) -> Tensor:
        """Latents.vectors (b k c) → b 3 S S float32, unclamped, on the model's device."""
        # Nothing of this is read by a later iteration, so that it cannot change a token.
        with autocast(self.device, self.precision, only_pixels=True):
            return self.model.decode(vectors).float()

    @torch.no_grad()
    def attention(self, vectors: Tensor, layer: int = -2) -> Tensor:
        """How much each grid position attends to each latent token when Latents.vectors (b k c) are decoded.

        b n k, mean over heads of a softmax over all keys, not renormalised over the latents; float32 whatever the
        precision. `layer` is the decoder's, negative from the end.
        """
        return self.model.attention(vectors.float(), layer).mean(dim=1)

    @torch.no_grad()
    def encode(self, images: Images, budget: int | None = None, l1: float | None = None) -> list[Tensor]:
        """Tokens of each image.

        Args:
            images: see the class.
            budget: tokens for every image, one of `budgets`; the default is the largest.
            l1: instead, each image gets the smallest budget whose mean absolute error is below this (the largest
                where none is); an image that is done leaves the batch.

        Raises:
            InputError: no such budget, or both are given.
        """
        if budget is not None and l1 is not None:
            raise InputError("Give a budget or an l1 threshold, not both.")
        budget = self.budgets[-1] if budget is None else budget
        # This raises for a budget that the model cannot give, and lets a prefix tokenizer read out that budget alone.
        tokenizer = self.offering((budget,))
        pixels = self.as_pixels(images)
        if l1 is not None:
            return self._encode_until(pixels, l1)
        *_, latents = tokenizer.iterate(pixels, budget)
        return list(latents.tokens.cpu())

    def _encode_until(self, pixels: Tensor, threshold: float) -> list[Tensor]:
        # All images are one batch that shrinks as they leave it; padding it would compute zeros for those gone.
        scheduler = RolloutScheduler(self, self.budgets, threshold, len(pixels), padded=False)
        tokens = {image.index: image.tokens[-1] for finished in scheduler.run_batch(pixels) for image in finished}
        return [tokens[index] for index in range(len(pixels))]

    @torch.no_grad()
    def decode(self, tokens: Sequence[Tensor | np.ndarray]) -> Tensor:
        """Tokens of each image, of any budgets, → b 3 S S float32 in [0, 1] on the CPU.

        Raises:
            InputError: a token id is not in the codebook, or there are more tokens than the model knows.
        """
        rows = [torch.as_tensor(np.asarray(row)) for row in tokens]
        side = self.config.image_size
        images = torch.empty(len(rows), 3, side, side)
        # A batch has one length, so the images of each budget are decoded together.
        for budget in sorted({len(row) for row in rows}):
            chosen = [i for i, row in enumerate(rows) if len(row) == budget]
            images[chosen] = self.decode_batch(torch.stack([rows[i] for i in chosen])).clamp(0, 1).cpu()
        return images

    @torch.no_grad()
    def decode_batch(self, tokens: Tensor) -> Tensor:
        """b k ids (or b k c latents) → b 3 S S float32, unclamped, on the model's device."""
        self._check(tokens)
        tokens = tokens.float() if self.config.codes == 0 else tokens.long()
        return self.reconstruct(self.model.vectors(tokens.to(self.device)))

    def as_pixels(self, images: Images) -> Tensor:
        """Any accepted form → b 3 S S float32 on the model's device.

        Raises:
            InputError: a tensor or array is not of the model's size.
            ImageProblem: a file cannot be read as an image.
        """
        side = self.config.image_size
        if isinstance(images, str | Path | Image):
            images = [images]
        if isinstance(images, Tensor | np.ndarray) and images.ndim == 3:
            images = images[None]
        if isinstance(images, np.ndarray):
            # The bytes are sent first and become floats on the device, since floats are four times as large.
            images = self._sent(torch.from_numpy(np.ascontiguousarray(images))).permute(0, 3, 1, 2).float() / 255
        elif not isinstance(images, Tensor):
            return self.as_pixels(np.stack([fit(_opened(image), side) for image in images]))
        if images.shape[1:] != (3, side, side):
            raise InputError(f"This model takes 3×{side}×{side} images, not {'×'.join(map(str, images.shape[1:]))}.")
        return images.to(self.device, torch.float32)

    def _sent(self, raw: Tensor) -> Tensor:
        """Bytes on a GPU, while the GPU still works on something else; elsewhere the same tensor."""
        return raw.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else raw

    def _check(self, tokens: Tensor) -> None:
        if tokens.shape[1] > self.budgets[-1]:
            raise InputError(f"{tokens.shape[1]} tokens are more than the {self.budgets[-1]} that this model knows.")
        if self.config.codes and (int(tokens.max()) >= self.config.codes or int(tokens.min()) < 0):
            raise InputError(f"A token id is outside this model's codebook of {self.config.codes}.")


def _opened(picture: Picture) -> Image:
    """An RGB image; a file is read as `alit tokenize` reads it, upright."""
    return picture.convert("RGB") if isinstance(picture, Image) else decode(Path(picture).read_bytes())


def _read(path_or_name: str | Path | None) -> Checkpoint:
    if path_or_name in (None, EMBEDDED):
        with embedded() as path:
            return read_checkpoint(path)
    return read_checkpoint(checkpoint_file(str(path_or_name)))
