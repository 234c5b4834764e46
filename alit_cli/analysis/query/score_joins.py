"""Tables of scores beside a token table, laid along its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.analysis.query.streaming import Sliced, parts
from alit_cli.data.annotations.frames import IMAGE_NAMES, find_column, read_frame
from alit_cli.data.annotations.matching import match
from alit_cli.data.files import readable
from alit_cli.data.tables.parquet import KEY, count_rows, open_columns
from alit_cli.errors import InputError


@dataclass(frozen=True)
class ScoreSource:
    """A table of scores, ours or one's own.

    Attributes:
        model: what tells it from another with the same measure: behind the @ of its file's name, else that name.
        schema: its columns.
        image: the column that names the images.
        about: what a table of ours says about itself; empty for one's own.
        frame: the content of a text file, which has been read; None for Parquet.
    """

    path: Path
    model: str
    schema: pa.Schema
    image: str
    about: Mapping[str, Any] = field(default_factory=dict)
    frame: pa.Table | None = None

    @property
    def columns(self) -> list[str]:
        """The names of its columns but the images'."""
        return [name for name in self.schema.names if name != self.image]

    @property
    def name(self) -> str:
        """The path, printable."""
        return readable(str(self.path))

    def has_words(self, name: str) -> bool:
        """Whether a column holds text."""
        return bool(pa.types.is_string(self.schema.field(name).type))

    def column(self, name: str) -> pa.Table:
        """A column beside the one that names the images, whole."""
        columns = [self.image, name]
        return open_columns(self.path, columns) if self.frame is None else self.frame.select(columns)

    def along(self, tokens: Path, columns: Sequence[str], rows: int) -> tuple[Sliced, list[str]]:
        """These columns row by row of the token table, null where it has none, and remarks on what did not match.

        A Parquet file whose rows are the token table's is streamed; any other is read whole. Raises InputError
        where none of its names is one of the token table's, or one could be several.
        """
        if self.frame is None and self._same_rows(tokens):
            return Sliced(parts(self.path, columns, rows)), []
        whole = open_columns(self.path, [self.image, *columns]) if self.frame is None else self.frame
        places, remarks = rows_of_keys(self.name, whole[self.image], open_columns(tokens, ["image"])["image"])
        laid = whole.select(list(columns)).take(pa.array(places, mask=places < 0))
        return Sliced([laid]), remarks

    def _same_rows(self, tokens: Path) -> bool:
        """Whether the two tables name the same images in the same order."""
        if not self.path.is_file() or pq.read_metadata(self.path).num_rows != count_rows(tokens):
            return False
        mine, theirs = Sliced(parts(self.path, [self.image], 100_000)), Sliced(parts(tokens, ["image"], 100_000))
        while (table := mine.some()) is not None:
            other = theirs.take(table.num_rows)
            if not table[self.image].cast(pa.string()).equals(other["image"].cast(pa.string())):
                return False
        return True


def open_score_source(path: Path) -> ScoreSource:
    """A score table of `alit score`, or a csv or parquet of one's own; InputError where it is none of them."""
    model = path.stem.rpartition("@")[2]
    if path.suffix.lower() not in (".parquet", ".pq"):
        frame = read_frame(path)
        image = find_column(frame, None, IMAGE_NAMES, "image names", "image", path)
        numbers = {str(name): _numbers(column) for name, column in frame.items() if name != image}
        table = pa.Table.from_pandas(pd.DataFrame({image: frame[image].astype(str), **numbers}), preserve_index=False)
        return ScoreSource(path, model, table.schema, image, frame=table)
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no table '{readable(str(path))}'.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{readable(str(path))}' is not a Parquet file, or is damaged.") from error
    empty = schema.empty_table().to_pandas()
    image = find_column(empty, None, IMAGE_NAMES, "image names", "image", path)
    return ScoreSource(path, model, schema, image, _about(schema))


def _about(schema: pa.Schema) -> dict[str, Any]:
    """The description inside a table of ours; empty where there is none."""
    try:
        found = json.loads((schema.metadata or {}).get(KEY, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def rows_of_keys(side: str, names: pa.ChunkedArray, keys: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """For each key, which of the names is its own (-1: none), and remarks on those left over on either side.

    By the whole path, then by the longest ending that fits one image only. Raises InputError where none matches,
    a name is there twice, or one could be several.
    """
    names, keys = names.cast(pa.string()), keys.cast(pa.string())
    rows = pc.index_in(keys, value_set=names.combine_chunks())
    placed = pc.fill_null(rows, -1).to_numpy().astype(np.int64)
    found = int((placed >= 0).sum())
    if found < len(names) or pc.count_distinct(names).as_py() < len(names):
        pairs = match(names.to_pylist(), keys.to_pylist())
        placed[:] = -1
        placed[pairs.keys] = pairs.names
        found = len(pairs.names)
    if not found:
        raise InputError(
            f"None of the rows of '{side}' belongs to an image of the token table: it names images like "
            f"{_examples(names)}, the table has {_examples(keys)}."
        )
    remarks = []
    unused = np.ones(len(names), np.bool_)
    unused[placed[placed >= 0]] = False
    for what, left, total in (
        (f"rows of '{side}' belong to no image of the token table", names.filter(pa.array(unused)), len(names)),
        (f"images of the token table have no row in '{side}'", keys.filter(pa.array(placed < 0)), len(keys)),
    ):
        if len(left):
            remarks.append(f"{len(left)} of {total} {what}: {_examples(left, 3)}.")
    return placed, remarks


def _examples(names: pa.ChunkedArray, most: int = 2) -> str:
    shown = [str(name) for name in names.slice(0, most).to_pylist()]
    if most == 2:
        return " and ".join(f"'{name}'" for name in shown) or "none"
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _numbers(column: pd.Series[str]) -> pd.Series[Any]:
    """A text column as numbers where all that is written in it is one."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if (numbers.isna() & column.notna() & (column.str.lower() != "nan")).any() else numbers
