"""Parquet files of any kind: how alit stores them, how they are written whole, and how they are streamed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.data import marks
from alit_cli.data.files import open_output, readable
from alit_cli.data.marks import Kind
from alit_cli.data.tables.parts import parts
from alit_cli.data.tables.prefixes import Rows, has_columns, stored_names, take_columns
from alit_cli.data.tables.sound import check_rows, check_unique
from alit_cli.errors import InputError

KEY = marks.KEY.encode()
"""The metadata key of every table that alit writes; its value is the JSON of what the table says of itself."""
ROW_GROUP = 10_000
"""Rows of a row group: small enough to be read in part, large enough to compress well."""


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """How our Parquet files are stored, as keywords for pyarrow.

    zstd, page index, floats as split byte streams without a dictionary, all else (ids, words, sizes) with one.
    """
    paths: dict[str, bool] = {}
    for field in schema:
        is_list = pa.types.is_list(field.type)
        # pyarrow wants the path of the stored leaf, and in a list that is its element.
        path = f"{field.name}.list.element" if is_list else field.name
        paths[path] = pa.types.is_floating(field.type.value_type if is_list else field.type)
    return {
        "compression": "zstd",
        # 3 is the default level of zstd's own tools.
        "compression_level": 3,
        "use_dictionary": [path for path, floating in paths.items() if not floating],
        # pyarrow prefers the dictionary where a column is named in both lists, so the two never overlap.
        "use_byte_stream_split": [path for path, floating in paths.items() if floating],
        "write_page_index": True,
        "write_page_checksum": True,
    }


def write_table(table: pa.Table, path: str | Path, kind: Kind = "token table") -> None:
    """Write a table as Parquet, whole or not at all. Raises as `open_output`."""
    with open_output(path, kind) as file:
        pq.write_table(table, file, row_group_size=ROW_GROUP, **encodings(table.schema))


def read_schema(path: str | Path) -> pa.Schema:
    """Columns and metadata of a table, a file or the first of a folder of parts.

    Raises:
        InputError: it does not exist, cannot be read, or is not a Parquet file.
    """
    file = parts(path)[0]
    name = readable(file)
    try:
        with open_parquet(file) as opened:
            check_unique(opened.schema_arrow, file)
            return opened.schema_arrow
    except FileNotFoundError as problem:
        # A work folder beside the missing file tells an unfinished run from a mistyped name.
        if os.path.isdir(f"{file}.work"):
            raise InputError(
                f"'{name}' is not finished: its work lies in '{name}.work'. Repeat the command that began it; `alit "
                f"status {name}` says how far it is."
            ) from problem
        raise InputError(
            f"'{name}' does not exist; `alit tokenize` makes a token table, and `alit select` makes a selection of it."
        ) from problem
    except pa.ArrowException as problem:
        raise InputError(f"'{name}' is not a Parquet file, or is damaged.") from problem
    except OSError as problem:
        raise InputError(f"'{name}' cannot be read: {problem.strerror or problem}.") from problem


def read_description(path: str | Path) -> bytes:
    """The JSON of what a table says of itself. Raises InputError as read_schema, or where alit did not write it."""
    metadata = read_schema(path).metadata or {}
    if KEY not in metadata:
        raise InputError(f"'{readable(os.fspath(path))}' is a Parquet file, but not one that alit wrote.")
    description: bytes = metadata[KEY]
    return description


def column_names(path: str | Path) -> list[str]:
    """The columns that can be read from a table, in order. Raises InputError as `read_schema`."""
    return has_columns(read_schema(path))


def open_columns(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns (None: all) of a file or a folder of parts. Raises InputError as `stream_columns`."""
    schema = read_schema(path)
    names = schema.names if columns is None else list(columns)
    _check_columns(path, names, schema)
    pieces = []
    for file in parts(path):
        with named_damage(path), open_parquet(file) as opened:
            rows = opened.read(columns=None if columns is None else stored_names(schema, names))
            # `read_schema` has looked at the columns of the first part only, and at no rows.
            check_rows(rows, file)
            pieces.append(rows if columns is None else take_columns(rows, names, schema))
    return pa.concat_tables(pieces)


def stream_columns(
    path: str | Path, columns: Sequence[str] | None = None, rows: int = ROW_GROUP
) -> Iterator[pa.RecordBatch]:
    """Some columns (None: all) of a file or a folder of parts, at most so many rows at a time.

    A row group of a foreign table may have millions of rows; this reads it piece by piece, in little memory.

    Raises:
        InputError: as read_schema, a column is missing, or a file is damaged.
    """
    for file in parts(path):
        schema = read_schema(file)
        if columns is not None:
            _check_columns(file, columns, schema)
        stored = None if columns is None else stored_names(schema, columns)
        with open_parquet(file) as opened:
            yield from _checked(opened.iter_batches(rows, columns=stored), file, columns, schema)


def stream_row_groups(path: str | Path, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """Some columns of a file or a folder of parts, as many whole row groups at a time as have at most `rows` rows.

    For passes over millions of rows, which take twice as long with stream_columns: here the columns of several row
    groups are decoded in parallel. A row group of more than `rows` rows comes whole.

    Raises InputError: a file is damaged.
    """
    # The status repeats a few words in every row; read as a dictionary, it takes far less memory.
    words = ["status"] if "status" in columns else []
    for file in parts(path):
        with open_parquet(file, words) as opened:
            schema = opened.schema_arrow
            yield from _checked(row_groups(opened, stored_names(schema, columns), rows), file, columns, schema)


def row_groups(opened: pq.ParquetFile, columns: Sequence[str] | None = None, rows: int = 0) -> Iterator[pa.Table]:
    """The row groups of an open file, as many at a time as have at most `rows` rows, but one at least.

    Nothing is checked but the checksums of pages, and errors are those of Arrow.
    """
    waiting: list[int] = []
    waiting_rows = 0
    for number in range(opened.num_row_groups):
        size = opened.metadata.row_group(number).num_rows
        if waiting and waiting_rows + size > rows:
            yield opened.read_row_groups(waiting, columns)
            waiting, waiting_rows = [], 0
        waiting.append(number)
        waiting_rows += size
    if waiting:
        yield opened.read_row_groups(waiting, columns)


def _checked(pieces: Iterable[Rows], file: str, columns: Sequence[str] | None, schema: pa.Schema) -> Iterator[Rows]:
    """The columns of each piece that is read from a file of this schema. Raises InputError: the file is damaged."""
    reading = iter(pieces)
    while True:
        # Only reading is watched: an error of whoever uses the rows is not the file's.
        with named_damage(file):
            piece = next(reading, None)
            if piece is None:
                return
            check_rows(piece, file)
            taken = piece if columns is None else take_columns(piece, columns, schema)
        yield taken


def read_rows(path: str | Path, columns: Sequence[str], rows: Sequence[int] | NDArray[np.int64]) -> pa.Table:
    """The rows of these numbers, which rise, of some columns; only row groups that hold one of them are read.

    Raises InputError as `stream_columns`.
    """
    pieces, first, taken = [], 0, 0
    schema = read_schema(path)
    _check_columns(path, columns, schema)
    stored = stored_names(schema, columns)
    for file in parts(path):
        with named_damage(file), open_parquet(file) as opened:
            for group in range(opened.num_row_groups):
                after = first + opened.metadata.row_group(group).num_rows
                inside: list[int] = []
                # The wanted rows rise, so that one pass over the row groups meets them all.
                while taken < len(rows) and rows[taken] < after:
                    inside.append(int(rows[taken]) - first)
                    taken += 1
                if inside:
                    read = opened.read_row_group(group, columns=stored).take(pa.array(inside))
                    check_rows(read, file)
                    pieces.append(take_columns(read, columns, schema))
                first = after
    if not pieces:
        # Without a piece there is nothing to take the types of the columns from.
        return open_columns(path, columns).slice(0, 0)
    return pa.concat_tables(pieces)


def count_rows(path: str | Path) -> int:
    """Rows of a file or a folder of parts, from their footers. Raises InputError as `read_schema`."""
    # Only for its errors, which are sentences; those of the footers below are not.
    read_schema(path)
    count = 0
    for file in parts(path):
        with open_parquet(file) as opened:
            count += opened.metadata.num_rows
    return count


def _check_columns(path: str | Path, columns: Sequence[str], schema: pa.Schema) -> None:
    """Raises InputError: a column is missing."""
    known = has_columns(schema)
    missing = [name for name in columns if name not in known]
    if missing:
        name = readable(os.fspath(path))
        raise InputError(f"'{name}' has no column '{missing[0]}'; it has {', '.join(known)}.")


@contextmanager
def open_parquet(file: str | Path, read_dictionary: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A Parquet file to be read. Every table is opened here, so that no reader forgets the checksums of its pages.

    Args:
        read_dictionary: columns to be read as dictionaries.
    """
    # Through OSFile, since pyarrow takes a str for UTF-8, which names of files need not be. A damaged page may still
    # decompress, to other numbers; its checksum tells.
    with (
        pa.OSFile(os.fsencode(file)) as source,
        pq.ParquetFile(source, read_dictionary=list(read_dictionary), page_checksum_verification=True) as opened,
    ):
        yield opened


@contextmanager
def named_damage(path: str | Path) -> Iterator[None]:
    """Turn what pyarrow raises for damaged data into a sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as problem:
        raise InputError(f"'{readable(os.fspath(path))}' is damaged; make it again.") from problem
