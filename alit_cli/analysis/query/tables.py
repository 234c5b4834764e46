"""The columns of a token table and of the score tables beside it, found by name and read together row by row."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alit_cli.analysis.query.measures import MEASURES, bare, how_to_make
from alit_cli.analysis.query.score_joins import ScoreSource, open_score_source
from alit_cli.analysis.query.streaming import RowStream, read_ahead, schema_of, to_numpy
from alit_cli.data.files import readable
from alit_cli.data.pictures.views import number_photographs
from alit_cli.data.tables.parquet import count_rows, stream_row_groups
from alit_cli.data.tables.prefixes import has_columns
from alit_cli.data.tables.score_table import why_foreign
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError

ROWS = 100_000
"""Rows held at a time, where a row has one number per budget."""
NO_GROUPS = ("image", "error", "model_id", "sha256", "width", "height")
"""Columns of one value per image that tell every image apart, or none."""
SAME_MEASURE = {"thumbnail": "thumb_l1", "thumb_l1": "thumbnail"}
"""One error under two names: the token table's columns and those of alit score's baselines. Either name finds it."""
TOKEN_TABLE = -1
"""Stands in the place of a score table's number for the token table itself."""


@dataclass(frozen=True)
class Place:
    """Where a name is.

    Attributes:
        source: the number of the score table, or TOKEN_TABLE.
        columns: one for each budget, or a single one that holds for the image.
    """

    source: int
    columns: tuple[str, ...]
    per_budget: bool


@dataclass(frozen=True)
class Chunk:
    """Some rows of the token table and what belongs to them; n rows, T budgets.

    Attributes:
        start: the number of the first row.
        ok: rows that were tokenized (of `Tables.only`: and that are wanted), n.
        columns: by the names asked for, n T (n T d for lists) or n; NaN or None where there is nothing.
        table: the columns of the token table that were asked for as they are.
    """

    start: int
    ok: NDArray[np.bool_]
    columns: Mapping[str, NDArray[Any]]
    table: pa.Table


@dataclass(frozen=True)
class ForeignTable:
    """A score table of other tokens, which is never joined, and a sentence that says so."""

    source: ScoreSource
    sentence: str


class Tables:
    """A token table (file or folder of parts) and the score tables that belong to it.

    A table of `alit score` belongs to it only if the run that it records is the token table's own. What is of another
    run, another model or another fit is left out, and named where it would have been used.

    Args:
        tokens: what `alit tokenize` wrote.
        scores: the folder of score tables; None: `scores` in the working folder, or else beside the token table.
        own: further tables, csv or Parquet, with `image` and a column per budget (`quality_32` …) or per image.
        with_scores: False reads no folder of score tables.

    Attributes:
        info, budgets: what the token table says.
        sources: the score tables that belong to it, `own` first.
        foreign: the score tables of the folder that do not.
        remarks: sentences about rows that did not find each other, filled while streaming.

    Raises InputError for a table that cannot be read, and for one of `own` that scores other tokens.
    """

    def __init__(
        self, tokens: Path, scores: Path | None = None, own: Sequence[Path] = (), with_scores: bool = True
    ) -> None:
        self.path, self.info = tokens, read_info(tokens)
        self.name = readable(str(tokens))
        if not count_rows(tokens):
            raise InputError(f"'{self.name}' has no rows, so there is nothing to ask of it.")
        self.budgets = self.info.budgets
        self.schema = schema_of(tokens)
        self.sources: list[ScoreSource] = []
        self.foreign: list[ForeignTable] = []
        # The user named these tables, so one of other tokens is an error. Those of the folder are only left out.
        for source in map(open_score_source, own):
            if sentence := self._why_not_joined(source):
                raise InputError(sentence)
            self.sources.append(source)
        for source in map(open_score_source, _score_files(tokens, scores) if with_scores else ()):
            if sentence := self._why_not_joined(source):
                self.foreign.append(ForeignTable(source, sentence))
            else:
                self.sources.append(source)
        self.remarks: list[str] = []
        # Comparing two columns reads both whole, and `find` is asked for the same name many times.
        self._compared: dict[str, bool] = {}
        self._kept: NDArray[np.bool_] | None = None

    def only(self, rows: NDArray[np.int64]) -> Tables:
        """The same tables, of which only these rows count as tokenized; remarks go to the same list."""
        fewer = copy.copy(self)
        fewer._kept = np.zeros(self.rows(), np.bool_)
        fewer._kept[rows] = True
        return fewer

    def find(self, name: str) -> Place:
        """Where a measure or column is; InputError that says what there is, or how to tell two apart.

        Words that several tables have alike, such as the labels that two classifiers were scored by, are found once.
        """
        column, _, model = name.partition("@")
        # The token table comes first, so that a column of a score table can never take the place of its own l1.
        if not model and (place := self._place_in(TOKEN_TABLE, column, self.schema.names)):
            return place
        places = [
            place
            for number, source in enumerate(self.sources)
            if (not model or source.model == model) and (place := self._place_in(number, column, source.columns))
        ]
        if len(places) == 1 or (places and self._alike(column, places)):
            return places[0]
        if places:
            names = " and ".join(f"{column}@{self.sources[place.source].model}" for place in places)
            raise InputError(f"'{name}' is in {len(places)} tables; write {names} to tell them apart.")
        raise InputError(self._missing(name))

    def has(self, name: str) -> bool:
        """Whether `find` finds it, in one place."""
        try:
            self.find(name)
        except InputError:
            return False
        return True

    def measures(self) -> list[str]:
        """Every name with a column per budget, `name@model` where two tables have it; one error has one name."""
        in_tokens = self.stems(self.schema.names)
        in_scores = [
            (stem, source.model)
            for source in self.sources
            for stem in self.stems(source.columns)
            if SAME_MEASURE.get(stem) not in in_tokens
        ]
        stems = [stem for stem, _ in in_scores] + in_tokens
        return in_tokens + [stem if stems.count(stem) == 1 else f"{stem}@{model}" for stem, model in in_scores]

    def image_columns(self) -> list[str]:
        """The columns with one value per image that images could be grouped by, of all tables."""
        columns = [
            name for table in (self.schema.names, *(source.columns for source in self.sources)) for name in table
        ]
        # A name such as l1_64 belongs to a measure of every budget and is no value of the image.
        tails = tuple(f"_{budget}" for budget in self.budgets)
        return [name for name in dict.fromkeys(columns) if not name.endswith(tails) and name not in NO_GROUPS]

    def models(self, measure: str) -> list[str]:
        """The models of the score tables that have a measure."""
        return [source.model for source in self.sources if measure in self.stems(source.columns)]

    def codecs(self) -> list[str]:
        """The names of other codecs whose pictures were scored: each is the end of columns such as `psnr_NAME`."""
        names = [source.info.codec for source in self.sources if source.info is not None]
        return list(dict.fromkeys(name for name in names if name))

    def rows(self) -> int:
        """Rows of the token table."""
        return count_rows(self.path)

    def images(self) -> NDArray[np.object_]:
        """The key of every row, in the order of the rows."""
        keys = [chunk.table["image"].to_numpy(zero_copy_only=False) for chunk in self.stream([], ["image"])]
        return np.concatenate(keys) if keys else np.zeros(0, np.object_)

    def photographs(self) -> NDArray[np.int64] | None:
        """The number of the photograph of each row, where the table has several views of each; None without views.

        Views of one photograph are alike, so that whoever resamples images has to draw them together.
        """
        if self.info.options.views is None:
            return None
        return number_photographs(self.images().tolist())

    def kind(self, name: str) -> pa.DataType:
        """The type of a name's columns."""
        place = self.find(name)
        schema = self.schema if place.source == TOKEN_TABLE else self.sources[place.source].schema
        return schema.field(place.columns[0]).type

    def _holds_lists(self, name: str) -> bool:
        kind = self.kind(name)
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))

    def model(self, name: str) -> str:
        """What the score table that a name is in is called behind the @; empty for the token table."""
        number = self.find(name).source
        return "" if number == TOKEN_TABLE else self.sources[number].model

    def task(self, name: str) -> str:
        """The task whose scores a name is one of; empty for the token table and for a table of the user's own."""
        number = self.find(name).source
        info = None if number == TOKEN_TABLE else self.sources[number].info
        return info.task if info else ""

    def words(self, name: str) -> set[str]:
        """The different words in a column of a score table; none where there is no such column."""
        if not self.has(name) or (number := self.find(name).source) == TOKEN_TABLE:
            return set()
        source = self.sources[number]
        words = pc.unique(source.column(bare(name))[bare(name)]).to_pylist()
        return {str(word) for word in words if word is not None}

    def stream(
        self, names: Sequence[str], raw: Sequence[str] = (), rows: int = ROWS, lists: bool = False
    ) -> Iterator[Chunk]:
        """Rows in the order of the token table, at most `rows` at a time, with the columns of these names.

        `raw` are columns of the token table to hand on as they are. Raises InputError for a damaged file, where none of
        the rows of a score table belongs to an image, and unless `lists` for codes and features, which can be neither
        compared nor grouped by.
        """
        places = {name: self.find(name) for name in dict.fromkeys(names)}
        if (several := next((name for name in places if self._holds_lists(name)), None)) and not lists:
            there = ", ".join(name for name in self.measures() if not self._holds_lists(name))
            raise InputError(f"'{several}' holds a list per image, which is no number; there is: {there or 'none'}.")
        in_tokens = [column for place in places.values() if place.source == TOKEN_TABLE for column in place.columns]
        missing = [column for column in raw if column not in has_columns(self.schema)]
        if missing:
            raise InputError(f"'{self.name}' has no column '{missing[0]}'; name a table of `alit tokenize`.")
        status = ["status"] if "status" in self.schema.names else []  # a selection has none: all of its rows are good
        # Two names may share a column, which is then read once.
        columns = list(dict.fromkeys([*status, *in_tokens, *raw]))
        used = sorted({place.source for place in places.values()} - {TOKEN_TABLE})
        scores = {number: self._aligned(number, places, rows) for number in used}
        start = 0
        for table in read_ahead(self._token_rows(columns, rows)):
            # The score tables give as many rows as the token table gave, so that a row is one image in all of them.
            tables = {TOKEN_TABLE: table} | {number: stream.take(table.num_rows) for number, stream in scores.items()}
            ok = (
                pc.fill_null(pc.equal(table["status"], "ok"), False).to_numpy()
                if status
                else np.ones(table.num_rows, np.bool_)
            )
            if self._kept is not None:
                ok = ok & self._kept[start : start + len(ok)]
            values = {name: _values(tables[place.source], place) for name, place in places.items()}
            yield Chunk(start, ok, values, table.select(list(dict.fromkeys(raw))))
            start += table.num_rows

    def _why_not_joined(self, source: ScoreSource) -> str | None:
        """A sentence on a score table of other tokens; None where it belongs to the token table."""
        reason = why_foreign(source.info, self.info) if source.info else None
        if reason is None:
            return None
        return (
            f"'{source.name}' does not belong to '{self.name}': {reason}. Run `alit score {self.name}` with another "
            "--out, and name that folder with --scores."
        )

    def _alike(self, name: str, places: Sequence[Place]) -> bool:
        """Whether the score tables say the same words of the same images, under a name that is none of a measure's."""
        if name not in self._compared:
            sources = [self.sources[place.source] for place in places]
            # Numbers of two models are two measures, even if they happen to be equal, so only words are compared.
            words = not any(place.per_budget for place in places) and all(source.has_words(name) for source in sources)
            first, *others = sources
            self._compared[name] = words and all(other.column(name).equals(first.column(name)) for other in others)
        return self._compared[name]

    def _token_rows(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """The token table, at most `rows` rows at a time."""
        for table in stream_row_groups(self.path, columns, rows):
            # A row group may have more rows than were asked for.
            for start in range(0, table.num_rows, rows):
                yield table.slice(start, rows)

    def _aligned(self, number: int, places: Mapping[str, Place], rows: int) -> RowStream:
        columns = [column for place in places.values() if place.source == number for column in place.columns]
        stream, remarks = self.sources[number].aligned_to(self.path, list(dict.fromkeys(columns)), rows)
        # A table is streamed several times in one analysis, but each remark is worth one sentence only.
        self.remarks += [remark for remark in remarks if remark not in self.remarks]
        return stream

    def _place_in(self, number: int, name: str, present: Sequence[str]) -> Place | None:
        smallest, other = self.budgets[0], SAME_MEASURE.get(name)
        if other is not None and f"{name}_{smallest}" not in present and f"{other}_{smallest}" in present:
            name = other
        columns = tuple(f"{name}_{budget}" for budget in self.budgets)
        there = [column for column in columns if column in present]
        if len(there) == len(columns):
            return Place(number, columns, per_budget=True)
        if name in present:
            return Place(number, (name,), per_budget=False)
        if there:
            lacking = next(column for column in columns if column not in present)
            where = self.name if number == TOKEN_TABLE else self.sources[number].name
            raise InputError(f"'{where}' has {there[0]} but no {lacking}; a criterion wants every budget of the model.")
        return None

    def stems(self, present: Sequence[str]) -> list[str]:
        """The measures among some columns: the names that stand before the smallest budget."""
        tail = f"_{self.budgets[0]}"
        stems = [column.removesuffix(tail) for column in present if column.endswith(tail)]
        # The columns tokens_16 and latents_16 hold codes, not measures.
        return [stem for stem in stems if stem not in ("tokens", "latents")]

    def _missing(self, name: str) -> str:
        column, _, model = name.partition("@")
        # A table that has the name but belongs to other tokens is the likeliest reason, so it is said first.
        for table in self.foreign:
            columns = (*table.source.columns, *self.stems(table.source.columns))
            if column in columns and model in ("", table.source.model):
                return table.sentence
        there = ", ".join(["recon (l1)" if stem == "l1" else stem for stem in self.measures()]) or "none"
        if column == "l1" and not self.info.losses:
            return f"'{self.name}' was made with --no-losses and has no l1 columns; tokenize again without."
        if models := self.models(column):
            return f"There is no '{name}'; there is: {', '.join(f'{column}@{known}' for known in models)}."
        how = how_to_make(name, self.name)
        what = f"measure '{name}'" if column in MEASURES else f"criterion '{name}'"
        return f"There is no {what}; there is: {there}{f'; {how}' if how else ''}."


def _score_files(tokens: Path, scores: Path | None) -> list[Path]:
    """The Parquet files of the folder of score tables, by name; none where there is no folder."""
    if scores is not None and not scores.is_dir():
        raise InputError(f"There is no folder '{readable(str(scores))}' of score tables; `alit score` makes one.")
    folders = [scores] if scores is not None else [Path("scores"), tokens.parent / "scores"]
    # The first folder wins: two are never mixed, because both may hold the same measure.
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return [] if folder is None else sorted(folder.glob("*.parquet"))


def _values(table: pa.Table, place: Place) -> NDArray[Any]:
    """The columns as one array: n T, n T d or n."""
    arrays = [to_numpy(table[column]) for column in place.columns]
    # Stacking in front copies each column in one piece; swapping the axes then only changes the view.
    return np.stack(arrays, axis=0).swapaxes(0, 1) if place.per_budget else arrays[0]
