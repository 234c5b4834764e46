"""What an analysis of capacity varies and what it looks at: criteria swept over thresholds, and outcomes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.query.criteria import OPERATORS, Comparison, Criterion, comparisons, holds, measure, names, parse
from alit_cli.analysis.query.measures import bare, measure_info
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.allocate import parse_objective
from alit_cli.analysis.selection.decide import check_answerable, check_thresholds, first_met
from alit_cli.errors import InputError

SAMPLE = 20_000
CANDIDATES = 200
UNIFORM = "uniform"
TOP = re.compile(r"top[1-9]\d*")
RANKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 300, 500)


@dataclass(frozen=True)
class Line:
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
        own, at, model = self.column.partition("@")
        return f"{own}_original{at}{model}"

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
    found: list[Outcome] = []
    for text in texts:
        task, at, model = text.partition("@")
        of = f" of {model}" if model else ""
        if re.search("[<>=]", text):
            test = parse(text)
            if not isinstance(test, Comparison) or not isinstance(test.value, float):
                raise InputError(f"'{text}' is no outcome; write one comparison with its number, or a measure.")
            found.append(Outcome(str(test), f"share with {test}", test.name, test))
        elif task == "classify" or TOP.fullmatch(task):
            column = f"class_rank{at}{model}"
            for top in (1, 5) if task == "classify" else (int(task[3:]),):
                test = Comparison(column, "<=", float(top))
                found.append(Outcome(f"top{top}{at}{model}", f"top-{top} accuracy{of}", column, test))
        elif task in ("features", "frechet", "fid"):
            column = f"features{at}{model}"
            found.append(Outcome(f"frechet{at}{model}", f"Fréchet distance{of}", column, frechet=True))
        else:
            column = measure(text)
            if task == "language" and not tables.has(column):
                column = f"caption_loglik{at}{model}"
            found.append(Outcome(column, f"{measure_info(column).label}{of}", column))
    for outcome in found:
        if not tables.find(outcome.column).per_budget:
            raise InputError(f"'{outcome.column}' is the same at every budget; an outcome has a number for each.")
        if outcome.frechet:
            tables.find(outcome.original)
    return list(dict.fromkeys(found))


def read_lines(tables: Tables, texts: Sequence[str], thresholds: Sequence[float] | None, points: int) -> list[Line]:
    """The criteria of `--tsc`, each swept: over the thresholds, or so that `points` of them spread over capacity.

    A criterion with its number is one point; those of one column and sign make one line. Raises InputError as
    `read_outcomes`, and for thresholds beside several criteria.
    """
    lines: list[Line] = []
    check_thresholds([] if thresholds is None or len(texts) > 1 else [abs(number) for number in thresholds])
    for text in texts:
        found = parse(text, open_ended=True) if re.search("[<>=]", text) else parse_objective(text)
        if isinstance(found, Comparison) and found.value is None:
            if thresholds is not None and len(texts) > 1:
                raise InputError(
                    "--thr goes with one --tsc; with several, write the numbers into them: --tsc 'l1<0.05,l1<0.08'."
                )
            at = thresholds if thresholds is not None else _thresholds(tables, found, points)
            signed = sorted(at, reverse=found.operator.startswith("<"))
            criteria = tuple(dataclasses.replace(found, value=float(number)) for number in signed)
            lines.append(Line(text, criteria))
            continue
        name = f"{found.name}{found.operator}" if isinstance(found, Comparison) else str(found)
        same = [line for line in lines if line.name == name]
        if same:
            lines[lines.index(same[0])] = Line(name, (*same[0].criteria, found))
        else:
            lines.append(Line(name, (found,)))
    for line in lines:
        for criterion in line.criteria:
            check_answerable(tables, criterion)
    return lines


def _thresholds(tables: Tables, way: Comparison, points: int) -> list[float]:
    """Thresholds of a measure that spread the tokens spent evenly from the least to the most it can ask for."""
    check_answerable(tables, None)
    stride = max(1, tables.rows() // SAMPLE)
    sample = np.concatenate(
        [chunk.columns[way.name][-chunk.start % stride :: stride] for chunk in tables.stream([way.name])]
    )
    known = np.unique(sample[np.isfinite(sample)]).astype(np.float64)
    if not len(known):
        raise InputError(f"'{way.name}' has no number at any image, so there is nothing to sweep.")
    if bare(way.name) == "class_rank":
        return [float(rank) for rank in RANKS if rank <= known[-1]] or [1.0]
    if len(known) > CANDIDATES:
        spread = np.quantile(sample[np.isfinite(sample)].astype(np.float64), np.linspace(0, 1, CANDIDATES))
        known = np.array(sorted({float(f"{number:.4g}") for number in spread}))
    spent = [_spent(sample, dataclasses.replace(way, value=float(number)), tables.budgets) for number in known]
    wanted = np.linspace(min(spent), max(spent), points)
    nearest = [int(np.abs(np.asarray(spent) - share).argmin()) for share in wanted]
    return [float(known[place]) for place in sorted(set(nearest))]


def _spent(sample: NDArray[Any], criterion: Comparison, budgets: Sequence[int]) -> float:
    index, _, _ = first_met(holds(criterion, lambda _name: sample))
    return float(np.asarray(budgets)[index].mean())


@dataclass(frozen=True)
class BudgetPolicies:
    """Every choice of budgets that is looked at: the points of the lines, then one budget for all."""

    lines: tuple[Line, ...]
    budgets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels())

    def labels(self) -> list[tuple[str, str, float | None]]:
        """Line, criterion and its number, for each choice."""
        swept = [(line.name, str(one), threshold_of(one)) for line in self.lines for one in line.criteria]
        return swept + [(UNIFORM, str(budget), None) for budget in self.budgets]

    @property
    def columns(self) -> list[str]:
        """Every column the criteria compare."""
        found = [name for line in self.lines for criterion in line.criteria for name in names(criterion)]
        return list(dict.fromkeys(found))

    def take(
        self, columns: Mapping[str, NDArray[Any]], rows: int
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """For each choice, which budget each of some rows gets and whether it is satisfied there."""
        shape = (rows, len(self.budgets))
        wide = {
            name: column if column.ndim > 1 else np.broadcast_to(column[:, None], shape)
            for name, column in columns.items()
        }
        for line in self.lines:
            for criterion in line.criteria:
                index, satisfied, _ = first_met(holds(criterion, wide.__getitem__))
                yield index, satisfied
        for step in range(len(self.budgets)):
            yield np.full(rows, step, np.uint8), np.ones(rows, np.bool_)


def threshold_of(criterion: Criterion) -> float | None:
    """The number of a criterion that is one comparison."""
    first, *others = comparisons(criterion)
    return first.value if not others and isinstance(first.value, float) else None
