"""Several tokenizers on the same images: what their tokens cost and how good the pictures are, from tables alone.

The paper's Table 1 and Figure 2. Fixed-length tokenizers have one budget, adaptive ones several; what each image would
take by its own need is computed for every adaptive tokenizer and for all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.matched import ALL, Choices, Matched, Tokenizer, match_tables
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.frechet import Moments, Reference
from alit_cli.analysis.stats.loss_histogram import EDGES, histogram
from alit_cli.analysis.studies.saving import save_csv, save_parquet

FEATURE_ROWS = 2000
"""Rows held at a time, where a row has one long feature per budget."""
MEASURES = ("l1", "psnr", "ssim", "lpips")
RANK = "class_rank"
"""The rank of the true class, 1 for the first guess, of `alit score --task classify`."""
NEED_POINTS = 25
"""Thresholds of L1 at which needs are computed, over the range that the images have."""


@dataclass(frozen=True)
class Point:
    """One tokenizer at one budget, or at one threshold of need; NaN where the tables do not say.

    Attributes:
        tokenizer: its name, or ALL.
        way: 'budget', every image at this budget; or 'need', each image at its cheapest choice with an L1 below
            `threshold` (`_need_points` says what an image without one gets).
        budget: tokens per image; None for needs.
        threshold: of L1; NaN for budgets.
        images: those of the means.
        tokens, bits, bits_per_pixel: means over the images.
        l1, psnr, ssim, lpips: means over the images.
        accuracy: share of the images whose true class is the first guess of one network, 0–1.
        frechet: squared Fréchet distance of the reconstructions' features to the originals'; of budgets only.
        satisfied: share of the images with an L1 below the threshold, for needs.
    """

    tokenizer: str
    way: str
    budget: int | None
    threshold: float
    images: int
    tokens: float
    bits: float
    bits_per_pixel: float
    l1: float = math.nan
    psnr: float = math.nan
    ssim: float = math.nan
    lpips: float = math.nan
    accuracy: float = math.nan
    frechet: float = math.nan
    satisfied: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        names: what the tokenizers are called, in the order of their tables.
        points: every tokenizer at every budget, then every curve by need.
        below: by name, T E: how many images have an L1 below each of EDGES, at each budget.
        budgets: the budgets of each tokenizer, by its name.
        images: number of images that all tables have.
        features: the network of the Fréchet distances, '' where there are none.
        remarks: sentences that a reader must know.
    """

    names: tuple[str, ...]
    points: tuple[Point, ...]
    below: Mapping[str, NDArray[np.int64]]
    budgets: Mapping[str, tuple[int, ...]]
    images: int
    features: str
    remarks: tuple[str, ...]

    def of(self, name: str, way: str = "budget") -> list[Point]:
        """The points of a tokenizer."""
        return [point for point in self.points if point.tokenizer == name and point.way == way]


@dataclass(frozen=True)
class _Read:
    """The numbers of one tokenizer, for the images that all tables have, in one common order.

    Attributes:
        values: by measure, n T; NaN where a table that has the measure does not know it of this image.
    """

    tokenizer: Tokenizer
    values: Mapping[str, NDArray[np.float64]]


def compare(tables: Sequence[Tables], names: Sequence[str] = ()) -> Comparison:
    """Read every table, keep the images that all of them have, and compute every point.

    Args:
        tables: of different tokenizers, of the same images and the same fit.
        names: what to call them; empty: by their models.

    Raises:
        InputError: as `match_tables`.
    """
    matched = match_tables(tables, names)
    classifier = matched.network(RANK)
    read = _read(matched, classifier)
    features = _Features.of(matched)
    points = [
        point
        for reading in read
        for point in _budget_points(reading, features.distances.get(reading.tokenizer.name, ()))
    ]
    for reading in read:
        # With a single budget every image has the same choice, so a curve by need would be one point.
        if reading.tokenizer.adaptive:
            points += _need_points(reading.tokenizer.name, [reading])
    points += _need_points(ALL, read)
    return Comparison(
        names=matched.names,
        points=tuple(points),
        below={reading.tokenizer.name: _counts_below(reading.values["l1"]) for reading in read},
        budgets={reading.tokenizer.name: reading.tokenizer.tables.budgets for reading in read},
        images=matched.images,
        features=features.network,
        remarks=tuple(_remarks(matched, classifier, features)),
    )


def _remarks(matched: Matched, classifier: str, features: _Features) -> Iterator[str]:
    """What a reader must know; called last, because streaming finds out which rows have no scores."""
    yield from matched.remarks
    for tokenizer in matched.tokenizers:
        yield from tokenizer.tables.remarks
    yield from matched.network_remarks(RANK, "accuracy")
    yield from matched.network_remarks("features", "Fréchet distance")
    words = [tokenizer.tables.words(f"label_source@{classifier}") for tokenizer in matched.tokenizers if classifier]
    if any("predicted" in own for own in words):
        yield f"accuracy: labels are {classifier}'s own predictions on the originals, so that those are 100 %."
    yield from features.remarks


def _read(matched: Matched, classifier: str) -> list[_Read]:
    """The measures of every table.

    A mean of a measure is over the images that every table with this measure knows: over others, tokenizers would be
    compared on different images.
    """
    all_values: list[dict[str, NDArray[np.float64]]] = []
    for tokenizer in matched.tokenizers:
        # A score per image cannot be compared by budget, so only measures of every budget are read.
        wanted = [name for name in MEASURES if tokenizer.tables.has(name) and tokenizer.tables.find(name).per_budget]
        values = tokenizer.values([*wanted, *([f"{RANK}@{classifier}"] if classifier else [])])
        all_values.append({name.partition("@")[0]: column.astype(np.float64) for name, column in values.items()})
    for name in (*MEASURES, RANK):
        columns = [values[name] for values in all_values if name in values]
        unknown = np.any([np.isnan(column).any(axis=1) for column in columns], axis=0) if columns else None
        for column in columns:
            column[unknown] = np.nan
    return [_Read(tokenizer, values) for tokenizer, values in zip(matched.tokenizers, all_values, strict=True)]


def _budget_points(reading: _Read, distances: Sequence[float]) -> Iterator[Point]:
    """Every image at each budget."""
    info, rows = reading.tokenizer.tables.info, reading.tokenizer.rows
    for step, (budget, bits) in enumerate(zip(reading.tokenizer.tables.budgets, reading.tokenizer.bits, strict=True)):
        yield Point(
            reading.tokenizer.name,
            "budget",
            budget,
            math.nan,
            len(rows),
            budget,
            float(bits),
            float(bits) / info.image_size**2,
            **{measure: _mean(column[:, step]) for measure, column in reading.values.items() if measure != RANK},
            accuracy=_accuracy(reading.values[RANK][:, step]) if RANK in reading.values else math.nan,
            frechet=distances[step] if distances else math.nan,
        )


def _need_points(name: str, read: Sequence[_Read]) -> list[Point]:
    """For rising thresholds, each image at its cheapest choice of tokenizer and budget whose L1 is below.

    A choice is taken by bits, since tokens of different codebooks do not cost the same. An image that no budget of one
    tokenizer satisfies gets the largest, as in a selection; of several tokenizers it gets the choice of its lowest L1.
    """
    choices = Choices.of([reading.tokenizer for reading in read])
    # A mean over mixed choices needs the measure of every tokenizer.
    shared = [measure for measure in (*MEASURES, RANK) if all(measure in reading.values for reading in read)]
    values = {measure: choices.together([reading.values[measure] for reading in read]) for measure in shared}
    l1 = values["l1"]
    # The outer 2 % are left out, so that a few odd images do not stretch the axis.
    low, high = np.quantile(l1.min(axis=1), 0.02), np.quantile(l1.max(axis=1), 0.98)
    rows, points = np.arange(len(l1)), []
    # Rounding may make two thresholds one, and np.unique drops the second.
    for threshold in np.unique(np.round(np.linspace(low, high, NEED_POINTS), 4)):
        # Compared in float32, as a selection does; the first True of a row is the cheapest choice.
        satisfied = l1.astype(np.float32) < np.float32(threshold)
        # Columns are ordered by bits, so the last one is the largest budget of a single tokenizer.
        fallback = l1.argmin(axis=1) if len(read) > 1 else l1.shape[1] - 1
        choice = np.where(satisfied.any(axis=1), satisfied.argmax(axis=1), fallback)
        chosen = {measure: column[rows, choice] for measure, column in values.items()}
        point = Point(
            name,
            "need",
            None,
            float(threshold),
            len(rows),
            float(choices.tokens[choice].mean()),
            float(choices.bits[choice].mean()),
            float((choices.bits / choices.pixels)[choice].mean()),
            **{measure: _mean(column) for measure, column in chosen.items() if measure != RANK},
            satisfied=float(satisfied.any(axis=1).mean()),
        )
        points.append(replace(point, accuracy=_accuracy(chosen[RANK])) if RANK in chosen else point)
    return points


@dataclass(frozen=True)
class _Features:
    """Fréchet distances by one network: of each tokenizer, by its name, at each budget; empty without features."""

    network: str = ""
    distances: Mapping[str, Sequence[float]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, matched: Matched) -> _Features:
        """The distances of every tokenizer's reconstructions from its own originals, over the shared images."""
        network = matched.network("features")
        if not network:
            return cls()
        originals, moments = {}, {}
        for tokenizer in matched.tokenizers:
            originals[tokenizer.name], *moments[tokenizer.name] = _moments(tokenizer.tables, network)
        counts = {moment.n for own in (*moments.values(), originals.values()) for moment in own}
        if len(counts) > 1:
            some, most = min(counts), max(counts)
            said = f"The features of {network} are of {some} images in one table and of {most} in another"
            return cls(remarks=(f"{said}: score every table whole for Fréchet distances.",))
        n, dimension = min(counts), len(originals[matched.names[0]].centre)
        # A covariance takes two images.
        if n < 2:
            return cls()
        distances = {}
        for name, own in moments.items():
            reference = Reference(originals[name])
            distances[name] = [reference.distance(moment) for moment in own]
        few = f"A Fréchet distance of {dimension} features wants more images than these {n}: it is biased."
        return cls(network, distances, (few,) if n <= dimension else ())


def _moments(tables: Tables, network: str) -> list[Moments]:
    """What is left of the features of the originals, and of the reconstructions at each budget."""
    names = [f"features_original@{network}", f"features@{network}"]
    moments: list[Moments] = []
    for chunk in tables.stream(names, rows=FEATURE_ROWS, lists=True):
        originals, features = (chunk.columns[name][chunk.ok].astype(np.float64) for name in names)
        # The same images count at every budget.
        known = ~(np.isnan(originals).any(axis=1) | np.isnan(features).any(axis=(1, 2)))
        if not moments:
            # Any point near the features will do; it only keeps digits from being lost.
            centre = originals[known].mean(axis=0) if known.any() else np.zeros(originals.shape[1])
            moments = [Moments(centre) for _ in range(1 + features.shape[1])]
        for moment, own in zip(moments, (originals, *features.swapaxes(0, 1)), strict=True):
            moment.add(own[known])
    return moments


def _counts_below(l1: NDArray[np.float64]) -> NDArray[np.int64]:
    """T E: images whose L1 is below each of EDGES."""
    # The last count of a histogram holds the losses above every edge, which are below none.
    return np.stack([histogram(column).cumsum()[:-1] for column in l1.T])


def _mean(column: NDArray[np.float64]) -> float:
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else math.nan


def _accuracy(ranks: NDArray[np.float64]) -> float:
    """Share of first guesses among the images whose class is known."""
    known = ranks[np.isfinite(ranks)]
    return float((known == 1).mean()) if len(known) else math.nan


def save_comparison(result: Comparison, folder: Path) -> list[Path]:
    """Write the points as comparison.csv and comparison.parquet, and comparison_below.csv."""
    # Int64 is the integer type of pandas that can be missing, as the budget of a need is.
    table = pd.DataFrame(result.points).astype({"budget": "Int64"})
    # A column that no table fills would only make the file harder to read.
    table = table.loc[:, table.notna().any()]
    shares: list[tuple[Any, ...]] = []
    for name in result.names:
        for budget, counts in zip(result.budgets[name], result.below[name], strict=True):
            # Every tenth edge, 0.005 apart, up to where all images are below.
            for edge in range(10, len(EDGES), 10):
                shares.append((name, budget, round(float(EDGES[edge]), 4), int(counts[edge])))
                if counts[edge] == result.images:
                    break
    columns = ["tokenizer", "budget", "l1_below", "images"]
    return [
        save_csv(table, folder / "comparison.csv"),
        save_parquet(table, folder / "comparison.parquet"),
        save_csv(pd.DataFrame(shares, columns=columns), folder / "comparison_below.csv"),
    ]


def thresholds_for(result: Comparison) -> tuple[float, ...]:
    """Five round thresholds over what the images have at the middle of all budgets."""
    counts = np.concatenate([result.below[name] for name in result.names])
    share = counts[len(counts) // 2] / max(result.images, 1)
    # The thresholds lie where a tenth and nine tenths of the images are below, which shows the slope between.
    low, high = (float(EDGES[int((share >= part).argmax())]) for part in (0.1, 0.9))
    # Multiples of 0.005 are easy to read. If all images lie below the first, one threshold must still be given.
    rounded = np.round(np.linspace(low, high, 5) / 0.005) * 0.005
    return tuple(dict.fromkeys(round(float(value), 3) for value in rounded if value > 0)) or (0.1,)


def images_below(result: Comparison, name: str, step: int, threshold: float) -> int:
    """How many images of a tokenizer have an L1 below a threshold, rounded up to the next of EDGES."""
    place = int(np.searchsorted(EDGES, np.float32(threshold)))
    return int(result.below[name][step, min(place, len(EDGES) - 1)])
