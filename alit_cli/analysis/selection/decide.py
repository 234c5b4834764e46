"""Which token budget each image needs, read from the columns of a token table and of the scores beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.query.criteria import Comparison, Criterion, comparisons, holds, names
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.allocate import allocate_budgets
from alit_cli.errors import InputError

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Selection:
    """The budget of each of n images.

    Attributes:
        index: which of the budgets, int64 n.
        n_tokens: the budget, int64 n.
        satisfied: whether the criterion is met there, bool n; where it never is, the budget is the largest.
    """

    index: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    satisfied: NDArray[np.bool_]


@dataclass(frozen=True)
class BudgetChoice:
    """The budget of every row of a table, n rows.

    Attributes:
        text: the criterion, as one would write it.
        ok: rows that were tokenized; the others have no budget.
        index: which of the budgets, uint8.
        satisfied: whether the criterion is met there; where it never is, the budget is the largest.
        non_monotone: whether it is met there, but not at some larger budget that was run.
        values: the criterion's columns at that budget, NaN where they are not known.
        first: the first comparison, which says what is hard.
    """

    text: str
    ok: NDArray[np.bool_]
    index: NDArray[np.uint8]
    satisfied: NDArray[np.bool_]
    non_monotone: NDArray[np.bool_]
    values: Mapping[str, Floats]
    first: Comparison


@dataclass(frozen=True)
class Summary:
    """What one criterion asks of a whole table or of a group of its images.

    Attributes:
        criterion: as one would write it; threshold is its number where it is a single comparison.
        budgets, images: the budgets, ascending, and how many images are given each.
        unsatisfied: images that no budget satisfies; they are among those with the largest.
        non_monotone: images that are satisfied at their budget, but not at some larger one that was run.
        failed: rows of the table that hold no tokens; they are not among the images.
        group: whose images; empty for all.
    """

    criterion: str
    threshold: float | None
    budgets: tuple[int, ...]
    images: tuple[int, ...]
    unsatisfied: int
    non_monotone: int
    failed: int
    group: str = ""

    @property
    def total(self) -> int:
        """All images with a budget."""
        return sum(self.images)

    @property
    def mean_tokens(self) -> float:
        """Tokens per image, NaN for a table without images."""
        spent = sum(budget * images for budget, images in zip(self.budgets, self.images, strict=True))
        return spent / self.total if self.total else math.nan

    @property
    def capacity(self) -> float:
        """Tokens spent as a share of the largest budget of the table for every image, 0–1."""
        return self.mean_tokens / self.budgets[-1]

    @property
    def unsatisfied_share(self) -> float:
        """Share of images that no budget satisfies, 0–1."""
        return self.unsatisfied / self.total if self.total else math.nan

    @property
    def non_monotone_share(self) -> float:
        """Share of images that are satisfied at their budget, but not at some larger one that was run, 0–1."""
        return self.non_monotone / self.total if self.total else math.nan


def first_met(
    met: NDArray[np.bool_], ran: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """The first budget at which each image is satisfied, else the last; whether it is; whether a later one is not.

    `met` is n T; each result is n. `ran` (n T) says which budgets were run: one that never was is unknown, and so
    neither satisfies nor fails. None: all were.
    """
    n, t = met.shape
    # Budgets are far fewer than 256, and a byte per image matters at fifty million rows.
    index = np.full(n, t - 1, np.uint8)
    satisfied, non_monotone, failed_later = (np.zeros(n, np.bool_) for _ in range(3))
    # Going backwards lets the smallest budget that is met overwrite the larger ones.
    for step in reversed(range(t)):
        here = met[:, step]
        index[here] = step
        # This must come before `failed_later` takes in this budget, which is not later than itself.
        non_monotone = np.where(here, failed_later, non_monotone)
        satisfied |= here
        failed_later |= ~here if ran is None else ~here & ran[:, step]
    return index, satisfied, non_monotone


def select(losses: Floats, budgets: Sequence[int], threshold: float) -> Selection:
    """Give each image the first budget with a loss below the threshold, else the largest.

    Args:
        losses: n T, a column per budget; NaN satisfies nothing.
        budgets: T, ascending.
        threshold: compared strictly and in the precision of the losses: what prints as 0.08 is not below 0.08.
    """
    first, satisfied, _ = first_met(losses < threshold)
    index = first.astype(np.int64)
    return Selection(index, np.asarray(budgets, np.int64)[index], satisfied)


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise InputError where one is no finite number from 0 up."""
    for threshold in thresholds:
        if not (math.isfinite(threshold) and threshold >= 0):
            raise InputError(f"A threshold cannot be {threshold:g}; give a number from 0 up, such as 0.08.")


def quartiles(*losses: Floats) -> tuple[float, ...]:
    """Thresholds from the data: the quartiles of the middle column's known losses (n T each), ascending.

    Of all arrays together, in as few digits as keep them apart; none where no loss is known.
    """
    # Of an even number of budgets, the lower one of the two in the middle is taken.
    middle = np.concatenate([own[:, (own.shape[1] - 1) // 2] for own in losses])
    known = middle[np.isfinite(middle)].astype(np.float64)
    quartiles = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else ()
    # Two digits are what people write; more are taken only where the quartiles would fall together.
    for digits in (2, 3, 4):
        rounded = sorted({float(f"{value:.{digits}g}") for value in quartiles})
        if len(rounded) == len(quartiles):
            break
    return tuple(rounded)


def check_answerable(tables: Tables, criterion: Criterion | None) -> None:
    """Raise InputError where a table whose rollouts stopped early cannot answer; None stands for every budget."""
    stop = tables.info.stop
    if stop is None:
        return
    asked = "every budget" if criterion is None else str(criterion)
    if criterion is not None:
        wrong = [
            comparison
            for comparison in comparisons(criterion)
            if not _within(comparison, stop) and tables.find(comparison.name).per_budget
        ]
        if not wrong:
            return
        asked = str(wrong[0])
    raise InputError(
        f"'{tables.name}' stopped each image at l1<{stop:g} and cannot answer {asked}; tokenize again without "
        f"--stop, or with one that is at most as large as what you ask."
    )


def _within(comparison: Comparison, stop: float) -> bool:
    """Whether a comparison is no stricter than the stop."""
    # Rollouts stopped where l1 fell below the stop, so a looser l1 was met there or before. Whether anything else is
    # met further on is not known.
    value = comparison.value
    return comparison.name == "l1" and comparison.operator in ("<", "<=") and isinstance(value, float) and value >= stop


def decide(tables: Tables, criteria: Sequence[Criterion], values: bool = True) -> list[BudgetChoice]:
    """The first budget at which each criterion is met, for every image, reading the columns once.

    A column that has one number per image counts at every budget. Without `values` they are not kept. Raises
    InputError where a column is missing, is none of numbers, or where the table has stopped before.
    """
    for criterion in criteria:
        check_answerable(tables, criterion)
        if not any(tables.find(name).per_budget for name in names(criterion)):
            raise InputError(
                f"'{tables.name}' has no column for each budget in '{criterion}', only one per image; "
                "name a table of `alit tokenize`, or write it as --where."
            )
    # Early-stopped tables say in n_tokens how far each image was run; beyond it nothing is known.
    stopped_at = ["n_tokens"] if tables.info.stop is not None else []
    pieces: list[list[BudgetChoice]] = [[] for _ in criteria]
    columns_asked = [name for criterion in criteria for name in names(criterion)]
    for chunk in tables.stream([*columns_asked, *stopped_at]):
        ran = chunk.columns["n_tokens"][:, None] >= np.asarray(tables.budgets) if stopped_at else None
        columns = {name: _per_budget(column, len(tables.budgets)) for name, column in chunk.columns.items()}
        for criterion, chosen in zip(criteria, pieces, strict=True):
            chosen.append(_choose(criterion, columns, chunk.ok, ran, values))
    return [_joined(criterion, chosen) for criterion, chosen in zip(criteria, pieces, strict=True)]


def _choose(
    criterion: Criterion,
    columns: Mapping[str, NDArray[Any]],
    ok: NDArray[np.bool_],
    ran: NDArray[np.bool_] | None,
    values: bool,
) -> BudgetChoice:
    """The choice of one criterion for some rows; `columns` are n T, `ran` says which budgets were run (None: all)."""
    index, satisfied, non_monotone = first_met(holds(criterion, columns.__getitem__), ran)
    rows = np.arange(len(index))
    chosen = {
        # Words are part of a criterion, but the values that are kept are numbers, so words become NaN.
        name: (columns[name][rows, index] if columns[name].dtype != object else np.full(len(rows), np.nan)).astype(
            np.float32
        )
        for name in (names(criterion) if values else ())
    }
    return BudgetChoice(str(criterion), ok, index, satisfied, non_monotone, chosen, next(comparisons(criterion)))


def _joined(criterion: Criterion, pieces: Sequence[BudgetChoice]) -> BudgetChoice:
    """The choices of all rows, from those of the chunks in their order."""

    def join(arrays: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
        return np.concatenate(arrays) if arrays else np.zeros(0, kind)  # a table may have no rows

    value_names = pieces[0].values if pieces else names(criterion)
    return BudgetChoice(
        text=str(criterion),
        ok=join([piece.ok for piece in pieces], np.bool_),
        index=join([piece.index for piece in pieces], np.uint8),
        satisfied=join([piece.satisfied for piece in pieces], np.bool_),
        non_monotone=join([piece.non_monotone for piece in pieces], np.bool_),
        values={name: join([piece.values[name] for piece in pieces], np.float32) for name in value_names},
        first=next(comparisons(criterion)),
    )


def allocate(tables: Tables, objective: Comparison, share: float) -> BudgetChoice:
    """Spend a share of the largest capacity where it improves a measure most (see `allocate_budgets`).

    The objective has no number. Satisfied are the images whose measure is known. Raises InputError as `decide` and
    `allocate_budgets`.
    """
    check_answerable(tables, None)
    name = objective.name
    if not tables.find(name).per_budget:
        raise InputError(f"'{name}' is the same at every budget; --capacity needs a measure of every budget.")
    chunks = [(chunk.ok, chunk.columns[name]) for chunk in tables.stream([name])]
    if not chunks:
        raise InputError(f"'{tables.name}' has no rows, so there is nothing to spend tokens on.")
    ok, losses = np.concatenate([ok for ok, _ in chunks]), np.concatenate([column for _, column in chunks])
    del chunks  # half of the memory at 50 million rows
    # Allocation lowers a loss; a gain becomes one by its sign.
    sign = 1 if objective.operator.startswith("<") else -1
    index = np.zeros(len(ok), np.uint8)
    # Rows that failed take no tokens, so they must not add to the total that can be spent.
    index[ok] = allocate_budgets(sign * losses[ok], tables.budgets, share)
    value = losses[np.arange(len(ok)), index]
    text = f"{'least' if sign > 0 else 'most'} {name} at capacity {share:g}"
    return BudgetChoice(text, ok, index, ~np.isnan(value), np.zeros(len(ok), np.bool_), {name: value}, objective)


def summarize(tables: Tables, choice: BudgetChoice, kept: NDArray[np.bool_] | None = None, group: str = "") -> Summary:
    """What a choice asks of the rows that are kept (None: all); those that failed are only counted."""
    rows = choice.ok if kept is None else choice.ok & kept
    failed = ~choice.ok if kept is None else ~choice.ok & kept
    # A joined criterion has no single number; its text then differs from that of its first comparison.
    value = choice.first.value if choice.text == str(choice.first) else None
    return Summary(
        criterion=choice.text,
        threshold=value if isinstance(value, float) else None,
        budgets=tables.budgets,
        images=tuple(np.bincount(choice.index[rows], minlength=len(tables.budgets)).tolist()),
        unsatisfied=int(np.count_nonzero(rows & ~choice.satisfied)),
        non_monotone=int(np.count_nonzero(rows & choice.non_monotone)),
        failed=int(np.count_nonzero(failed)),
        group=group,
    )


def _per_budget(column: NDArray[Any], steps: int) -> NDArray[Any]:
    """A column of one value per image as one of every budget."""
    # Broadcasting copies nothing: the same numbers are seen at every budget.
    return column if column.ndim > 1 else np.broadcast_to(column[:, None], (len(column), steps))
