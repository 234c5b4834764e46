"""Tables of scores beside a token table: which of them belong to it, and their rows in its order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.analysis.query.streaming import RowStream
from alit_cli.data.annotations.frames import IMAGE_NAMES, find_column, read_frame
from alit_cli.data.annotations.matching import match
from alit_cli.data.files import readable
from alit_cli.data.tables.parquet import KEY, count_rows, open_columns, stream_row_groups
from alit_cli.data.tables.score_table import FORMAT_NAME, ScoreInfo, read_score_info
from alit_cli.errors import InputError

SHOWN_NAMES = 3
"""Names of unmatched rows that a remark quotes."""


@dataclass(frozen=True)
class ScoreSource:
    """A table of scores, written by `alit score` or by the user.

    Attributes:
        model: what tells it from another table with the same measure: the part of its file's name behind the @, or
            else the whole name.
        schema: its columns.
        image: the column that names the images.
        info: what a table of `alit score` says about itself; None for a table of the user's own.
        frame: the content of a text file, which has been read already; None for Parquet.
    """

    path: Path
    model: str
    schema: pa.Schema
    image: str
    info: ScoreInfo | None = None
    frame: pa.Table | None = None

    @property
    def columns(self) -> list[str]:
        """The names of its columns but the one that names the images."""
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

    def aligned_to(self, tokens: Path, columns: Sequence[str], rows: int) -> tuple[RowStream, list[str]]:
        """These columns in the row order of the token table, null where they have no row, and remarks on the rest.

        A Parquet file whose rows are the token table's is streamed; any other is read whole. Raises InputError
        where none of its names is one of the token table's, or one could be several.
        """
        # The same rows in the same order need no join, so that tables of any size can be streamed.
        if self.frame is None and self._has_rows_of(tokens):
            return RowStream(stream_row_groups(self.path, columns, rows)), []
        whole = open_columns(self.path, [self.image, *columns]) if self.frame is None else self.frame
        positions, remarks = positions_of_keys(self.name, whole[self.image], open_columns(tokens, ["image"])["image"])
        aligned = whole.select(list(columns)).take(pa.array(positions, mask=positions < 0))
        return RowStream([aligned]), remarks

    def _has_rows_of(self, tokens: Path) -> bool:
        """Whether the two tables name the same images in the same order."""
        # The number of rows stands in the footer, so most tables that differ are told apart without reading names.
        if not self.path.is_file() or pq.read_metadata(self.path).num_rows != count_rows(tokens):
            return False
        names = RowStream(stream_row_groups(self.path, [self.image], 100_000))
        keys = RowStream(stream_row_groups(tokens, ["image"], 100_000))
        while (table := names.next_piece()) is not None:
            # `equals` compares types too, and the two files may store the same names with different string types.
            others = keys.take(table.num_rows)
            if not table[self.image].cast(pa.string()).equals(others["image"].cast(pa.string())):
                return False
        return True


def open_score_source(path: Path) -> ScoreSource:
    """A score table of `alit score`, or a csv or Parquet file of the user's own; InputError where it is neither."""
    # rpartition gives the whole stem where it holds no @.
    model = path.stem.rpartition("@")[2]
    if path.suffix.lower() not in (".parquet", ".pq"):
        # A text file has no types: it must be read whole to know which of its columns are numbers.
        frame = read_frame(path)
        image = find_column(frame, None, IMAGE_NAMES, "image names", "image", path)
        numbers = {str(name): _as_numbers(column) for name, column in frame.items() if name != image}
        table = pa.Table.from_pandas(pd.DataFrame({image: frame[image].astype(str), **numbers}), preserve_index=False)
        return ScoreSource(path, model, table.schema, image, frame=table)
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no table '{readable(str(path))}'.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{readable(str(path))}' is not a Parquet file, or is damaged.") from error
    # No row is needed to find the column of image names: their header is enough.
    empty = schema.empty_table().to_pandas()
    image = find_column(empty, None, IMAGE_NAMES, "image names", "image", path)
    return ScoreSource(path, model, schema, image, _score_info(path, schema))


def _score_info(path: Path, schema: pa.Schema) -> ScoreInfo | None:
    """The description inside a table of `alit score`; None for any other table, which is then the user's own."""
    # Another table of alit, such as a selection, has a description too: its columns are as good as a user's own.
    if f'"{FORMAT_NAME}/'.encode() not in (schema.metadata or {}).get(KEY, b""):
        return None
    return read_score_info(path)


def positions_of_keys(
    source: str, names: pa.ChunkedArray, keys: pa.ChunkedArray
) -> tuple[NDArray[np.int64], list[str]]:
    """For each key the position of its row among the names (-1: it has none), and remarks on what is left over.

    Rows are found by the whole path, then by the longest ending that fits one image only. Raises InputError where
    none matches, a name is there twice, or one could be several.
    """
    names, keys = names.cast(pa.string()), keys.cast(pa.string())
    positions = pc.fill_null(pc.index_in(keys, value_set=names.combine_chunks()), -1).to_numpy().astype(np.int64)
    matched = int((positions >= 0).sum())
    # The quick join by whole paths is only right if it uses every name, and no name is there twice.
    if matched < len(names) or pc.count_distinct(names).as_py() < len(names):
        pairs = match(names.to_pylist(), keys.to_pylist())
        # `match` pairs whole paths as well as endings, so what the quick join found is forgotten.
        positions[:] = -1
        positions[pairs.keys] = pairs.names
        matched = len(pairs.names)
    if not matched:
        raise InputError(
            f"None of the rows of '{source}' belongs to an image of the token table: it names images like "
            f"{_two_names(names)}, the table has {_two_names(keys)}."
        )
    unused = np.ones(len(names), np.bool_)
    unused[positions[positions >= 0]] = False
    remarks = []
    for what, left, total in (
        (f"rows of '{source}' belong to no image of the token table", names.filter(pa.array(unused)), len(names)),
        (f"images of the token table have no row in '{source}'", keys.filter(pa.array(positions < 0)), len(keys)),
    ):
        if len(left):
            remarks.append(f"{len(left)} of {total} {what}: {_first_names(left)}.")
    return positions, remarks


def _two_names(names: pa.ChunkedArray) -> str:
    return " and ".join(f"'{name}'" for name in names.slice(0, 2).to_pylist()) or "none"


def _first_names(names: pa.ChunkedArray) -> str:
    shown = ", ".join(str(name) for name in names.slice(0, SHOWN_NAMES).to_pylist())
    return shown + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def _as_numbers(column: pd.Series[str]) -> pd.Series[Any]:
    """A text column as numbers, where all that is written in it is one."""
    numbers = pd.to_numeric(column, errors="coerce")
    # One word that is no number keeps the column as text, so that no word silently becomes NaN.
    return column if (numbers.isna() & column.notna() & (column.str.lower() != "nan")).any() else numbers
