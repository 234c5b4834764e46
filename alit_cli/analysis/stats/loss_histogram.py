"""Losses counted between fine thresholds, so that any number of images takes the same room."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Four digits take away the error of the product, so that each edge is the number that a user would write.
EDGES = np.round(np.arange(2001) * 0.0005, 4).astype(np.float32)
"""The thresholds, from 0 to 1."""


def histogram(losses: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """How many losses are below each of the E edges but not below the one before: E + 1 counts, the last is the rest.

    Compared strictly and in float32, as a selection does; NaN is not counted.
    """
    known = losses[~np.isnan(losses)].astype(np.float32)
    # A loss that equals an edge is not below it, so it is counted to the right of it.
    return np.bincount(np.searchsorted(EDGES, known, side="right"), minlength=len(EDGES) + 1)
