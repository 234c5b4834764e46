"""The columns of a token table and of the score tables beside it, found by name and read together row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alit_cli.analysis.query.measures import MEASURE_INFOS, bare, how_to_make
from alit_cli.analysis.query.score_joins import open_score_source
from alit_cli.analysis.query.streaming import Sliced, ahead, parts, schema_of, to_numpy
from alit_cli.data.files import readable
from alit_cli.data.tables.parquet import count_rows
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError

ROWS = 100_000
"""Rows held at a time, where a row has a number a budget."""


@dataclass(frozen=True)
class Place:
    """Where a name is.

    Attributes:
        side: the number of the score table, -1 for the token table itself.
        columns: one for each budget, or a single one that holds for the image.
    """

    side: int
    columns: tuple[str, ...]
    per_budget: bool


@dataclass(frozen=True)
class Chunk:
    """Some rows of the token table and what belongs to them; n rows, T budgets.

    Attributes:
        start: the number of the first row.
        ok: rows that were tokenized, n.
        columns: by the names asked for, n T (n T d for lists) or n; NaN or None where there is nothing.
        table: the columns of the token table that were asked for as they are.
    """

    start: int
    ok: NDArray[np.bool_]
    columns: Mapping[str, NDArray[Any]]
    table: pa.Table


class Tables:
    """A token table (file or folder of parts) and the tables of scores that belong to its images.

    Args:
        tokens: what `alit tokenize` wrote.
        scores: the folder of score tables; None: `scores` in the working folder, else beside the token table.
        own: further tables, csv or parquet, with `image` and a column per budget (`quality_32` …) or per image.

    Attributes:
        info, budgets: what the token table says.
        remarks: sentences about rows that did not find each other, filled while streaming.

    Raises InputError for a table that cannot be read.
    """

    def __init__(self, tokens: Path, scores: Path | None = None, own: Sequence[Path] = ()) -> None:
        self.path, self.info = tokens, read_info(tokens)
        self.name = readable(str(tokens))
        self.budgets = self.info.budgets
        self.schema = schema_of(tokens)
        if scores is not None and not scores.is_dir():
            raise InputError(f"There is no folder '{readable(str(scores))}' of score tables; `alit score` makes one.")
        folders = [scores] if scores is not None else [Path("scores"), tokens.parent / "scores"]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        files = [] if folder is None else sorted(folder.glob("*.parquet"))
        self.sides = [open_score_source(path) for path in [*own, *files]]
        self.remarks: list[str] = []
        self._compared: dict[str, bool] = {}

    def find(self, name: str) -> Place:
        """Where a measure or column is; InputError that says what there is, or how to tell two apart.

        Words that several tables have alike, such as the labels that two classifiers were scored by, are found once.
        """
        own, _, model = name.partition("@")
        if not model and (found := self._in(-1, own, self.schema.names)):
            return found
        sides = [
            found
            for number, side in enumerate(self.sides)
            if (not model or side.model == model) and (found := self._in(number, own, side.columns))
        ]
        if len(sides) == 1 or (sides and self._alike(own, sides)):
            return sides[0]
        if sides:
            names = " and ".join(f"{own}@{self.sides[found.side].model}" for found in sides)
            raise InputError(f"'{name}' is in {len(sides)} tables; write {names} to tell them apart.")
        raise InputError(self._missing(name))

    def has(self, name: str) -> bool:
        """Whether `find` finds it, in one place."""
        try:
            self.find(name)
        except InputError:
            return False
        return True

    def measures(self) -> list[str]:
        """Every name with a column per budget, `name@model` where two tables have it."""
        own = self._stems(self.schema.names)
        beside = [(stem, side.model) for side in self.sides for stem in self._stems(side.columns)]
        once = [stem for stem, _ in beside] + own
        return own + [stem if once.count(stem) == 1 else f"{stem}@{model}" for stem, model in beside]

    def models(self, measure: str) -> list[str]:
        """The models of the score tables that have a measure."""
        return [side.model for side in self.sides if measure in self._stems(side.columns)]

    def rows(self) -> int:
        """Rows of the token table."""
        return count_rows(self.path)

    def kind(self, name: str) -> pa.DataType:
        """The type of a name's columns."""
        found = self.find(name)
        schema = self.schema if found.side < 0 else self.sides[found.side].schema
        return schema.field(found.columns[0]).type

    def model(self, name: str) -> str:
        """What the score table that a name is in is called behind the @; empty for the token table."""
        number = self.find(name).side
        return "" if number < 0 else self.sides[number].model

    def words(self, name: str) -> set[str]:
        """The different words in a column of a score table; none where there is no such column."""
        if not self.has(name) or (number := self.find(name).side) < 0:
            return set()
        side = self.sides[number]
        return {str(word) for word in pc.unique(side.column(bare(name))[bare(name)]).to_pylist() if word is not None}

    def stream(self, names: Sequence[str], raw: Sequence[str] = (), rows: int = ROWS) -> Iterator[Chunk]:
        """Rows in the order of the token table, at most `rows` at a time, with the columns of these names.

        `raw` are columns of the token table to hand on as they are. Raises InputError for a damaged file and
        where none of the rows of a score table belongs to an image.
        """
        places = {name: self.find(name) for name in dict.fromkeys(names)}
        wanted = [column for found in places.values() if found.side < 0 for column in found.columns]
        missing = [column for column in raw if column not in self.schema.names]
        if missing:
            raise InputError(f"'{self.name}' has no column '{missing[0]}'; name a table of `alit tokenize`.")
        status = ["status"] if "status" in self.schema.names else []
        columns = list(dict.fromkeys([*status, *wanted, *raw]))
        used = sorted({found.side for found in places.values()} - {-1})
        others = {number: self._beside(number, places, rows) for number in used}
        start = 0
        for table in ahead(self._own(columns, rows)):
            tables = {-1: table} | {number: other.take(table.num_rows) for number, other in others.items()}
            ok = (
                pc.fill_null(pc.equal(table["status"], "ok"), False).to_numpy()
                if status
                else np.ones(table.num_rows, np.bool_)
            )
            values = {name: _values(tables[found.side], found) for name, found in places.items()}
            yield Chunk(start, ok, values, table.select(list(dict.fromkeys(raw))))
            start += table.num_rows

    def _alike(self, name: str, places: Sequence[Place]) -> bool:
        """Whether the score tables say the same words of the same images, under a name that is none of a measure's."""
        if name not in self._compared:
            sides = [self.sides[found.side] for found in places]
            words = not any(found.per_budget for found in places) and all(side.has_words(name) for side in sides)
            self._compared[name] = words and all(side.column(name).equals(sides[0].column(name)) for side in sides[1:])
        return self._compared[name]

    def _own(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """The token table, at most `rows` rows at a time."""
        for table in parts(self.path, columns, rows):
            for start in range(0, table.num_rows, rows):
                yield table.slice(start, rows)

    def _beside(self, number: int, places: Mapping[str, Place], rows: int) -> Sliced:
        columns = [column for found in places.values() if found.side == number for column in found.columns]
        side = self.sides[number]
        made_from = side.about.get("model_id", self.info.model_id)
        if made_from != self.info.model_id:
            raise InputError(
                f"'{side.name}' scores the tokens of another model ({made_from[:8]}, not {self.info.model_id[:8]} of "
                f"'{self.name}'): run `alit score` again, or name another folder with --scores."
            )
        sliced, remarks = side.along(self.path, list(dict.fromkeys(columns)), rows)
        self.remarks += [remark for remark in remarks if remark not in self.remarks]
        return sliced

    def _in(self, number: int, name: str, present: Sequence[str]) -> Place | None:
        columns = tuple(f"{name}_{budget}" for budget in self.budgets)
        there = [column for column in columns if column in present]
        if len(there) == len(columns):
            return Place(number, columns, per_budget=True)
        if name in present:
            return Place(number, (name,), per_budget=False)
        if there:
            lacking = next(column for column in columns if column not in present)
            where = self.name if number < 0 else self.sides[number].name
            raise InputError(f"'{where}' has {there[0]} but no {lacking}; a criterion wants every budget of the model.")
        return None

    def _stems(self, present: Sequence[str]) -> list[str]:
        tail = f"_{self.budgets[0]}"
        stems = [column.removesuffix(tail) for column in present if column.endswith(tail)]
        return [stem for stem in stems if stem not in ("tokens", "latents")]

    def _missing(self, name: str) -> str:
        there = ", ".join(["recon (l1)" if stem == "l1" else stem for stem in self.measures()]) or "none"
        if bare(name) == "l1" and not self.info.losses:
            return f"'{self.name}' was made with --no-losses and has no l1 columns; tokenize again without."
        if models := self.models(bare(name)):
            return f"There is no '{name}'; there is: {', '.join(f'{bare(name)}@{model}' for model in models)}."
        how = how_to_make(name, self.name)
        what = f"measure '{name}'" if bare(name) in MEASURE_INFOS else f"criterion '{name}'"
        return f"There is no {what}; there is: {there}{f'; {how}' if how else ''}."


def _values(table: pa.Table, found: Place) -> NDArray[Any]:
    """The columns as one array: n T, n T d or n."""
    arrays = [to_numpy(table[column]) for column in found.columns]
    return np.stack(arrays, axis=0).swapaxes(0, 1) if found.per_budget else arrays[0]
