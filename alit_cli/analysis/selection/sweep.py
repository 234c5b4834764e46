"""What an analysis of capacity varies and what it looks at: criteria swept over thresholds, and outcomes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.query.criteria import OPERATORS, Comparison, Criterion, comparisons, holds, measure, names, parse
from alit_cli.analysis.query.measures import bare, measure_info
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.allocate import parse_objective
from alit_cli.analysis.selection.decide import allocate, check_answerable, check_thresholds, first_met
from alit_cli.errors import InputError

SAMPLE = 20_000
"""Rows that thresholds are chosen from: enough to place twelve of them, and quick at any size of table."""
CANDIDATES = 200
"""Thresholds that are tried; where the sample has more values, these are quantiles of it."""
UNIFORM = "uniform"
"""The name of the line of one budget for all images."""
# A rank is counted from one, so there is no top0.
TOP = re.compile(r"top[1-9]\d*")
RANKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 300, 500)
"""Ranks that are swept: those that people quote, denser where most images lie."""


@dataclass(frozen=True)
class Sweep:
    """A criterion of growing severity.

    Attributes:
        name: as it was asked for, `recon`.
        criteria: the points, from the least tokens to the most.
    """

    name: str
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True)
class Outcome:
    """Something that is looked at, at the budget each image was given.

    Attributes:
        name: short, for tables and file names.
        label: for an axis.
        column: the measure it is made of.
        test: the comparison whose share of images it is; None: the mean of the column.
        frechet: it is the distance of the column's features from the originals'.
    """

    name: str
    label: str
    column: str
    test: Comparison | None = None
    frechet: bool = False

    @property
    def lower_is_better(self) -> bool:
        """Whether less of it is better."""
        return self.test is None and measure_info(self.column).lower_is_better

    @property
    def original(self) -> str:
        """The name of the same column of the original images."""
        return self.of("original")

    def of(self, end: str) -> str:
        """The name of the same column of pictures without tokens: the originals, or those of another codec."""
        own, at, model = self.column.partition("@")
        return f"{own}_{end}{at}{model}"

    def values(self, column: NDArray[Any]) -> NDArray[Any]:
        """The numbers whose mean the outcome is, in the column's shape; NaN where it has none."""
        if self.test is None:
            return column.astype(np.float64)
        met = OPERATORS[self.test.operator](column, self.test.value)
        return np.where(np.isnan(column), np.nan, met)


def read_outcomes(tables: Tables, texts: Sequence[str]) -> list[Outcome]:
    """The outcomes of `--toi`: a task, `top5`, a measure (its mean) or a comparison (its share of images).

    Raises InputError for a column that is not there, or has no number for every budget.
    """
    outcomes: list[Outcome] = []
    for text in texts:
        task, at, model = text.partition("@")
        of = f" of {model}" if model else ""
        if re.search("[<>=]", text):
            test = parse(text)
            if not isinstance(test, Comparison) or not isinstance(test.value, float):
                raise InputError(f"'{text}' is no outcome; write one comparison with its number, or a measure.")
            outcomes.append(Outcome(str(test), f"share with {test}", test.name, test))
        elif task == "classify" or TOP.fullmatch(task):
            column = f"class_rank{at}{model}"
            for top in (1, 5) if task == "classify" else (int(task[3:]),):
                test = Comparison(column, "<=", float(top))
                outcomes.append(Outcome(f"top{top}{at}{model}", f"top-{top} accuracy{of}", column, test))
        # All three names are in use for the same distance, depending on the field one comes from.
        elif task in ("features", "frechet", "fid"):
            column = f"features{at}{model}"
            outcomes.append(Outcome(f"frechet{at}{model}", f"Fréchet distance{of}", column, frechet=True))
        else:
            column = measure(text)
            # A table of language scores may hold captions only, without answers that could agree.
            if task == "language" and not tables.has(column):
                column = f"caption_loglik{at}{model}"
            outcomes.append(Outcome(column, f"{measure_info(column).label}{of}", column))
    for outcome in outcomes:
        if not tables.find(outcome.column).per_budget:
            raise InputError(f"'{outcome.column}' is the same at every budget; an outcome has a number for each.")
        if outcome.frechet:
            tables.find(outcome.original)
    # `classify,top5` asks for the same outcome twice.
    return list(dict.fromkeys(outcomes))


def read_sweeps(tables: Tables, texts: Sequence[str], thresholds: Sequence[float] | None, points: int) -> list[Sweep]:
    """The criteria of `--tsc`, each swept: over the thresholds, or so that `points` of them spread over capacity.

    Raises InputError as `read_outcomes` and `sweep_criteria`.
    """
    sweeps = sweep_criteria(texts, thresholds, lambda objective: _thresholds(tables, objective, points))
    for sweep in sweeps:
        for criterion in sweep.criteria:
            check_answerable(tables, criterion)
    return sweeps


def sweep_criteria(
    texts: Sequence[str], thresholds: Sequence[float] | None, choose: Callable[[Comparison], Sequence[float]]
) -> list[Sweep]:
    """The criteria of `--tsc`, each swept over the thresholds, or over those that `choose` finds for it.

    A criterion with its number is one point; those of one column and sign make one line. Raises InputError for
    thresholds beside several criteria, and what `choose` raises.
    """
    sweeps: list[Sweep] = []
    # Thresholds of gains may be negative, so the absolute value is checked and only what is not finite is refused. With
    # several criteria the error below says more.
    check_thresholds([] if thresholds is None or len(texts) > 1 else [abs(number) for number in thresholds])
    for text in texts:
        criterion = parse(text, open_ended=True) if re.search("[<>=]", text) else parse_objective(text)
        if isinstance(criterion, Comparison) and criterion.value is None:
            if thresholds is not None and len(texts) > 1:
                raise InputError(
                    "--thr goes with one --tsc; with several, write the numbers into them: --tsc 'l1<0.05,l1<0.08'."
                )
            numbers = thresholds if thresholds is not None else choose(criterion)
            # A large threshold of a loss asks for the fewest tokens, a large one of a gain for the most.
            from_least = sorted(numbers, reverse=criterion.operator.startswith("<"))
            points_of = tuple(dataclasses.replace(criterion, value=float(number)) for number in from_least)
            sweeps.append(Sweep(text, points_of))
            continue
        # Criteria with their numbers are points; those of one column and sign make one line.
        name = f"{criterion.name}{criterion.operator}" if isinstance(criterion, Comparison) else str(criterion)
        same = next((number for number, sweep in enumerate(sweeps) if sweep.name == name), None)
        if same is None:
            sweeps.append(Sweep(name, (criterion,)))
        else:
            sweeps[same] = Sweep(name, (*sweeps[same].criteria, criterion))
    return sweeps


def _thresholds(tables: Tables, objective: Comparison, points: int) -> list[float]:
    """Thresholds of a measure of a table that spread the tokens spent; see `spread_thresholds`."""
    check_answerable(tables, None)
    stride = max(1, tables.rows() // SAMPLE)
    chunks = []
    for chunk in tables.stream([objective.name]):
        # Every so many rows are taken from the whole table, because tables are often sorted by folder. The start of the
        # slice carries the stride over the border between chunks.
        rows = slice(-chunk.start % stride, None, stride)
        chunks.append(chunk.columns[objective.name][rows][chunk.ok[rows]])
    sample = np.concatenate(chunks) if chunks else np.zeros((0, len(tables.budgets)), np.float32)
    return spread_thresholds(sample, objective, tables.budgets, points)


def spread_thresholds(sample: NDArray[Any], objective: Comparison, costs: Sequence[float], points: int) -> list[float]:
    """Thresholds of a measure that spread what is spent evenly from the least to the most that it can ask for.

    Args:
        sample: the measure of some images at each budget, n T.
        costs: of each budget, in tokens or bits, ascending, T.

    Raises InputError where the measure is known of no image.
    """
    name = objective.name
    known = np.unique(sample[np.isfinite(sample)]).astype(np.float64)
    if not len(known):
        raise InputError(f"'{name}' has no number at any image, so there is nothing to sweep.")
    if bare(name) == "class_rank":
        return [float(rank) for rank in RANKS if rank <= known[-1]] or [1.0]
    candidates = known
    if len(known) > CANDIDATES:
        spread = np.quantile(sample[np.isfinite(sample)].astype(np.float64), np.linspace(0, 1, CANDIDATES))
        # Four digits are enough to place a point, and rounding may make two of them one.
        candidates = np.array(sorted({float(f"{number:.4g}") for number in spread}))
    spent = [_spent(sample, dataclasses.replace(objective, value=float(number)), costs) for number in candidates]
    # Points are spread evenly over what is spent, not over thresholds, where most would give nearly the same.
    targets = np.linspace(min(spent), max(spent), points)
    nearest = sorted({int(np.abs(np.asarray(spent) - target).argmin()) for target in targets})
    return [shortest_threshold(float(candidates[place]), known, objective.operator) for place in nearest]


def shortest_threshold(threshold: float, known: NDArray[Any], operator: str) -> float:
    """The threshold with the fewest digits, four or more, that separates the same known values (ascending).

    It is compared in single precision, as columns are.
    """
    values = known.astype(np.float32)
    compare = OPERATORS[operator]
    met = compare(values, np.float32(threshold))
    for digits in range(4, 9):  # nine digits tell any two numbers of single precision apart
        exact = float(f"{threshold:.{digits}g}")
        # This is one unit of the last digit that is kept; zero has no digits.
        step = 10.0 ** (np.floor(np.log10(abs(threshold))) - digits + 1) if threshold else 0.0
        # The nearest number may lie on the wrong side of a value, where its neighbour does not.
        for candidate in (exact, exact + step, exact - step):
            rounded = float(f"{candidate:.{digits}g}")
            if np.array_equal(compare(values, np.float32(rounded)), met):
                return rounded
    return threshold


def _spent(sample: NDArray[Any], criterion: Comparison, costs: Sequence[float]) -> float:
    # The one column of the criterion is the sample, whatever its name.
    index, _, _ = first_met(holds(criterion, lambda _name: sample))
    return float(np.asarray(costs)[index].mean())


@dataclass(frozen=True, eq=False)
class Allocation:
    """Budgets that spend a given share of the largest capacity where it improves a measure most.

    Attributes:
        line, text: the names of its line and of this point of it.
        index: which budget each row of the table gets, uint8 n.
    """

    line: str
    text: str
    index: NDArray[np.uint8]


def read_allocations(tables: Tables, texts: Sequence[str]) -> list[Allocation]:
    """For each measure, what `alit select --capacity` would choose at the capacity of every budget but the ends.

    At the smallest and the largest budget there is nothing to choose. Raises InputError as `allocate`.
    """
    allocations = []
    for text in texts:
        objective = parse_objective(text)
        for budget in tables.budgets[1:-1]:
            choice = allocate(tables, objective, budget / tables.budgets[-1])
            allocations.append(Allocation(f"optimal {text}", f"{budget} on average", choice.index))
    return allocations


@dataclass(frozen=True)
class BudgetPolicies:
    """Every way to choose budgets that is looked at: the points of the lines, then one budget for all."""

    sweeps: tuple[Sweep, ...]
    budgets: tuple[int, ...]
    allocations: tuple[Allocation, ...] = ()

    def __len__(self) -> int:
        return len(self.labels())

    def labels(self) -> list[tuple[str, str, float | None]]:
        """Line, criterion and its number, for each policy."""
        swept = [
            (sweep.name, str(criterion), threshold_of(criterion))
            for sweep in self.sweeps
            for criterion in sweep.criteria
        ]
        allocated = [(allocation.line, allocation.text, None) for allocation in self.allocations]
        return [*swept, *allocated, *((UNIFORM, str(budget), None) for budget in self.budgets)]

    @property
    def columns(self) -> list[str]:
        """Every column the criteria compare."""
        columns = [name for sweep in self.sweeps for criterion in sweep.criteria for name in names(criterion)]
        return list(dict.fromkeys(columns))

    def take(
        self, columns: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """For each policy, which budget each of some rows gets and whether it is satisfied there.

        `columns` are those of the rows, which `rows` numbers as they stand in the table.
        """
        shape = (len(rows), len(self.budgets))
        wide = {
            # A column of one value per image counts at every budget; broadcasting copies nothing.
            name: column if column.ndim > 1 else np.broadcast_to(column[:, None], shape)
            for name, column in columns.items()
        }
        for sweep in self.sweeps:
            for criterion in sweep.criteria:
                index, satisfied, _ = first_met(holds(criterion, wide.__getitem__))
                yield index, satisfied
        for allocation in self.allocations:
            # An allocation sets no criterion, so no image can fail it. The same is true of one budget for all.
            yield allocation.index[rows], np.ones(len(rows), np.bool_)
        for step in range(len(self.budgets)):
            yield np.full(len(rows), step, np.uint8), np.ones(len(rows), np.bool_)


def threshold_of(criterion: Criterion) -> float | None:
    """The number of a criterion that is one comparison."""
    first, *others = comparisons(criterion)
    return first.value if not others and isinstance(first.value, float) else None
