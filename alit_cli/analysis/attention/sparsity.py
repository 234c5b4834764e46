"""How narrow each token's attention map is, and whether the token keeps its place from iteration to iteration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alit_cli.data.tables.token_maps import Maps, TokenMaps

Floats = NDArray[np.float64]

DECILE = 0.1
"""The share of positions whose mass says how narrow a map is."""


@dataclass(frozen=True)
class Spread:
    """One iteration of one image: means over its tokens.

    Attributes:
        iteration, tokens: from 0; latent tokens there.
        latent_share: of a position's attention, what goes to latent tokens at all, 0–1.
        entropy: of a token's map over the positions, as a share of an even map's: 1 is even, 0 a single position.
        top_decile: share of a token's mass in the tenth of the positions that have most of it; even is 0.1.
        stability: Pearson correlation of a token's map with its own at the next iteration that was looked at; NaN at
            the last.
        stability_others: the same with the maps of all other tokens there, for comparison.
        overlap: intersection over union of the two maps' most attended tenths.
    """

    iteration: int
    tokens: int
    latent_share: float
    entropy: float
    top_decile: float
    stability: float
    stability_others: float
    overlap: float


def spreads(maps: TokenMaps) -> list[Spread]:
    """Sparsity and stability at every iteration of an image."""
    flat = [values.reshape(len(values), -1).astype(np.float64) for values in maps.maps]
    rows = []
    for index, (iteration, values) in enumerate(zip(maps.iterations, flat, strict=True)):
        shares = values / values.sum(axis=1, keepdims=True)
        # The last iteration has no next one to be compared with.
        own, others, overlap = _stability(values, flat[index + 1]) if index + 1 < len(flat) else (np.nan,) * 3
        rows.append(
            Spread(
                iteration=iteration,
                tokens=len(values),
                # Over all tokens the attention of a position sums to what it gives to tokens at all.
                latent_share=float(values.sum(axis=0).mean()),
                entropy=float(entropy(shares).mean()),
                top_decile=float(top_share(shares).mean()),
                stability=own,
                stability_others=others,
                overlap=overlap,
            )
        )
    return rows


def entropy(shares: Floats) -> Floats:
    """Entropy of each row (k p, each summing to 1) over that of an even one, 0–1."""
    # A share of 0 adds nothing to an entropy; the logarithm of 1 stands in for that of 0.
    logs = np.log(np.where(shares > 0, shares, 1))
    entropies: Floats = -(shares * logs).sum(axis=1) / np.log(shares.shape[1])
    return entropies


def top_share(shares: Floats, part: float = DECILE) -> Floats:
    """Mass of each row (k p) in the `part` of its positions that has most; a fraction of a position counts as that."""
    ordered = np.sort(shares, axis=1)[:, ::-1]
    # A tenth of 64 positions is 6.4, and rounding would let maps of two grids differ for no reason.
    whole, rest = divmod(part * shares.shape[1], 1)
    sums: Floats = ordered[:, : int(whole)].sum(axis=1) + rest * ordered[:, int(whole)]
    return sums


def correlations(a: Floats, b: Floats) -> Floats:
    """Pearson correlation of every row of a (k p) with every row of b (l p): k l; NaN for a constant row."""
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    lengths = np.sqrt(np.outer((a**2).sum(axis=1), (b**2).sum(axis=1)))
    cosines: Floats = (a @ b.T) / np.where(lengths > 0, lengths, np.nan)
    return cosines


class Sameness:
    """How alike one token's maps are in different images, gathered image by image.

    A token that looks at one place whatever is there has maps that correlate across images; one that follows objects
    has not.
    """

    def __init__(self) -> None:
        self.images = 0
        self.sums: dict[int, Floats] = {}

    def add(self, maps: TokenMaps) -> None:
        """Take in an image; all must come from one model and the same iterations."""
        self.images += 1
        for iteration, values in zip(maps.iterations, maps.maps, strict=True):
            # Centred maps of length 1 have their correlation as a dot product, so a sum of them is all that is kept.
            flat = values.reshape(len(values), -1).astype(np.float64)
            flat -= flat.mean(axis=1, keepdims=True)
            length = np.linalg.norm(flat, axis=1, keepdims=True)
            unit = flat / np.where(length > 0, length, 1)
            self.sums[iteration] = self.sums.get(iteration, 0) + unit

    def of(self, iteration: int) -> float:
        """Mean correlation of a token's maps in two different images, over tokens; NaN for fewer than two images."""
        if self.images < 2:
            return float("nan")
        squares = (self.sums[iteration] ** 2).sum(axis=1)  # of n unit vectors: n + every ordered pair's correlation
        # Each map's product with itself is 1 and is taken out; what is left are n(n - 1) pairs.
        return float(((squares - self.images) / (self.images * (self.images - 1))).mean())


def _stability(now: Floats, later: Floats) -> tuple[float, float, float]:
    """Mean over the tokens of `now` (k p): correlation with themselves and with others later (l p), and overlap."""
    correlation = correlations(now, later)
    # Later iterations have more tokens, but the earlier ones keep their numbers.
    same = np.arange(correlation.shape[0])[:, None] == np.arange(correlation.shape[1])
    a, b = _top(now), _top(later[: len(now)])
    overlap = (a & b).sum(axis=1) / (a | b).sum(axis=1)
    return _mean(correlation[same]), _mean(correlation[~same]), float(overlap.mean())


def _top(values: Floats) -> NDArray[np.bool_]:
    """The most attended tenth of the positions of each row, at least one."""
    count = max(1, round(DECILE * values.shape[1]))
    edge = np.partition(values, -count, axis=1)[:, -count, None]
    brightest: NDArray[np.bool_] = values >= edge
    return brightest


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def upsample(maps: Maps, side: int) -> Maps:
    """k g g → k side side, bilinear between the centres of the positions; beyond the outermost, their value."""
    grid = maps.shape[-1]
    places = np.clip((np.arange(side) + 0.5) * grid / side - 0.5, 0, grid - 1)
    # Each pixel takes its two nearest positions, by how near they are; one matrix serves both axes.
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(grid))).astype(np.float32)
    resized: Maps = weights @ maps @ weights.T
    return resized
