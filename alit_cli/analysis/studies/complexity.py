"""How the tokens an image needs go with scores of its complexity: correlations, and mean losses per complexity bin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from alit_cli.analysis.selection.decide import check_thresholds, quartiles, select
from alit_cli.analysis.stats.correlation import FEWEST, Correlations, correlate, interval, pool
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.analysis.studies.scored_images import Study
from alit_cli.data.tables.token_table import TableInfo

Floats = NDArray[np.float64]

GROUP, OVERALL, RAW = "group", "overall", "raw"
"""The scopes of a row: one group, all groups pooled within themselves, all images as if they had no groups."""
POOLED = "overall, pooled within categories"
QUOTED_MEASURE = "code_length"
"""The measure to quote, at the largest budget: fixed beforehand, so that none is picked by how well it does."""
RIVALS = ("jpeg_bytes", "jpeg_bytes_128", "jpeg_bytes_256", "edge_density", "distinct_colours", "sobel_gradient")
"""The plain measures that the quoted one is compared with, beside the equal-bit thumbnail."""
FEWEST_IMAGES = FEWEST
"""Below this a correlation is a dash."""


@dataclass(frozen=True)
class Measure:
    """One number per image, to be correlated with its score.

    Attributes:
        kind: 'l1', 'relative l1', 'code length', 'tokens', 'relative tokens', 'baseline' or 'thumbnail'.
        values: n, NaN where it is not known.
    """

    name: str
    kind: str
    budget: int | None
    threshold: float | None
    values: Floats


@dataclass(frozen=True)
class Row:
    """One measure in one group of images: what it is on average, and how it goes with the score.

    Attributes:
        scope: 'group', 'overall' (all groups, pooled within themselves) or 'raw' (as if there were no groups).
        n: images with both numbers; kind, budget and threshold are the measure's.
        share_largest: of the tokens needed: the share of images at the largest budget, satisfied there or not.
        pearson, spearman: with the ends of their 95 % bootstrap intervals; NaN where they say nothing.
    """

    group: str
    scope: str
    n: int
    measure: str
    kind: str
    budget: int | None
    threshold: float | None
    mean: float
    share_largest: float | None
    pearson: float
    pearson_low: float
    pearson_high: float
    spearman: float
    spearman_low: float
    spearman_high: float


@dataclass(frozen=True)
class MeasureDifference:
    """How much closer the quoted measure follows the score than a rival: the difference of their Pearson correlations.

    Attributes:
        scope, group: as in `Row`; n: images with both.
        difference: with the ends of its 95 % interval, paired: both come from the same resamples of the images.
    """

    group: str
    scope: str
    n: int
    measure: str
    rival: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Complexity:
    """The outcome of a study.

    Attributes:
        rows: every measure in every group, then in all of them.
        differences: the quoted measure beside each rival, in every group and pooled.
        bins: one row per group, complexity bin and budget: `group scope bin images position budget l1 error`; the
            position is the bin's mean score, for the pooled scope its mean percentile within the groups, and the error
            is the standard error of the mean L1.
        thresholds: of L1, those the tokens needed were counted at.
        relative_thresholds: the same of L1 divided by the image's mean absolute deviation.
        scaled: the scores look scaled within each group, so that they are not comparable across groups.
    """

    rows: tuple[Row, ...]
    differences: tuple[MeasureDifference, ...]
    bins: pd.DataFrame
    thresholds: tuple[float, ...]
    relative_thresholds: tuple[float, ...]
    scaled: bool


def quoted_measure(info: TableInfo) -> str:
    """The name of the measure to quote."""
    return f"{QUOTED_MEASURE}_{info.budgets[-1]}"


def correlate_complexity(
    study: Study, thresholds: Sequence[float] | None = None, resamples: int = 1000, seed: int = 0
) -> Complexity:
    """Correlate the scores with every measure, in every group, pooled within groups and raw.

    Without thresholds, the quartiles of the middle budget's L1 are taken, so that the tokens needed spread.
    Raises InputError for a threshold that is none.
    """
    check_thresholds(thresholds or ())
    relative = _relative(study)
    # The same threshold twice would give the same row twice.
    absolute_at = tuple(sorted(set(thresholds))) if thresholds else quartiles(study.losses)
    relative_at = () if relative is None else quartiles(relative)
    measures = _measures(study, relative, absolute_at, relative_at)
    scaled = _looks_scaled(study)
    rows, differences = _correlate_all(study, measures, scaled, resamples, np.random.default_rng(seed))
    return Complexity(
        rows=rows,
        differences=differences,
        bins=_bin_table(study),
        thresholds=absolute_at,
        relative_thresholds=relative_at,
        scaled=scaled,
    )


def _relative(study: Study) -> Floats | None:
    """L1 (n T) in units of what the mean colour alone would leave; NaN for a flat image, None without `mad`."""
    if "mad" not in study.measures:
        return None
    mad = study.measures["mad"]
    return study.losses / np.where(mad > 0, mad, np.nan)[:, None]


def code_length(losses: NDArray[np.floating[Any]], info: TableInfo) -> Floats:
    """Bits per pixel of a code that stores an image's tokens, and what they leave in 8-bit steps.

    A Laplace distribution of mean absolute value b has log2(2e·b) bits at most (the maximum-likelihood code of the
    residual), here of each of three channels; 0 where b is below a step. It puts all budgets in one unit. It is no
    shortest description: PNG, which knows that neighbours are alike, is shorter for ordinary photographs. At one
    budget it only rises with log L1, and so ranks images exactly as L1 does.

    Args:
        losses: n T, L1 in [0, 1] pixels at each of the table's budgets.
    """
    # Bits per pixel of the picture, to which what the residual needs can be added.
    tokens = np.array(info.budgets) * info.bits_per_token / info.image_size**2
    # The residual is counted in steps of 8-bit pixels, hence 255.
    residual = 2 * math.e * 255 * losses.astype(np.float64)
    length: Floats = tokens + 3 * np.log2(np.maximum(residual, 1))
    return length


def _measures(
    study: Study, relative: Floats | None, absolute_at: Sequence[float], relative_at: Sequence[float]
) -> list[Measure]:
    """Everything that is correlated with the score, the model's own numbers first."""
    budgets = study.info.budgets
    measures = []
    # The measures of the model come first, because tables and figures keep this order.
    for stem, kind, losses, at in (
        ("l1", "l1", study.losses, absolute_at),
        ("relative_l1", "relative l1", relative, relative_at),
    ):
        if losses is None:
            continue
        for budget, column in zip(budgets, losses.T, strict=True):
            measures.append(Measure(f"{stem}_{budget}", kind, budget, None, column.astype(np.float64)))
        for threshold in at:
            need = select(losses, budgets, threshold).n_tokens.astype(np.float64)
            # `select` gives an image without any loss the largest budget, but what it needs is not known.
            need[np.isnan(losses).all(axis=1)] = np.nan
            name = f"tokens({stem}<{threshold:g})"
            measures.append(Measure(name, kind.replace("l1", "tokens"), None, threshold, need))
    for budget, column in zip(budgets, code_length(study.losses, study.info).T, strict=True):
        measures.append(Measure(f"code_length_{budget}", "code length", budget, None, column))
    for name, values in study.measures.items():
        # Thumbnails carry their budget in the name; any other name stays whole and is a plain baseline.
        stem, _, tail = name.partition("thumbnail_")
        kind = "baseline" if stem else "thumbnail"
        measures.append(Measure(name, kind, int(tail) if tail else None, None, values))
    return measures


def _members(study: Study) -> dict[str, NDArray[np.intp]]:
    """Row numbers of each group, the groups in the order of their names; one group where there are none."""
    if study.groups is None:
        return {"all images": np.arange(len(study.score))}
    names, which = np.unique(study.groups, return_inverse=True)
    return {str(name): np.flatnonzero(which == index) for index, name in enumerate(names)}


def _looks_scaled(study: Study) -> bool:
    """Whether every group of five or more uses most of the range of all scores, as scores scaled per group do."""
    # Fewer than five images span little by chance, so they cannot speak against scaling.
    spans = [np.ptp(study.score[rows]) for rows in _members(study).values() if len(rows) >= 5]
    # Scores scaled in each group fill nearly the same range everywhere; 0.7 leaves room for small groups.
    return len(spans) > 1 and bool(min(spans) >= 0.7 * np.ptp(study.score))


def _correlate_all(
    study: Study, measures: Sequence[Measure], scaled: bool, resamples: int, generator: np.random.Generator
) -> tuple[tuple[Row, ...], tuple[MeasureDifference, ...]]:
    """`Complexity.rows` and `Complexity.differences`."""
    values = np.stack([measure.values for measure in measures], axis=1)
    members = _members(study)
    photographs = study.photographs
    correlations = {
        name: correlate(
            study.score[rows], values[rows], resamples, generator, None if photographs is None else photographs[rows]
        )
        for name, rows in members.items()
    }
    parts = [_rows(GROUP, name, measures, values[rows], study, correlations[name]) for name, rows in members.items()]
    differences = [_compare(GROUP, name, measures, study, correlations[name]) for name in members]
    # With one group, pooled and raw would repeat the row of the group.
    if len(members) > 1:
        raw = correlate(study.score, values, resamples, generator, photographs)
        label = "raw, not comparable across categories" if scaled else "raw, all images"
        pooled = pool([*correlations.values()])
        parts.append(_rows(OVERALL, POOLED, measures, values, study, pooled))
        parts.append(_rows(RAW, label, measures, values, study, raw))
        differences.append(_compare(OVERALL, POOLED, measures, study, pooled))
    return tuple(row for rows in parts for row in rows), tuple(
        difference for some in differences for difference in some
    )


def _compare(
    scope: str, group: str, measures: Sequence[Measure], study: Study, correlations: Correlations
) -> Iterator[MeasureDifference]:
    """The quoted measure beside every rival that is known of the same images."""
    places = {measure.name: place for place, measure in enumerate(measures)}
    quoted = quoted_measure(study.info)
    ours = places[quoted]
    own_side = f"jpeg_bytes_{study.info.image_size}"  # the same number as jpeg_bytes
    for rival in (f"thumbnail_{study.info.budgets[-1]}", *RIVALS):
        theirs = places.get(rival)
        # Measures of other images are resampled by other draws, so that nothing would be paired.
        if theirs is None or rival == own_side or correlations.n[ours] != correlations.n[theirs]:
            continue
        difference = float(correlations.pearson[ours] - correlations.pearson[theirs])
        if math.isfinite(difference):
            # Both correlations come from the same draws, so their difference has a narrower interval than either.
            apart = correlations.pearson_resampled[:, ours] - correlations.pearson_resampled[:, theirs]
            low, high = interval(apart[:, None])
            yield MeasureDifference(
                group, scope, int(correlations.n[ours]), quoted, rival, difference, float(low[0]), float(high[0])
            )


def _rows(
    scope: str, group: str, measures: Sequence[Measure], values: Floats, study: Study, correlations: Correlations
) -> Iterator[Row]:
    """The rows of one group; `values` (n m) are its images'."""
    pearson, spearman = interval(correlations.pearson_resampled), interval(correlations.spearman_resampled)
    for index, measure in enumerate(measures):
        known = values[np.isfinite(values[:, index]), index]
        yield Row(
            group=group,
            scope=scope,
            n=int(correlations.n[index]),
            measure=measure.name,
            kind=measure.kind,
            budget=measure.budget,
            threshold=measure.threshold,
            mean=_mean(known),
            # Budgets are whole numbers, which floats hold exactly, so they can be compared for equality.
            share_largest=None if measure.threshold is None else _mean(known == study.info.budgets[-1]),
            pearson=float(correlations.pearson[index]),
            pearson_low=float(pearson[0][index]),
            pearson_high=float(pearson[1][index]),
            spearman=float(correlations.spearman[index]),
            spearman_low=float(spearman[0][index]),
            spearman_high=float(spearman[1][index]),
        )


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _bin_table(study: Study) -> pd.DataFrame:
    """`Complexity.bins`: bins of equally many images, images of one score kept together."""
    percentile = np.empty(len(study.score))
    losses, lengths = study.losses, code_length(study.losses, study.info)
    budgets = study.info.budgets
    parts = []
    members = _members(study)
    for name, rows in members.items():
        # Middle ranks keep images of one score together and the percentile inside 0 and 1.
        percentile[rows] = (rankdata(study.score[rows]) - 0.5) / max(len(rows), 1)
        views = None if study.photographs is None else study.photographs[rows]
        parts.append(
            _binned(GROUP, name, percentile[rows], study.score[rows], losses[rows], lengths[rows], budgets, views)
        )
    if len(members) > 1:
        # Scores of different groups may have different scales, so the pooled axis is a percentile.
        parts.append(
            _binned(OVERALL, POOLED, percentile, 100 * percentile, losses, lengths, budgets, study.photographs)
        )
    return pd.concat(parts, ignore_index=True)


def _binned(
    scope: str,
    group: str,
    percentile: Floats,
    position: Floats,
    losses: NDArray[np.float32],
    lengths: Floats,
    budgets: Sequence[int],
    photographs: NDArray[np.int64] | None,
) -> pd.DataFrame:
    """The bins of one group: its images' places in it (0–1) and on the axis, losses and code lengths (n T)."""
    images = len(percentile) if photographs is None else len(np.unique(photographs))
    # Ten images a bin and ten bins at most: fewer images would make the mean of a bin mostly noise. A few images still
    # get up to three bins.
    bins = min(max(images // 10, min(images, 3)), 10)
    frame = pd.DataFrame(losses, columns=list(budgets))
    frame = frame.assign(bin=np.floor(percentile * bins).astype(int), position=position)
    # `melt` puts the budgets one below the other, as ravel does with the transposed lengths.
    rows = frame.melt(["bin", "position"], var_name="budget", value_name="l1").assign(code_length=lengths.T.ravel())
    if photographs is not None:
        # Views of one photograph are alike: all of a bin count once, by their mean, and not as images of their own.
        rows = rows.assign(photograph=np.tile(photographs, len(budgets)))
        rows = rows.groupby(["bin", "photograph", "budget"]).mean().reset_index()
    means = (
        rows.groupby(["bin", "budget"])
        .agg(
            images=("l1", "count"),
            position=("position", "mean"),
            l1=("l1", "mean"),
            error=("l1", "sem"),
            code_length=("code_length", "mean"),
            code_error=("code_length", "sem"),
        )
        .reset_index()
    )
    columns = ["group", "scope", "bin", "images", "position", "budget", "l1", "error", "code_length", "code_error"]
    return means.assign(group=group, scope=scope)[columns]


def save_tables(result: Complexity, folder: Path) -> list[Path]:
    """Write the rows as complexity.csv and .parquet, the differences as complexity_differences.csv.

    Raises what `open_output` raises.
    """
    table = pd.DataFrame(result.rows).astype({"budget": "Int64", "threshold": float, "share_largest": float})
    # Without rows pandas would write no header, so the columns are named.
    differences = pd.DataFrame(result.differences, columns=list(MeasureDifference.__dataclass_fields__))
    return [
        save_csv(table, folder / "complexity.csv"),
        save_parquet(table, folder / "complexity.parquet"),
        save_csv(differences, folder / "complexity_differences.csv"),
    ]
