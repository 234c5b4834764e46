"""What each token of an image is looked at from: attention maps, as they go from a model to the analyses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alit_cli.data.files import open_output
from alit_cli.data.marks import mark_archive
from alit_cli.data.pictures.fitting import Pixels

Maps = NDArray[np.float32]


# There is no generated comparison, because == of arrays gives no single True or False.
@dataclass(frozen=True, eq=False)
class TokenMaps:
    """The decoder's attention of one image, at some iterations.

    Attributes:
        image: the key.
        width, height: of the upright image before fitting.
        pixels: the fitted image, uint8 S S 3.
        iterations: counted from 0, in rising order.
        maps: one array per iteration, float32 k g g: how much of each grid position's attention (mean over heads) goes
            to each of the k latent tokens. The latents of an iteration sum to less than 1: positions attend to each
            other too.
        decoded: the reconstruction at each iteration, uint8 S S 3; empty where it was not asked for.
        first: latent tokens of the model's first budget.
    """

    image: str
    width: int
    height: int
    pixels: Pixels
    iterations: tuple[int, ...]
    maps: tuple[Maps, ...]
    decoded: tuple[Pixels, ...]
    first: int

    @property
    def tokens(self) -> tuple[int, ...]:
        """Latent tokens at each iteration."""
        return tuple(len(maps) for maps in self.maps)


def save_maps(maps: TokenMaps, path: Path) -> None:
    """Write an npz with `attention_<iteration>` (k g g) each, `iterations` and `image`; what `open_output` raises."""
    arrays = {f"attention_{t}": values for t, values in zip(maps.iterations, maps.maps, strict=True)}
    with open_output(path, "attention maps") as file:
        # An npz with pickled objects could run code when somebody loads it.
        np.savez_compressed(
            file, allow_pickle=False, image=np.array(maps.image), iterations=np.array(maps.iterations), **arrays
        )
        # The mark is part of the file before it gets its name: an npz without it would never be replaced again.
        mark_archive(file, "attention maps")
