"""`alit analyze probe`: images through the encoder, its output pooled at every iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alit_cli.data.pictures.fitting import Picture
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.pooled import Pooled, raw_pixels
from alit_cli.errors import InputError
from alit_cli.jobs.attention import checked_iterations
from alit_cli.jobs.reading.batches import ImageRecord, pixels_of, through_model
from alit_cli.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class ProbeJob:
    """What is encoded.

    Attributes:
        items: the images.
        iterations: counted from 0; None is all.
        first: so many of the latents have a pool of their own; None is the model's first budget.
        batch_size: images at once.
    """

    items: Sequence[Item]
    iterations: tuple[int, ...] | None = None
    first: int | None = None
    batch_size: int = 16


def encode_pooled(tokenizer: Tokenizer, job: ProbeJob) -> Iterator[ImageRecord[Pooled]]:
    """The pooled vectors of every image in order; one that cannot be read is a record with a problem.

    Yields: ImageRecord, first an empty one at zero.

    Raises:
        InputError: the model has no such iteration, or fewer latents than `first` at the earliest one.
    """
    if tokenizer.config.kind != "alit":  # the pools below rely on how its encoder lays out a sequence
        raise InputError(f"A probe reads the encoder of an ALIT model, and {tokenizer.config.name} is another one.")
    iterations = checked_iterations(tokenizer, job.iterations)
    least = tokenizer.budgets[iterations[0]]
    first = tokenizer.budgets[0] if job.first is None else job.first
    if not 1 <= first <= least:
        raise InputError(f"There are {least} latent tokens at iteration {iterations[0]}, not {first}, to pool first.")

    def pooled_of(pictures: Sequence[Picture], _before: int) -> Iterator[Pooled]:
        return _pooled(tokenizer, pictures, iterations, first)

    yield from through_model(job.items, tokenizer.config.image_size, job.batch_size, pooled_of)


def _pooled(
    tokenizer: Tokenizer, pictures: Sequence[Picture], iterations: tuple[int, ...], first: int
) -> Iterator[Pooled]:
    """The vectors of one batch."""
    fitted = pixels_of(pictures)
    state = tokenizer.start(tokenizer.as_pixels(np.stack(fitted)))
    n = tokenizer.config.grid_side**2
    pools: list[Tensor] = []
    # Later iterations than the last one asked for are not computed.
    while state.t <= iterations[-1]:
        state, latents = tokenizer.advance(state)
        if latents.t in iterations:
            # The first position is the class token, then the grid, then the latent tokens.
            grid, tokens = state.x[:, 1 : 1 + n].float(), state.x[:, 1 + n :].float()
            pools.append(torch.stack([tokens.mean(1), tokens[:, :first].mean(1), grid.mean(1)]))
    values = torch.stack(pools, dim=2).permute(1, 0, 2, 3).cpu().numpy()  # b, three pools, T, w
    for picture, pixels, (every, few, image) in zip(pictures, fitted, values, strict=True):
        tokens_at = tuple(tokenizer.budgets[t] for t in iterations)
        yield Pooled(picture.image, iterations, tokens_at, every, few, image, raw_pixels(pixels), n)
