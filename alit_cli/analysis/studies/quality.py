"""How good the tokens are at every budget, beside baselines of as many bits; read from tables alone."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.code_counts import CodeCounts
from alit_cli.analysis.stats.frechet import Moments, Reference
from alit_cli.analysis.stats.loss_histogram import EDGES, histogram
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.errors import InputError

ROWS = 20_000
"""Rows held at a time, where a row has the ids of every budget."""
FEATURE_ROWS = 2000
"""Rows held at a time, where a row has one long feature per budget."""
TOKENS, BASE = "tokens", "base"
OF_CODEC = "codec "
"""What stands before the name of another codec whose pictures were scored, so that none is taken for a baseline."""
SYSTEMS = {TOKENS: "tokens", "thumb": "thumbnail", "jpeg": "JPEG", "webp": "WebP", BASE: "base tokenizer"}
"""What is compared, and how it is called; all but the first come from `alit score --task baselines`."""
BASE_LABELS = {
    "as trained": "base tokenizer without tokens",
    "fine-tuned": "base tokenizer as fine-tuned",
    "imported": "base tokenizer as in the imported model",
}
"""How the base tokenizer's line is labelled, by what the score table says it is."""
MEASURES = ("l1", "psnr", "ssim", "lpips")
CURVE_STEP = 10
"""The table of images below thresholds has every tenth of EDGES: 0.005 apart."""


@dataclass(frozen=True)
class Row:
    """One system at one budget; NaN where the tables do not say.

    Attributes:
        system: 'tokens', 'thumb', 'jpeg', 'webp' (at the bits of these tokens), 'base' (the base tokenizer), or the
            name of another codec with the prefix of OF_CODEC, whose bits nobody knows.
        images: those with an L1.
        bits, bits_per_pixel: means over the images, as stored; codecs have files that may be larger than the tokens.
        l1, psnr, ssim, lpips: means over the images.
        frechet: squared Fréchet distance of the reconstructions' features to the originals'.
        codes_used: share of the codebook that occurs at this budget, 0–1.
        entropy: of the ids, in bits per token; at most log2 of the codebook.
        changed: share of the ids of the budget before that are different here, 0–1.
    """

    system: str
    budget: int | None
    images: int
    bits: float = math.nan
    bits_per_pixel: float = math.nan
    l1: float = math.nan
    psnr: float = math.nan
    ssim: float = math.nan
    lpips: float = math.nan
    frechet: float = math.nan
    codes_used: float = math.nan
    entropy: float = math.nan
    changed: float = math.nan


@dataclass(frozen=True)
class Base:
    """What the base tokenizer is that stands beside the tokens.

    Attributes:
        state: 'as trained', 'fine-tuned' or 'imported'; '' where the score table does not say.
        stage_l1: mean L1 after the base stage, on photographs held out in training; None where nobody recorded it.
    """

    state: str = ""
    stage_l1: float | None = None

    @property
    def label(self) -> str:
        """What figures and sentences call the base tokenizer."""
        return BASE_LABELS.get(self.state, SYSTEMS[BASE])


@dataclass(frozen=True)
class Quality:
    """The outcome.

    Attributes:
        rows: the tokens at each budget, then every baseline that there is.
        below: T E, share of the images whose L1 is below each of EDGES.
        frechet: the score table that the Fréchet distance comes from, '' where there is none.
        features: numbers of a feature; with fewer images than that the distance says little. 0 where there are none.
        codes: size of the codebook, 0 where latents are continuous.
        base: what the base tokenizer's row is.
        remarks: sentences that a reader must know.
    """

    rows: tuple[Row, ...]
    below: NDArray[np.float64]
    frechet: str
    features: int
    codes: int
    base: Base
    remarks: tuple[str, ...]

    def of(self, system: str) -> list[Row]:
        """The rows of a system."""
        return [row for row in self.rows if row.system == system]

    @property
    def levels(self) -> list[Row]:
        """The rows without a budget: the base tokenizer and the pictures of other codecs."""
        return [row for row in self.rows if row.budget is None]

    def label(self, row: Row) -> str:
        """What figures and sentences call a row's system."""
        if row.system == BASE:
            return self.base.label
        return SYSTEMS.get(row.system, row.system.removeprefix(OF_CODEC))


class _Means:
    """Sums and counts of columns that stream by: n or n T, NaN where there is nothing."""

    def __init__(self) -> None:
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}

    def add(self, name: str, values: NDArray[Any]) -> None:
        known = np.isfinite(values)
        self.sums[name] = self.sums.get(name, 0) + np.where(known, values, 0).sum(axis=0, dtype=np.float64)
        self.counts[name] = self.counts.get(name, 0) + known.sum(axis=0)

    def mean(self, name: str, step: int | None) -> float:
        """NaN where there is no such column."""
        if name not in self.sums or not (count := self.count(name, step)):
            return math.nan
        # A column per image has a scalar sum, which is indexed by an ellipsis.
        return float(np.asarray(self.sums[name])[... if step is None else step] / count)

    def count(self, name: str, step: int | None) -> int:
        return int(np.asarray(self.counts[name])[... if step is None else step]) if name in self.counts else 0


def measure_quality(tables: Tables) -> Quality:
    """Read the token table and what score tables there are, some rows at a time.

    Raises InputError for a table without losses or one whose images stopped early, for its later columns hold only the
    images that went on; and as `Tables.stream`.
    """
    _check(tables)
    strangers = dict(_strangers(tables))
    names = [name for name in _names(tables.codecs()) if tables.has(name) and tables.find(name).source not in strangers]
    # Continuous latents have no ids that could be counted.
    ids = [f"tokens_{budget}" for budget in tables.budgets] if tables.info.codes else []
    means, codes = _Means(), CodeCounts(tables.info.codes, len(ids))
    counted = np.zeros((len(tables.budgets), len(EDGES) + 1), np.int64)
    for chunk in tables.stream(names, ids, ROWS):
        for name in names:
            means.add(name, chunk.columns[name][chunk.ok].astype(np.float64))
        for step, losses in enumerate(chunk.columns["l1"][chunk.ok].T):
            counted[step] += histogram(losses)
        codes.add([chunk.table[name] for name in ids])
    source, distances, level_distances, width = _frechet(tables, strangers)
    rows = [_token_row(tables, step, means, codes, distances) for step in range(len(tables.budgets))]
    rows += _baselines(tables, means, level_distances)
    # Counts between edges become counts below edges; the last one lies above every edge. The maximum keeps a table
    # without losses from dividing by zero.
    below = counted.cumsum(axis=1)[:, :-1] / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    foreign = [f"{table.sentence} It is left out." for table in tables.foreign]
    remarks = (*foreign, *strangers.values(), *tables.remarks, *_unequal(means))
    return Quality(tuple(rows), below, source, width, tables.info.codes, _base(tables), remarks)


def _check(tables: Tables) -> None:
    tables.find("l1")
    if tables.info.stop is not None:
        raise InputError(
            f"'{tables.name}' stopped each image at l1<{tables.info.stop:g}, so its later budgets hold the hard images "
            "only; tokenize without --stop to compare budgets."
        )


def _strangers(tables: Tables) -> Iterator[tuple[int, str]]:
    """Score tables of other images, by their number, and a sentence on each."""
    for number, source in enumerate(tables.sources):
        try:
            # No columns are asked for: only whether the names find each other matters here.
            source.aligned_to(tables.path, [], ROWS)
        except InputError as problem:
            yield number, f"{problem} It is left out; --scores names another folder."


def _names(codecs: Sequence[str]) -> Iterator[str]:
    yield from MEASURES
    yield from (f"{measure}_{codec}" for codec in codecs for measure in MEASURES)
    for system in ("thumb", "jpeg", "webp", BASE):
        yield from (f"{system}_{measure}" for measure in MEASURES)
        yield f"{system}_size"


def _token_row(tables: Tables, step: int, means: _Means, codes: CodeCounts, distances: Sequence[float]) -> Row:
    info, budget = tables.info, tables.budgets[step]
    bits = budget * info.bits_per_token
    return Row(
        TOKENS,
        budget,
        means.count("l1", step),
        bits,
        bits / info.image_size**2,
        l1=means.mean("l1", step),
        psnr=means.mean("psnr", step),
        ssim=means.mean("ssim", step),
        lpips=means.mean("lpips", step),
        frechet=distances[step] if distances else math.nan,
        codes_used=codes.used(step),
        entropy=codes.entropy(step),
        changed=codes.changed(step),
    )


def _base(tables: Tables) -> Base:
    """What the table of baselines records about the base tokenizer."""
    info = next((source.info for source in tables.sources if source.info and source.info.task == "baselines"), None)
    if info is None:
        return Base()
    stage_l1 = info.options.get("base_stage_l1")
    return Base(str(info.options.get("base", "")), None if stage_l1 is None else float(stage_l1))


def _baselines(tables: Tables, means: _Means, distances: Mapping[str, float]) -> Iterator[Row]:
    """A row for each baseline and budget, one for the base tokenizer and one for each other codec.

    Args:
        distances: Fréchet distances of what has no budgets, by the end of its column of features.
    """
    pixels = tables.info.image_size**2
    for system in ("thumb", "jpeg", "webp"):
        # The L1 of thumbnails is known where baselines were not scored: the token table itself has it.
        l1 = f"{system}_l1"
        for step, budget in enumerate(tables.budgets if l1 in means.sums else ()):
            size = means.mean(f"{system}_size", step)
            # A codec writes files of its own size; a thumbnail from the token table has the bits of the tokens.
            bits = budget * tables.info.bits_per_token if math.isnan(size) else 8 * size
            values = [means.mean(l1, step), *(means.mean(f"{system}_{measure}", step) for measure in MEASURES[1:])]
            yield Row(system, budget, means.count(l1, step), bits, bits / pixels, *values)
    # The base tokenizer has no budgets, hence a single row.
    if f"{BASE}_l1" in means.sums:
        errors = {measure: means.mean(f"{BASE}_{measure}", None) for measure in MEASURES}
        yield Row(BASE, None, means.count(f"{BASE}_l1", None), **errors, frechet=distances.get(BASE, math.nan))
    for codec in tables.codecs():
        errors = {measure: means.mean(f"{measure}_{codec}", None) for measure in MEASURES}
        distance = distances.get(codec, math.nan)
        # A codec of which only classes or depths were scored has nothing to say here.
        if not all(map(math.isnan, [*errors.values(), distance])):
            count = means.count(f"l1_{codec}", None)
            yield Row(f"{OF_CODEC}{codec}", None, count, **errors, frechet=distance)


def _unequal(means: _Means) -> Iterator[str]:
    """Measures that are not of all images with an L1: their means are of others."""
    images = means.count("l1", 0)
    for name, counts in means.counts.items():
        count = int(np.asarray(counts).reshape(-1)[-1])
        # One measure speaks for its whole score table, so that each table is named once.
        if count < images and (name in ("psnr", "jpeg_l1") or name.startswith("l1_")):
            table = {"psnr": "recon", "jpeg_l1": "baselines"}.get(name, f"recon of {name.removeprefix('l1_')}")
            yield f"The scores of {table} are of {count} of the {images} images: score the whole table to compare."


def _frechet(tables: Tables, strangers: Container[int]) -> tuple[str, list[float], dict[str, float], int]:
    """The score table of features, the first by name: its name, the distances from the originals, a feature's length.

    The distances are those at every budget, then those of the base tokenizer and of other codecs by their names.
    """
    models = tables.models("features")
    names = [f"features@{models[0]}", f"features_original@{models[0]}"] if models else []
    if not names or not all(map(tables.has, names)) or tables.find(names[0]).source in strangers:
        return "", [], {}, 0
    levels = [end for end in (BASE, *tables.codecs()) if tables.has(f"features_{end}@{models[0]}")]
    names += [f"features_{end}@{models[0]}" for end in levels]
    original, moments = None, []
    for chunk in tables.stream(names, rows=FEATURE_ROWS, lists=True):
        features, fitted, *of_levels = (chunk.columns[name][chunk.ok] for name in names)
        if original is None:
            # Any point near the features will do as the centre; it only keeps digits from being lost.
            centre = np.nanmean(fitted.astype(np.float64), axis=0)
            # One for each budget, then one for each level.
            original, moments = Moments(centre), [Moments(centre) for _ in range(len(tables.budgets) + len(levels))]
        original.add(fitted)
        for running, added in zip(moments, [*features.swapaxes(0, 1), *of_levels], strict=True):
            running.add(added)
    if original is None or original.n < 2:
        return "", [], {}, 0
    reference, steps = Reference(original), len(tables.budgets)
    distances = [reference.distance(moment) for moment in moments[:steps]]
    level_distances = {
        end: reference.distance(moment) for end, moment in zip(levels, moments[steps:], strict=True) if moment.n > 1
    }
    return models[0], distances, level_distances, len(original.centre)


def save_tables(result: Quality, budgets: Sequence[int], folder: Path) -> list[Path]:
    """Write the rows as quality.csv and quality.parquet, the curves as quality_below.csv; what `open_output` raises."""
    table = pd.DataFrame(result.rows).astype({"budget": "Int64"})
    # A column that no table fills would only make the file harder to read.
    table = table.loc[:, table.notna().any()]
    # The curve ends one step behind the threshold at which all images are below.
    shown = range(CURVE_STEP, 1 + int((result.below < 1).any(axis=0).sum()) + CURVE_STEP, CURVE_STEP)
    shares = [
        (budget, round(float(EDGES[i]), 4), own[i])
        for budget, own in zip(budgets, result.below, strict=True)
        for i in shown
        if i < len(EDGES)
    ]
    return [
        save_csv(table, folder / "quality.csv"),
        save_parquet(table, folder / "quality.parquet"),
        save_csv(pd.DataFrame(shares, columns=["budget", "l1_below", "share"]), folder / "quality_below.csv"),
    ]


def share_below(result: Quality, step: int, threshold: float) -> float:
    """Share of the images whose L1 at a budget is below a threshold, rounded up to the next of EDGES."""
    place = int(np.searchsorted(EDGES, np.float32(threshold)))
    return float(result.below[step, min(place, len(EDGES) - 1)])


def spread(result: Quality) -> tuple[float, ...]:
    """Five round thresholds over what the middle budget's images have."""
    share = result.below[len(result.below) // 2]
    low, high = (float(EDGES[int((share >= part).argmax())]) for part in (0.1, 0.9))
    # Multiples of 0.005 are easy to read on an axis.
    rounded = np.round(np.linspace(low, high, 5) / 0.005) * 0.005
    return tuple(dict.fromkeys(round(float(value), 3) for value in rounded if value > 0)) or (0.1,)
