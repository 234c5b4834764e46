"""Several tokenizers on the same images: what becomes of tasks as criteria spend more or fewer of their bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.criteria import Comparison, Criterion, holds, names
from alit_cli.analysis.query.groups import group_images
from alit_cli.analysis.query.matched import ALL, Choices, Matched, Tokenizer
from alit_cli.analysis.selection.decide import first_met
from alit_cli.analysis.selection.sweep import (
    Outcome,
    Sweep,
    read_allocations,
    read_outcomes,
    read_sweeps,
    spread_thresholds,
    sweep_criteria,
    threshold_of,
)
from alit_cli.analysis.studies.capacity import ALL as ALL_IMAGES
from alit_cli.analysis.studies.capacity import ORIGINAL, Capacity, measure_capacity
from alit_cli.analysis.studies.capacity_options import CapacityOptions
from alit_cli.analysis.studies.capacity_points import Point
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TokenizerPoint(Point):
    """A point of one tokenizer, or of all of them, each image by its need.

    Attributes:
        tokenizer: its name, or `ALL`.
        bits: spent per image; NaN for the originals.
    """

    tokenizer: str
    bits: float


@dataclass(frozen=True)
class ComparedCapacity:
    """The outcome.

    Attributes:
        points: tokenizer by tokenizer, then the mixture of all.
        full_tokens: tokens per image that a capacity of 1 stands for.
        sweeps: the criteria of the mixture.
        dimension: of the features of a Fréchet distance, 0 without.
        remarks: sentences that a reader must know.
    """

    names: tuple[str, ...]
    points: tuple[TokenizerPoint, ...]
    outcomes: tuple[Outcome, ...]
    sweeps: tuple[Sweep, ...]
    images: int
    dimension: int
    remarks: tuple[str, ...]


def compare_capacity(matched: Matched, asked: CapacityOptions) -> ComparedCapacity:
    """Sweep the criteria over every tokenizer, each over thresholds that spread its own tokens.

    A tokenizer of one budget cannot follow a criterion and has its one point. In the mixture, each image takes the
    choice of the fewest bits, of all tokenizers and budgets, that meets the criterion; it has no intervals and no
    Fréchet distance, and is of all images alone. Raises InputError as `measure_capacity` does for one table.
    """
    full = asked.share_of or max(tokenizer.tables.budgets[-1] for tokenizer in matched.tokenizers)
    outcomes = [outcome for tokenizer in matched.tokenizers for outcome in read_outcomes(tokenizer.tables, asked.toi)]
    # Every table names its outcomes alike, so that those of one speak for all.
    outcomes = list(dict.fromkeys(outcomes))
    choices = Choices.of(matched.tokenizers)
    columns = _Columns(matched, choices)
    sweeps = sweep_criteria(
        asked.tsc,
        asked.thr,
        lambda objective: spread_thresholds(columns[objective.name], objective, choices.bits.tolist(), asked.points),
    )
    criteria = [criterion for sweep in sweeps for criterion in sweep.criteria]
    asked_for = [outcome.column for outcome in outcomes] + [name for criterion in criteria for name in names(criterion)]
    _check_networks(matched, asked_for)
    points: list[TokenizerPoint] = []
    dimension = 0
    for tokenizer in matched.tokenizers:
        result = _capacity_of(tokenizer, asked, outcomes, full)
        dimension = max(dimension, result.dimension)
        for point in result.points:
            bits = point.mean_tokens * tokenizer.tables.info.bits_per_token
            points.append(TokenizerPoint(**vars(point), tokenizer=tokenizer.name, bits=bits))
    means_of = [outcome for outcome in outcomes if not outcome.frechet]
    points += _mixture(columns, sweeps, means_of, full)
    remarks = (*matched.remarks, *(remark for tokenizer in matched.tokenizers for remark in tokenizer.tables.remarks))
    return ComparedCapacity(
        names=matched.names,
        points=tuple(points),
        outcomes=tuple(outcomes),
        sweeps=tuple(sweeps),
        images=matched.images,
        dimension=dimension,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _capacity_of(tokenizer: Tokenizer, asked: CapacityOptions, outcomes: Sequence[Outcome], full: int) -> Capacity:
    """The points of one tokenizer, over the shared images."""
    return measure_capacity(
        tokenizer.tables,
        read_sweeps(tokenizer.tables, asked.tsc, asked.thr, asked.points) if tokenizer.adaptive else (),
        outcomes,
        group_images(tokenizer.tables, asked.by) if asked.by else None,
        asked.bootstrap,
        asked.seed,
        asked.few_samples,
        read_allocations(tokenizer.tables, asked.optimum) if tokenizer.adaptive else (),
        full,
    )


def _check_networks(matched: Matched, columns: Sequence[str]) -> None:
    """Raise InputError where a name means the scores of different networks in two tables."""
    first, *others = (tokenizer.tables for tokenizer in matched.tokenizers)
    for name in columns:
        for other in others:
            if (first_model := first.model(name)) != (other_model := other.model(name)):
                raise InputError(
                    f"'{name}' is of {first_model} in '{first.name}' and of {other_model} in '{other.name}', which "
                    "cannot be compared; score both with one network."
                )


class _Columns(Mapping[str, NDArray[Any]]):
    """Columns of all choices by their names, n C; each is read once, when it is first asked for."""

    def __init__(self, matched: Matched, choices: Choices) -> None:
        self.matched, self.choices = matched, choices
        self.read: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.read:
            own = [tokenizer.values([name])[name] for tokenizer in self.matched.tokenizers]
            self.read[name] = self.choices.together(own)
        return self.read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)


def _mixture(
    columns: _Columns, sweeps: Sequence[Sweep], outcomes: Sequence[Outcome], full: int
) -> Iterator[TokenizerPoint]:
    """Each image at the choice of the fewest bits that meets a criterion."""
    choices, images = columns.choices, columns.matched.images
    rows = np.arange(images)
    for sweep in sweeps:
        for criterion in sweep.criteria:
            index, satisfied = _chosen(criterion, columns)
            tokens, bits = (float(costs[index].mean()) for costs in (choices.tokens, choices.bits))
            for outcome in outcomes:
                values = outcome.values(columns[outcome.column][rows, index])
                known = np.isfinite(values)
                yield TokenizerPoint(
                    group=ALL_IMAGES,
                    line=sweep.name,
                    criterion=str(criterion),
                    threshold=threshold_of(criterion),
                    n=images,
                    capacity=tokens / full,
                    mean_tokens=tokens,
                    unsatisfied=float(1 - satisfied.mean()),
                    outcome=outcome.name,
                    known=int(known.sum()),
                    value=float(values[known].mean()) if known.any() else math.nan,
                    low=math.nan,
                    high=math.nan,
                    tokenizer=ALL,
                    bits=bits,
                )


def _chosen(criterion: Criterion, columns: _Columns) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which choice each image gets, and whether it meets the criterion, n each.

    An image that no choice satisfies gets its best one by the measure, of a joined criterion the one of the most bits.
    """
    index, satisfied, _ = first_met(holds(criterion, columns.__getitem__))
    chosen = index.astype(np.intp)
    if isinstance(criterion, Comparison) and isinstance(criterion.value, float):
        # The most bits need not be the best: a tokenizer of many bits may be a bad one.
        sign = 1 if criterion.operator.startswith("<") else -1
        best = np.where(np.isnan(column := columns[criterion.name]), np.inf, sign * column).argmin(axis=1)
        chosen = np.where(satisfied, chosen, best)
    return chosen, satisfied


def save_compared(result: ComparedCapacity, folder: Path) -> list[Path]:
    """Write the points as capacity_compared.csv and .parquet; raises what `open_output` raises."""
    table = pd.DataFrame(result.points).astype({"threshold": float})
    first = ["tokenizer", "line", "criterion", "mean_tokens", "bits"]
    table = table[[*first, *(name for name in table.columns if name not in first)]]
    return [
        save_csv(table, folder / "capacity_compared.csv"),
        save_parquet(table, folder / "capacity_compared.parquet"),
    ]


def originals(result: ComparedCapacity) -> dict[str, float]:
    """By outcome, what it is on the original images, where that is one number for all tokenizers."""
    named: dict[str, set[float]] = {}
    for point in result.points:
        if point.line == ORIGINAL and point.group == ALL_IMAGES:
            named.setdefault(point.outcome, set()).add(round(point.value, 6))
    return {outcome: values.pop() for outcome, values in named.items() if len(values) == 1}
