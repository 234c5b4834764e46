"""Several tokenizers on the same images: what their tokens cost and how good the pictures are, from tables alone.

The paper's Table 1 and Figure 2. Fixed-length tokenizers have one budget, adaptive ones several; what each image would
take by its own need is computed for every adaptive tokenizer and for all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.frechet import Moments, Reference
from alit_cli.analysis.stats.loss_histogram import EDGES, histogram
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.errors import InputError

ROWS = 20_000
"""Rows held at a time while tables stream."""
FEATURE_ROWS = 2000
"""Rows held at a time, where a row has one long feature per budget."""
MEASURES = ("l1", "psnr", "ssim", "lpips")
RANK = "class_rank"
"""The rank of the true class, 1 for the first guess, of `alit score --task classify`."""
NEED_POINTS = 25
"""Thresholds of L1 at which needs are computed, over the range that the images have."""
ALL = "all, by each image's need"
"""The name of the mixture of every tokenizer."""


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
        accuracy: share of the images whose true class is the first guess, 0–1.
        frechet: squared Fréchet distance of the reconstructions' features to the originals'.
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
    """The numbers of one table, for the images that all tables have, in one common order.

    Attributes:
        rows: the numbers of these images' rows in the table, n.
        values: by measure, n T.
    """

    name: str
    tables: Tables
    rows: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    @property
    def bits(self) -> NDArray[np.float64]:
        """The bits of one image at each budget, T."""
        # A token has as many bits as its codebook needs, which differs from tokenizer to tokenizer.
        return np.asarray(self.tables.budgets, np.float64) * self.tables.info.bits_per_token

    @property
    def pixels(self) -> int:
        return self.tables.info.image_size**2


def compare(tables: Sequence[Tables], names: Sequence[str] = ()) -> Comparison:
    """Read every table, keep the images that all of them have, and compute every point.

    Args:
        tables: of different tokenizers, of the same images and the same fit.
        names: what to call them; empty: by their models.

    Raises:
        InputError: fewer than two tables, names that do not fit, another fit, no image in common, a table without
            losses or one whose images stopped early.
    """
    called = _names(tables, names)
    _check(tables)
    read, remarks = _matched(tables, called)
    features, distances = _frechet(read)
    points = [point for one in read for point in _budget_points(one, distances.get(one.name, []))]
    for one in read:
        # With a single budget every image has the same choice, so a curve by need would be one point.
        if len(one.tables.budgets) > 1:
            points += _need_points(one.name, [one])
    points += _need_points(ALL, read)
    below = {one.name: _counts_below(one.values["l1"]) for one in read}
    budgets = {one.name: one.tables.budgets for one in read}
    return Comparison(tuple(called), tuple(points), below, budgets, len(read[0].rows), features, tuple(remarks))


def _names(tables: Sequence[Tables], names: Sequence[str]) -> list[str]:
    """One name per table; models that are called alike are told apart by their tables."""
    if len(tables) < 2:
        raise InputError("A comparison needs two token tables or more.")
    if names:
        if len(names) != len(tables):
            raise InputError(f"--names gives {len(names)} names for {len(tables)} tables; give one for each.")
        # The name of the mixture is taken, because both are lines of the same figure.
        if len(set(names)) < len(names) or ALL in names:
            raise InputError("--names gives one name twice; tables are told apart by their names.")
        return list(names)
    # A user who gave no names still reads two tables of one model apart, by their files.
    models = [table.info.model for table in tables]
    called = [
        model if models.count(model) == 1 else f"{model} ({table.path.stem})"
        for model, table in zip(models, tables, strict=True)
    ]
    if len(set(called)) < len(called):
        raise InputError("Two of the tables have the same name and the same model; tell them apart with --names.")
    return called


def _check(tables: Sequence[Tables]) -> None:
    first = tables[0]
    for table in tables:
        # This raises for a table without losses, with a sentence that says how to make them.
        table.find("l1")
        if table.info.stop is not None:
            raise InputError(
                f"'{table.name}' stopped each image at l1<{table.info.stop:g}, so its later budgets hold the hard "
                "images only; tokenize without --stop to compare tokenizers."
            )
        # Fits cut or stretch pictures differently, so errors of two fits are of two pictures.
        if table.info.fit != first.info.fit:
            raise InputError(
                f"'{table.name}' was made with --fit {table.info.fit}, '{first.name}' with --fit {first.info.fit}: "
                "their errors are of different pictures. Tokenize both alike."
            )


def _matched(tables: Sequence[Tables], names: Sequence[str]) -> tuple[list[_Read], list[str]]:
    """The tables' numbers in the order of the first, for the images that all of them have; and remarks."""
    keys: list[pd.Index] = []
    for table in tables:
        good = [
            chunk.table["image"].to_numpy(zero_copy_only=False)[chunk.ok]
            for chunk in table.stream([], ["image"], ROWS)
        ]  # fmt: skip
        keys.append(pd.Index(np.concatenate(good) if good else np.zeros(0, np.object_)))
    # The order of the first table is kept throughout, so that a row is one image in every table.
    shared = keys[0]
    for other in keys[1:]:
        shared = shared[shared.isin(other)]
    if not len(shared):
        raise InputError(
            f"'{tables[0].name}' and the other tables have no image in common: they name images like "
            f"'{keys[0][0] if len(keys[0]) else ''}' and '{keys[-1][0] if len(keys[-1]) else ''}'. Tokenize the same "
            "folder with each."
        )
    remarks = [
        f"{len(own) - len(shared)} of the {len(own)} images of '{table.name}' are not in every table, and are left out."
        for table, own in zip(tables, keys, strict=True)
        if len(own) > len(shared)
    ]
    sizes = {table.info.image_size for table in tables}
    if len(sizes) > 1:
        said = ", ".join(f"{name} at {table.info.image_size}" for name, table in zip(names, tables, strict=True))
        remarks.append(f"Errors are of pictures of different sizes ({said} px); a smaller one has less detail to lose.")
    read = [
        _read(name, table, own.get_indexer(shared)) for name, table, own in zip(names, tables, keys, strict=True)
    ]  # fmt: skip
    for one in read:
        # A folder of scores often holds those of several tables; each takes its own, so that no list of them is needed.
        if one.tables.foreign and not one.tables.sources:
            count = len(one.tables.foreign)
            remarks.append(f"None of the {count} score tables that were found belongs to '{one.tables.name}'.")
        remarks += one.tables.remarks
    return read, remarks


def _read(name: str, tables: Tables, positions: NDArray[np.int64]) -> _Read:
    """The measures of a table; `positions` are those of the shared images among its good rows."""
    # A score per image cannot be compared by budget, so only measures of every budget are read.
    wanted = [measure for measure in (*MEASURES, RANK) if tables.has(measure) and tables.find(measure).per_budget]
    parts: dict[str, list[NDArray[np.float64]]] = {measure: [] for measure in wanted}
    good: list[NDArray[np.int64]] = []
    for chunk in tables.stream(wanted, rows=ROWS):
        good.append(chunk.start + np.flatnonzero(chunk.ok))
        for measure in wanted:
            parts[measure].append(chunk.columns[measure][chunk.ok].astype(np.float64))
    values = {measure: np.concatenate(columns)[positions] for measure, columns in parts.items()}
    # Positions count good rows only, and these are their numbers in the whole table.
    return _Read(name, tables, np.concatenate(good)[positions], values)


def _budget_points(one: _Read, distances: Sequence[float]) -> list[Point]:
    """Every image at each budget."""
    points = []
    for step, budget in enumerate(one.tables.budgets):
        means = {measure: _mean(one.values, measure, step) for measure in MEASURES}
        points.append(
            Point(
                one.name,
                "budget",
                budget,
                math.nan,
                len(one.rows),
                budget,
                float(one.bits[step]),
                float(one.bits[step]) / one.pixels,
                **means,
                accuracy=_accuracy(one.values[RANK][:, step]) if RANK in one.values else math.nan,
                frechet=distances[step] if distances else math.nan,
            )
        )
    return points


def _need_points(name: str, read: Sequence[_Read]) -> list[Point]:
    """For rising thresholds, each image at its cheapest choice of tokenizer and budget whose L1 is below.

    A choice is taken by bits, since tokens of different codebooks do not cost the same. An image that no budget of one
    tokenizer satisfies gets the largest, as in a selection; of several tokenizers it gets the choice of its lowest L1.
    """
    bits = np.concatenate([one.bits for one in read])
    # Choices are ordered by bits, so that the first one that satisfies an image is its cheapest.
    order = np.argsort(bits, kind="stable")
    tokens = np.concatenate([one.tables.budgets for one in read]).astype(np.float64)[order]
    pixels = np.concatenate([np.full(len(one.bits), float(one.pixels)) for one in read])[order]
    bits = bits[order]
    l1 = np.concatenate([one.values["l1"] for one in read], axis=1)[:, order]
    # A mean over mixed choices needs the measure of every tokenizer.
    shared = [measure for measure in MEASURES if all(measure in one.values for one in read)]
    values = {measure: np.concatenate([one.values[measure] for one in read], axis=1)[:, order] for measure in shared}
    # The outer 2 % are left out, so that a few odd images do not stretch the axis.
    low, high = np.nanquantile(np.nanmin(l1, axis=1), 0.02), np.nanquantile(np.nanmax(l1, axis=1), 0.98)
    rows, points = np.arange(len(l1)), []
    # Rounding may make two thresholds one, and np.unique drops the second.
    for threshold in np.unique(np.round(np.linspace(low, high, NEED_POINTS), 4)):
        # Compared in float32, as a selection does; the first True of a row is the cheapest choice.
        satisfied = l1.astype(np.float32) < np.float32(threshold)
        # Columns are ordered by bits, so the last one is the largest budget of a single tokenizer.
        fallback = np.nanargmin(l1, axis=1) if len(read) > 1 else l1.shape[1] - 1
        choice = np.where(satisfied.any(axis=1), satisfied.argmax(axis=1), fallback)
        points.append(
            Point(
                name,
                "need",
                None,
                float(threshold),
                len(rows),
                float(tokens[choice].mean()),
                float(bits[choice].mean()),
                float((bits / pixels)[choice].mean()),
                **{measure: float(np.nanmean(values[measure][rows, choice])) for measure in shared},
                satisfied=float(satisfied.any(axis=1).mean()),
            )
        )
    return points


def _frechet(read: Sequence[_Read]) -> tuple[str, dict[str, list[float]]]:
    """The first network whose features every table has, and each tokenizer's distances from its originals."""
    networks = [set(one.tables.models("features")) for one in read]
    shared = sorted(set.intersection(*networks)) if networks else []
    if not shared:
        return "", {}
    names = [f"features@{shared[0]}", f"features_original@{shared[0]}"]
    distances: dict[str, list[float]] = {}
    # Only shared images count, so that all distances are of the same originals.
    for one in read:
        wanted = np.zeros(one.tables.rows(), np.bool_)
        wanted[one.rows] = True
        original: Moments | None = None
        moments: list[Moments] = []
        for chunk in one.tables.stream(names, rows=FEATURE_ROWS):
            rows = wanted[chunk.start : chunk.start + len(chunk.ok)]
            features, fitted = (chunk.columns[name][rows] for name in names)
            if not len(fitted):
                continue
            if original is None:
                # Any point near the features will do; it only keeps digits from being lost.
                centre = np.nanmean(fitted.astype(np.float64), axis=0)
                original, moments = Moments(centre), [Moments(centre) for _ in one.tables.budgets]
            original.add(fitted)
            for step, moment in enumerate(moments):
                moment.add(features[:, step])
        # A covariance takes two images. Distances are compared, so where one tokenizer has none, none is given.
        if original is None or original.n < 2:
            return "", {}
        reference = Reference(original)
        distances[one.name] = [reference.distance(moment) for moment in moments]
    return shared[0], distances


def _counts_below(l1: NDArray[np.float64]) -> NDArray[np.int64]:
    """T E: images whose L1 is below each of EDGES."""
    # The last count of a histogram holds the losses above every edge, which are below none.
    return np.stack([histogram(column).cumsum()[:-1] for column in l1.T])


def _mean(values: Mapping[str, NDArray[np.float64]], measure: str, step: int) -> float:
    column = values[measure][:, step] if measure in values else np.zeros(0)
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
