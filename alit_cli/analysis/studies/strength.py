"""Whether stronger models of a task lose more on reconstructions (paper, Fig. 10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from alit_cli.analysis.query.criteria import Comparison
from alit_cli.analysis.query.measures import TASKS, measure_info
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import check_answerable
from alit_cli.analysis.selection.sweep import Outcome
from alit_cli.analysis.stats.bootstrap import BinnedMeans
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.errors import InputError

FEWEST = 3  # models; below this a correlation says nothing


@dataclass(frozen=True)
class StrengthRow:
    """One model at one budget; intervals are 95 % bootstrap intervals over images.

    Attributes:
        n: images with a number on the original and at the budget.
        strength: the model on the original images, accuracy or mean; low, high its interval.
        value: the same on the reconstructions.
        drop: how much worse that is, above 0 whichever way is better; low, high its interval, image by image.
    """

    model: str
    budget: int
    n: int
    strength: float
    strength_low: float
    strength_high: float
    value: float
    drop: float
    drop_low: float
    drop_high: float


@dataclass(frozen=True)
class Strength:
    """Every model at every budget; `spearman` of strength and drop over the models, by budget (NaN below three)."""

    rows: tuple[StrengthRow, ...]
    spearman: dict[int, float]
    outcome: Outcome


def task_outcomes(tables: Tables, task: str, models: Sequence[str], top: int) -> list[Outcome]:
    """The outcome that a task is judged by, for each model (none named: every one that has a table).

    Raises InputError where there is no table of the task, no number of the originals, or only predicted labels.
    """
    if task not in TASKS or task == "recon":
        known = ", ".join(name for name in TASKS if name != "recon")
        raise InputError(f"There is no task '{task}' whose models have a strength; there is: {known}.")
    measure = TASKS[task]
    # Score tables are named by the last part of a hub id or folder, so a user may write what alit score was given.
    networks = [model.rstrip("/").rpartition("/")[2] for model in models] or tables.models(measure)
    if not models:  # those named that cannot be joined are refused below
        tables.remarks += [
            f"{table.sentence} It is left out."
            for table in tables.foreign
            if measure in tables.stems(table.source.columns)
        ]
    if not networks:
        tables.find(measure)  # says what there is
        raise InputError(f"No score table has a '{measure}'; `alit score {tables.name} --task {task}` makes one.")
    outcomes = []
    for model in networks:
        column = f"{measure}@{model}"
        outcome = judged_by(column, top)
        if not tables.has(outcome.original):
            tables.find(column)
            raise InputError(
                f"The scores of '{model}' have no {measure}_original, so its own strength is not known; score it "
                "again against labels or maps that are given."
            )
        # Against its own predictions a network is always right on originals, so no strength could be measured.
        if "predicted" in tables.words(f"label_source@{model}"):
            raise InputError(
                f"The labels of '{model}' are its own predictions, so that it is right on every original; score it "
                "again with --labels."
            )
        outcomes.append(outcome)
    return outcomes


def judged_by(column: str, top: int) -> Outcome:
    """The number of one model that is its strength on the originals."""
    if column.startswith("class_rank@"):
        return Outcome(column, f"top-{top} accuracy", column, Comparison(column, "<=", float(top)))
    return Outcome(column, measure_info(column).label, column)


def measure_strength(tables: Tables, outcomes: Sequence[Outcome], resamples: int = 1000, seed: int = 0) -> Strength:
    """Compare what each model loses at every budget with its own strength; columns stream by once.

    Raises InputError where the table stopped early, or a column is missing.
    """
    check_answerable(tables, None)
    steps = len(tables.budgets)
    width = 1 + 2 * steps  # the originals, then value and drop of each budget
    columns = width * len(outcomes)
    means = BinnedMeans(tables.rows(), 1, columns, np.random.default_rng(seed), tables.photographs())
    names = [name for outcome in outcomes for name in (outcome.column, outcome.original)]
    for chunk in tables.stream(names):
        # Every row is dealt, also a failed one, so that the draws depend on the rows of the table alone.
        cells = means.deal(chunk.start, np.zeros(len(chunk.ok), np.int64))[chunk.ok]
        for number, outcome in enumerate(outcomes):
            original, values = (
                outcome.values(chunk.columns[name][chunk.ok]) for name in (outcome.original, outcome.column)
            )
            known = np.where(np.isnan(values).any(axis=1), np.nan, original)  # the same images everywhere
            # The sign makes a loss positive for errors and for accuracies.
            worse = values - known[:, None] if outcome.lower_is_better else known[:, None] - values
            means.add(number * width, cells, known)
            for step in range(steps):
                # An image without its original has no drop, so its value is left out too.
                means.add(number * width + 1 + step, cells, np.where(np.isnan(known), np.nan, values[:, step]))
                means.add(number * width + 1 + steps + step, cells, worse[:, step])
    rows = tuple(_rows(tables.budgets, outcomes, means, resamples, width))
    spearman = {budget: _spearman([row for row in rows if row.budget == budget]) for budget in tables.budgets}
    return Strength(rows, spearman, outcomes[0])


def _rows(
    budgets: Sequence[int], outcomes: Sequence[Outcome], means: BinnedMeans, resamples: int, width: int
) -> Iterator[StrengthRow]:
    known, mean, (low, high) = means.known()[-1], means.means()[-1], means.intervals(resamples)
    for number, outcome in enumerate(outcomes):
        own = number * width
        for step, budget in enumerate(budgets):
            value, drop = own + 1 + step, own + 1 + len(budgets) + step
            yield StrengthRow(
                model=outcome.column.partition("@")[2],
                budget=budget,
                n=int(known[own]),
                strength=float(mean[own]),
                strength_low=float(low[-1, own]),
                strength_high=float(high[-1, own]),
                value=float(mean[value]),
                drop=float(mean[drop]),
                drop_low=float(low[-1, drop]),
                drop_high=float(high[-1, drop]),
            )


def _spearman(rows: Sequence[StrengthRow]) -> float:
    """The rank correlation of strength and drop over the models; NaN where it says nothing."""
    strength, drop = [row.strength for row in rows], [row.drop for row in rows]
    # A rank correlation of equal numbers is not defined.
    if len(rows) < FEWEST or len(set(strength)) < 2 or len(set(drop)) < 2:
        return math.nan
    spearman: Any = scipy.stats.spearmanr(strength, drop)
    return float(spearman.statistic)


def save_tables(result: Strength, folder: Path) -> list[Path]:
    """Write `Strength.rows` as strength.csv and strength.parquet; what `open_output` raises."""
    table = pd.DataFrame(result.rows)
    return [save_csv(table, folder / "strength.csv"), save_parquet(table, folder / "strength.parquet")]
