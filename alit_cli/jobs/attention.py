"""`alit analyze attention`: images through the rollout, and what the decoder attends to at every iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alit_cli.data.pictures.fitting import Picture, Pixels
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.token_maps import TokenMaps
from alit_cli.errors import InputError
from alit_cli.jobs.reading.batches import ImageRecord, pixels_of, through_model
from alit_cli.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class AttentionJob:
    """What is looked at.

    Attributes:
        items: the images.
        layer: of the decoder, from 0; negative counts from the end.
        iterations: counted from 0; None is all.
        decoded: as many of the first images carry their reconstructions.
        batch_size: images at once.
    """

    items: Sequence[Item]
    layer: int = -2
    iterations: tuple[int, ...] | None = None
    decoded: int = 0
    batch_size: int = 16


def attend(tokenizer: Tokenizer, job: AttentionJob) -> Iterator[ImageRecord[TokenMaps]]:
    """The maps of every image in order; one that cannot be read is a record with a problem.

    Yields: ImageRecord, first an empty one at zero.

    Raises:
        InputError: the model has no such layer or iteration.
    """
    iterations = checked_iterations(tokenizer, job.iterations)
    layers = tokenizer.config.decoder_layers
    if not layers:
        raise InputError(f"The tokenizer {tokenizer.config.name} decodes without attention to its tokens.")
    if not -layers <= job.layer < layers:
        raise InputError(f"This model's decoder has {layers} layers: --layer is one of {-layers} … {layers - 1}.")

    def maps_of(pictures: Sequence[Picture], before: int) -> Iterator[TokenMaps]:
        # The first `decoded` images of the whole job may end in the middle of a batch.
        return _maps(tokenizer, pictures, iterations, job.layer, max(0, job.decoded - before))

    yield from through_model(job.items, tokenizer.config.image_size, job.batch_size, maps_of)


def checked_iterations(tokenizer: Tokenizer, iterations: tuple[int, ...] | None) -> tuple[int, ...]:
    """The iterations in rising order, all of them for None. Raises InputError: the model has no such iteration."""
    known = range(len(tokenizer.budgets))
    for t in iterations or ():
        if t not in known:
            raise InputError(f"This model has the iterations 0 … {known[-1]}, not {t}.")
    return tuple(sorted(set(iterations))) if iterations else tuple(known)


def _maps(
    tokenizer: Tokenizer, pictures: Sequence[Picture], iterations: tuple[int, ...], layer: int, decoded: int
) -> Iterator[TokenMaps]:
    """The maps of one batch, with reconstructions of its first `decoded` images."""
    pixels = pixels_of(pictures)
    config = tokenizer.config
    attention: list[np.ndarray] = []
    pictured: list[np.ndarray] = []
    for latents in tokenizer.iterate(tokenizer.as_pixels(np.stack(pixels)), config.budgets[iterations[-1]]):
        if latents.t not in iterations:
            continue
        # Rows of the attention are positions of the grid and columns are tokens; a map belongs to a token.
        weights = tokenizer.attention(latents.vectors, layer).transpose(1, 2)
        side = config.grid_side
        attention.append(weights.reshape(len(pixels), latents.budget, side, side).cpu().numpy())
        if decoded:
            images = tokenizer.reconstruct(latents.vectors[:decoded]).clamp(0, 1).mul(255).round().byte()
            pictured.append(images.permute(0, 2, 3, 1).cpu().numpy())
    for row, (picture, fitted) in enumerate(zip(pictures, pixels, strict=True)):
        images_of_row: tuple[Pixels, ...] = tuple(images[row] for images in pictured) if row < decoded else ()
        yield TokenMaps(
            image=picture.image,
            width=picture.width or 0,
            height=picture.height or 0,
            pixels=fitted,
            iterations=iterations,
            maps=tuple(values[row] for values in attention),
            decoded=images_of_row,
            first=config.budgets[0],
        )
