"""Encoded images inside Parquet files, as Hugging Face writes them: their keys, and the bytes of one row."""

import os
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alit_cli.data.files import readable
from alit_cli.data.sources.extra_columns import ExtraColumns, as_json
from alit_cli.data.sources.remote import open_file
from alit_cli.errors import ImageProblem, InputError

NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes")
"""What a column of plain bytes is called when it holds images."""
KEPT_GROUPS = 2
"""Row groups that each process holds in memory: readers ask for rows in order, a few of them at once."""


def rows(path: str, keeper: ExtraColumns, real: str | None = None) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """The key of every row of a file (at `real`, where that is another place), and the values kept of it as JSON.

    The key is the path beside its bytes where there is one, else the file's stem and the row's number.

    Raises:
        InputError: not a Parquet file, one without a column of encoded images, or a column that cannot be kept.
    """
    stem = PurePath(path).stem
    with _opened(path, real or path) as file:
        schema = file.schema_arrow
        # pyarrow finds columns by name and fails with an unclear message where a name is not unique.
        if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
            raise InputError(f"'{readable(path)}' has two columns called '{readable(twice[0])}'; rename one of them.")
        column = image_column(schema, path)
        named = pa.types.is_struct(schema.field(column).type) and schema.field(column).type.get_field_index("path") >= 0
        kept = [name for name in keeper.names if name in schema.names]
        for name in kept:
            keeper.declare(name, schema.field(name).type, path)
        wanted = [*([f"{column}.path"] if named else []), *kept]
        row = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            # Only names and kept columns are read, not the bytes beside them.
            table = file.read_row_group(group, columns=wanted) if wanted else None
            names = texts(pc.struct_field(table[column], "path")) if table and named else [None] * count
            empty: list[Any] = [None] * count
            columns = [texts(table[name]) if table and name in kept else empty for name in keeper.names]
            for place, name in enumerate(names):
                yield name or f"{stem}/{row}", tuple(as_json(values[place]) for values in columns)
                row += 1


def texts(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; in strings that are not UTF-8, such bytes become `\\xNN`."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            raise
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else readable(os.fsdecode(value)) for value in raw]


def image_column(schema: pa.Schema, path: str) -> str:
    """The column of encoded images: a struct with `bytes`, else plain bytes under a usual name, or the only bytes.

    Raises:
        InputError: there is none.
    """
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    plain = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    usual = [name for name in NAMES if name in plain]
    chosen = structs or usual or (plain if len(plain) == 1 else [])
    if not chosen:
        known = ", ".join(schema.names)
        raise InputError(f"'{path}' has no column of encoded images (struct<bytes, path> or binary); it has {known}.")
    return chosen[0]


class RowReader:
    """Reads single rows, keeping the last few row groups; safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[str, int], pa.ChunkedArray | ImageProblem] = OrderedDict()
        self._starts: dict[str, list[int]] = {}

    def read(self, path: str, row: int) -> bytes:
        """The bytes of one row. Raises OSError, and ImageProblem: the row holds none, or its row group is damaged."""
        # The lock is held while a row group is read: other threads mostly want the same one, and would read it again.
        with self._lock:
            group, start = self._place(path, row)
            if (path, group) not in self._groups:
                self._groups[path, group] = _load(path, group)
                if len(self._groups) > KEPT_GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end((path, group))
            values = self._groups[path, group]
            if isinstance(values, ImageProblem):
                # A new exception each time, as threads that raise one object would write into the same traceback.
                raise ImageProblem(values.status, str(values))
            value = values[row - start].as_py()
        if not value:
            raise ImageProblem("empty", "The row holds no bytes.")
        return bytes(value)

    def _place(self, path: str, row: int) -> tuple[int, int]:
        """The row group of a row, and its first row."""
        if path not in self._starts:
            with open_file(path) as source, pq.ParquetFile(source) as file:
                starts = [0]
                for group in range(file.num_row_groups):
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
            # The footer of a file with many row groups is slow to read, so each process reads it once.
            self._starts[path] = starts
        starts = self._starts[path]
        # From the right, so that empty row groups, which begin at the same row as the next, are passed over.
        group = bisect_right(starts, row) - 1
        return group, starts[group]


def _load(path: str, group: int) -> pa.ChunkedArray | ImageProblem:
    """The bytes of a row group, or what is said of each of its rows where it is damaged."""
    try:
        # Damage is returned and kept like bytes, so that the other rows of the group do not read it again.
        return _read_group(path, group)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, IndexError) as problem:
        reason = str(problem).splitlines()[0].rstrip(".")
        return ImageProblem("unreadable", f"The row group of the Parquet file is damaged ({reason}).")


def _read_group(path: str, group: int) -> pa.ChunkedArray:
    # A damaged page may still decompress, to other bytes; the file's checksums tell, where its writer stored them.
    with open_file(path) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
        column = image_column(file.schema_arrow, path)
        is_struct = pa.types.is_struct(file.schema_arrow.field(column).type)
        table = file.read_row_group(group, columns=[f"{column}.bytes" if is_struct else column])
        return pa.chunked_array([c.field("bytes") for c in table[column].chunks]) if is_struct else table[column]


@contextmanager
def _opened(path: str, real: str) -> Iterator[pq.ParquetFile]:
    try:
        with open_file(real) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as problem:
        reason = readable(str(problem).splitlines()[0].rstrip("."))
        raise InputError(f"'{readable(path)}' cannot be read as Parquet: {reason}.") from problem
