"""Which token budget each image needs, read from the columns of a token table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.data.atomic import atomic_file
from alit_cli.data.keeping import kept_schema
from alit_cli.data.parts import parts
from alit_cli.data.sources import readable
from alit_cli.data.table import KEY, TableInfo, encodings, read_info, token_schema
from alit_cli.errors import InputError

Floats = NDArray[np.floating[Any]]

CRITERIA = {"recon": "l1"}
"""What a budget can be chosen by: the criterion's name → the stem of its columns (`l1_32`, `l1_64` …)."""


@dataclass(frozen=True)
class Selection:
    """The budget of each of n images.

    Attributes:
        index: which of the budgets, int64 n.
        n_tokens: the budget, int64 n.
        satisfied: whether the criterion is met there, bool n; where it never is, the budget is the largest.
        value: the criterion at that budget, n; NaN where it is not known.
    """

    index: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    satisfied: NDArray[np.bool_]
    value: Floats


@dataclass(frozen=True)
class Summary:
    """What one threshold asks of a whole table.

    Attributes:
        budgets, images: the budgets, ascending, and how many images are given each.
        unsatisfied: images that no budget satisfies; they are among those with the largest.
        failed: rows of the table that hold no tokens; they are not among the images.
    """

    threshold: float
    budgets: tuple[int, ...]
    images: tuple[int, ...]
    unsatisfied: int
    failed: int

    @property
    def total(self) -> int:
        """All images with a budget."""
        return sum(self.images)

    @property
    def mean_tokens(self) -> float:
        """Tokens an image, NaN for a table without images."""
        spent = sum(budget * images for budget, images in zip(self.budgets, self.images, strict=True))
        return spent / self.total if self.total else math.nan

    @property
    def capacity(self) -> float:
        """Tokens spent as a share of the largest budget for every image, 0–1."""
        return self.mean_tokens / self.budgets[-1]

    @property
    def unsatisfied_share(self) -> float:
        """Share of images that no budget satisfies, 0–1."""
        return self.unsatisfied / self.total if self.total else math.nan


def select(losses: Floats, budgets: Sequence[int], threshold: float) -> Selection:
    """Give each image the first budget with a loss below the threshold, else the largest.

    Args:
        losses: n T, a column per budget; NaN satisfies nothing.
        budgets: T, ascending.
        threshold: compared strictly and in the precision of the losses: what prints as 0.08 is not below 0.08.
    """
    largest = len(budgets) - 1
    index = np.full(len(losses), largest, np.int64)
    satisfied = np.zeros(len(losses), np.bool_)
    for step in reversed(range(len(budgets))):
        below = losses[:, step] < threshold
        index[below] = step
        satisfied |= below
    value = losses[np.arange(len(losses)), index]
    return Selection(index, np.asarray(budgets, np.int64)[index], satisfied, value)


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raise InputError where one is no finite number from 0 up."""
    for threshold in thresholds:
        if not (math.isfinite(threshold) and threshold >= 0):
            raise InputError(f"A threshold cannot be {threshold:g}; give a number from 0 up, such as 0.08.")


def summarize_table(path: Path, thresholds: Sequence[float], criterion: str = "recon") -> list[Summary]:
    """What each threshold asks of a token table (file or folder of parts), reading its loss columns once.

    Raises InputError for a file that is not a token table, an unknown criterion or a threshold that is none.
    """
    stem, info = _check(path, criterion, thresholds)
    counts = np.zeros((len(thresholds), len(info.budgets) + 2), np.int64)
    for group in _row_groups(path):
        losses, ok = _read_losses(group, stem, info.budgets)
        for row, threshold in enumerate(thresholds):
            counts[row] += _count(select(losses[ok], info.budgets, threshold), ok, len(info.budgets))
    return [_summary(threshold, info, row) for threshold, row in zip(thresholds, counts, strict=True)]


def select_table(path: Path, threshold: float, out: Path, criterion: str = "recon") -> Summary:
    """Write the selection of a token table (file or folder of parts) to `out`, a row group at a time.

    A row per image that was tokenized, with `image`, `n_tokens`, `satisfied`, the `tokens` of the chosen budget
    (`latents` of a continuous model; null where the table has none), the criterion's value under its stem, and what
    the table keeps.
    The metadata is the table's, with the criterion and its threshold among the options. Raises as
    `summarize_table` does, and what `atomic_file` raises.
    """
    stem, info = _check(path, criterion, [threshold])
    if out.exists() and path.exists() and out.samefile(path):
        raise InputError(f"'{readable(str(out))}' is the token table itself; choose another --out.")
    schema = _selection_schema(info, stem, criterion, threshold)
    counts = np.zeros(len(info.budgets) + 2, np.int64)
    with atomic_file(out) as file, pq.ParquetWriter(file, schema, **encodings(schema)) as writer:
        for group in _row_groups(path):
            losses, ok = _read_losses(group, stem, info.budgets)
            chosen = select(losses[ok], info.budgets, threshold)
            counts += _count(chosen, ok, len(info.budgets))
            columns = [
                group.read(["image"])["image"].filter(pa.array(ok)),
                pa.array(chosen.n_tokens, pa.int32()),
                pa.array(chosen.satisfied),
                _chosen_tokens(group, info, ok, chosen.index),
                pa.array(chosen.value, pa.float32(), from_pandas=True),
                *_kept(group, info, ok),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return _summary(threshold, info, counts)


@dataclass(frozen=True)
class _RowGroup:
    """One row group of an open part of a table."""

    name: str
    part: pq.ParquetFile
    number: int

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns; InputError for one that is missing and for a damaged file."""
        missing = set(columns) - set(self.part.schema_arrow.names)
        if missing:
            raise InputError(f"'{self.name}' has no column '{min(missing)}'; name a table of `alit tokenize`.")
        try:
            return self.part.read_row_group(self.number, list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"'{self.name}' is damaged; make it again with `alit tokenize`.") from error


def _row_groups(path: Path) -> Iterator[_RowGroup]:
    """Every row group of a table, in order."""
    for name in parts(path):
        part = Path(name)
        with part.open("rb") as source, pq.ParquetFile(source) as file:
            for number in range(file.num_row_groups):
                yield _RowGroup(readable(str(part)), file, number)


def _read_losses(group: _RowGroup, stem: str, budgets: Sequence[int]) -> tuple[Floats, NDArray[np.bool_]]:
    """The losses of a row group (n T, NaN where null), and which rows were tokenized (n)."""
    names = [f"{stem}_{budget}" for budget in budgets]
    table = group.read(["status", *names])
    losses = np.stack([table[name].to_numpy() for name in names]).T
    return losses, pc.fill_null(pc.equal(table["status"], "ok"), False).to_numpy()


def _chosen_tokens(group: _RowGroup, info: TableInfo, ok: NDArray[np.bool_], index: NDArray[np.int64]) -> pa.Array:
    """The tokens of the chosen budget of each row that is ok; `index` says which budget, one for each of them."""
    steps = np.unique(index) if len(index) else np.zeros(1, np.int64)
    names = [f"{info.tokens}_{info.budgets[step]}" for step in steps]
    table, rows = group.read(names), np.flatnonzero(ok)
    pieces = [table[name].take(pa.array(rows[index == step])) for name, step in zip(names, steps, strict=True)]
    place = np.empty_like(index)
    place[np.argsort(index, kind="stable")] = np.arange(len(index))
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], pieces[0].type).take(pa.array(place))


def _kept(group: _RowGroup, info: TableInfo, ok: NDArray[np.bool_]) -> list[pa.ChunkedArray]:
    """The kept columns of the rows that are ok."""
    table = group.read(list(info.keep)) if info.keep else None
    return [table[name].filter(pa.array(ok)) for name in info.keep] if table is not None else []


def _selection_schema(info: TableInfo, stem: str, criterion: str, threshold: float) -> pa.Schema:
    """The columns of a selection, and the table's own description with the criterion added."""
    choice = {"criterion": criterion, "threshold": threshold}
    described = dataclasses.replace(info, options={**info.options, "select": choice})
    return pa.schema(
        [
            ("image", pa.string()),
            ("n_tokens", pa.int32()),
            ("satisfied", pa.bool_()),
            token_schema(info, measures=False).field(f"{info.tokens}_{info.budgets[0]}").with_name(info.tokens),
            (stem, pa.float32()),
            *kept_schema(info.keep),
        ],
        metadata={KEY: described.to_json().encode()},
    )


def _check(path: Path, criterion: str, thresholds: Sequence[float]) -> tuple[str, TableInfo]:
    """The stem of the criterion's columns and what the table says; InputError for what cannot be selected."""
    if criterion not in CRITERIA:
        raise InputError(f"There is no criterion '{criterion}'; there is: {', '.join(CRITERIA)}.")
    check_thresholds(thresholds)
    stem, info = CRITERIA[criterion], read_info(path)
    name = readable(str(path))
    if stem == "l1" and not info.losses:
        raise InputError(f"'{name}' was made with --no-losses and has no l1 columns; tokenize again without.")
    if info.stop is not None and (stem != "l1" or min(thresholds) < info.stop):
        asked = f"{stem}<{min(thresholds):g}"
        raise InputError(
            f"'{name}' stopped each image at l1<{info.stop:g} and cannot answer {asked}; tokenize again without "
            f"--stop, or with one that is at most as large as what you ask."
        )
    return stem, info


def _count(chosen: Selection, ok: NDArray[np.bool_], budgets: int) -> NDArray[np.int64]:
    """Images per budget, then those unsatisfied, then rows that are not ok."""
    images = np.bincount(chosen.index, minlength=budgets)
    return np.array([*images, np.count_nonzero(~chosen.satisfied), np.count_nonzero(~ok)])


def _summary(threshold: float, info: TableInfo, counts: NDArray[np.int64]) -> Summary:
    *images, unsatisfied, failed = map(int, counts)
    return Summary(threshold, info.budgets, tuple(images), unsatisfied, failed)
