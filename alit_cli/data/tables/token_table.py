"""The token table: what its columns are, how its rows are made, and how tables are written and read."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.config import token_bits
from alit_cli.data.files import open_output, readable
from alit_cli.data.marks import Kind
from alit_cli.data.pictures.fitting import Picture
from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.sources.extra_columns import kept_column, kept_schema
from alit_cli.data.tables.parquet import encodings
from alit_cli.data.tables.parts import parts
from alit_cli.errors import InputError

KEY = b"alit"
"""The metadata key of every table of ours; its value is the JSON of a TableInfo."""
FORMAT_NAME, FORMAT_VERSION = "alit", 1
FORMAT = f"{FORMAT_NAME}/{FORMAT_VERSION}"
ROW_GROUP = 10_000


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """What a token table says about itself, under the metadata key `alit`.

    `budgets` are ascending token counts; `codes` is the size of the codebook, 0 for continuous latents, of
    which each token has `token_dim` numbers. `model` is the name or path it was given by, `model_sha256` the
    weights' hash. `versions` are those of the packages that decide the numbers, `options` whatever else the
    command was given.
    """

    format: str = FORMAT
    model: str
    model_sha256: str
    image_size: int
    budgets: tuple[int, ...]
    codes: int
    token_dim: int
    fit: str
    precision: str
    batch_size: int
    versions: Mapping[str, str]
    options: Mapping[str, Any]

    @property
    def model_id(self) -> str:
        """The first 16 hex digits of the weights' sha256."""
        return self.model_sha256[:16]

    @property
    def losses(self) -> bool:
        """Whether the table has the L1 columns."""
        return bool(self.options.get("losses", True))

    @property
    def stop(self) -> float | None:
        """The L1 below which each image's rollout stopped early; None where all ran to the largest budget."""
        found = self.options.get("stop")
        return None if found is None else float(found)

    @property
    def digest(self) -> bool:
        """Whether the table has the sha256 of every file's bytes."""
        return bool(self.options.get("hash", False))

    @property
    def keep(self) -> dict[str, str]:
        """Names of kept columns and their types, as keeping.kept_type reads them."""
        return dict(self.options.get("keep", {}))

    @property
    def tokens(self) -> str:
        """The stem of the token columns: `tokens` for ids, `latents` for a continuous model."""
        return "tokens" if self.codes else "latents"

    @property
    def bits_per_token(self) -> float:
        """What a token costs: an id of its codebook, or 16 bits for each number of a continuous one."""
        return token_bits(self.codes, self.token_dim)

    @property
    def numbers_per_token(self) -> int:
        """How many stored numbers a token is: its id, or those of a continuous latent."""
        return 1 if self.codes else self.token_dim

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "TableInfo":
        """Read `to_json`; further keys are ignored. Raises InputError for another or a newer format."""
        try:
            found = json.loads(text)
            name, version = str(found["format"]).split("/")
            if name != FORMAT_NAME:
                raise InputError(f"It is a table of another kind ({name}); a token table or a selection is wanted.")
            if int(version) > FORMAT_VERSION:
                raise InputError(
                    f"The table has format {version}, this alit reads up to {FORMAT_VERSION}; install a newer alit."
                )
            values = {field.name: found[field.name] for field in fields(cls)}
            return cls(**{**values, "budgets": tuple(values["budgets"])})
        except (ValueError, KeyError, TypeError) as problem:
            raise InputError("The description inside the table is not one of alit.") from problem


def token_schema(info: TableInfo, measures: bool) -> pa.Schema:
    """The columns of a token table: names, status, size, measures, L1 and tokens at every budget."""
    columns: list[tuple[str, pa.DataType]] = [
        ("image", pa.string()),
        ("source", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
    if measures:
        columns += [(name, pa.int32() if name.endswith("_bytes") else pa.float32()) for name in PLAIN_MEASURES]
        columns += [(f"thumbnail_{budget}", pa.float32()) for budget in info.budgets]
    if info.losses:
        columns += [(f"l1_{budget}", pa.float32()) for budget in info.budgets]
    columns += [(f"{info.tokens}_{budget}", _token_type(info)) for budget in info.budgets]
    if info.stop is not None:
        columns.append(("n_tokens", pa.int32()))
    columns.append(("model_id", pa.string()))
    if info.digest:
        columns.append(("sha256", pa.string()))
    columns += kept_schema(info.keep)
    return pa.schema(columns, metadata={KEY: info.to_json().encode()})


def token_rows(
    info: TableInfo,
    pictures: Sequence[Picture],
    reached: NDArray[np.bool_],
    l1: Mapping[int, NDArray[np.float32]],
    tokens: Mapping[int, NDArray[Any]],
    measures: bool,
    kept: Mapping[str, Sequence[str | None]] | None = None,
) -> pa.Table:
    """Rows of a token table, one per picture in their order; a picture that failed has nulls.

    Args:
        info, measures: as token_schema takes them.
        pictures: what was read.
        reached: n × T, which budgets each of the n pictures whose status is 'ok' got to, in order.
        l1: by budget, the float32 errors of the pictures that reached it; empty where the table has no losses.
        tokens: by budget, their tokens: uint16 m × budget, or float16 m × budget × token_dim of a continuous model.
        kept: by name, the JSON of every picture's kept value; None where nothing is kept.
    """
    ok = np.array([picture.status == "ok" for picture in pictures], dtype=bool)
    if reached.shape != (ok.sum(), len(info.budgets)):
        raise ValueError(f"reached has shape {reached.shape}, not {(int(ok.sum()), len(info.budgets))}")
    names = ("image", "source", "status", "error", "width", "height")
    columns: dict[str, Any] = {name: [getattr(picture, name) for picture in pictures] for name in names}
    if measures:
        columns |= _measure_columns(info, pictures)
    for index, budget in enumerate(info.budgets):
        there = ok.copy()
        there[ok] = reached[:, index]
        if info.losses:
            columns[f"l1_{budget}"] = _spread(l1[budget], there)
        columns[f"{info.tokens}_{budget}"] = _lists(tokens[budget], there, budget, info)
    if info.stop is not None:
        steps = reached.sum(axis=1)
        columns["n_tokens"] = _spread(np.asarray(info.budgets, np.int32)[steps - 1], ok)
    columns["model_id"] = [info.model_id] * len(pictures)
    columns["sha256"] = [picture.sha256 for picture in pictures]
    columns |= {name: kept_column((kept or {})[name], kind) for name, kind in info.keep.items()}
    schema = token_schema(info, measures)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def write_table(table: pa.Table, path: str | Path, kind: Kind = "token table") -> None:
    """Write a table as Parquet, whole or not at all. Raises as `open_output`."""
    with open_output(path, kind) as file:
        pq.write_table(table, file, row_group_size=ROW_GROUP, **encodings(table.schema))


def read_info(path: str | Path) -> TableInfo:
    """What a table (a file or a folder of parts) says about itself; InputError where it is not one of ours."""
    part = parts(path)[0]
    metadata = _schema(part).metadata or {}
    name = readable(os.fspath(path))
    if KEY not in metadata:
        raise InputError(f"'{name}' is a Parquet file, but not one that alit wrote.")
    try:
        return TableInfo.from_json(metadata[KEY])
    except InputError as problem:
        raise InputError(f"'{name}' cannot be used: {problem}") from problem


def column_names(path: str | Path) -> list[str]:
    """The columns of a table, in order. Raises InputError as `read_info`."""
    return list(_schema(parts(path)[0]).names)


def open_columns(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns (None: all) of a file or a folder of parts. InputError as `read_info`, or names what lacks."""
    files = parts(path)
    present = _schema(files[0]).names
    missing = [name for name in columns or () if name not in present]
    if missing:
        raise InputError(f"'{readable(os.fspath(path))}' has no column '{missing[0]}'; it has {', '.join(present)}.")
    try:
        return pa.concat_tables(_open(part).read(columns=columns) for part in files)
    except (pa.ArrowInvalid, OSError) as problem:
        raise InputError(f"'{readable(os.fspath(path))}' is damaged; make it again.") from problem


def stream_columns(path: str | Path, columns: Sequence[str], rows: int = ROW_GROUP) -> Iterator[pa.RecordBatch]:
    """Some columns of a file or a folder of parts, some rows at a time. Raises InputError as `open_columns`."""
    for part in parts(path):
        present = _schema(part).names
        missing = [name for name in columns if name not in present]
        if missing:
            raise InputError(f"'{readable(part)}' has no column '{missing[0]}'; it has {', '.join(present)}.")
        try:
            yield from _open(part).iter_batches(rows, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as problem:
            raise InputError(f"'{readable(part)}' is damaged; make it again.") from problem


def read_rows(path: str | Path, columns: Sequence[str], start: int, stop: int) -> pa.Table:
    """Rows start … stop - 1 of some columns; only the row groups that hold them are read. Raises as `read_info`."""
    pieces, first = [], 0
    for part in parts(path):
        file = _open(part)
        for group in range(file.num_row_groups):
            after = first + file.metadata.row_group(group).num_rows
            if after > start and first < stop:
                rows = file.read_row_group(group, columns=list(columns))
                pieces.append(rows.slice(max(start - first, 0), min(stop, after) - max(start, first)))
            first = after
    return pa.concat_tables(pieces)


def count_rows(path: str | Path) -> int:
    """Rows of a file or a folder of parts, from their footers. Raises InputError as `read_info`."""
    read_info(path)
    return sum(_open(part).metadata.num_rows for part in parts(path))


def _schema(part: str) -> pa.Schema:
    name = readable(part)
    try:
        return _open(part).schema_arrow
    except FileNotFoundError as problem:
        raise InputError(f"'{name}' does not exist; `alit tokenize` makes a token table.") from problem
    except OSError as problem:
        raise InputError(f"'{name}' cannot be read: {problem.strerror or problem}.") from problem
    except pa.ArrowException as problem:
        raise InputError(f"'{name}' is not a Parquet file, or is damaged.") from problem


def _open(part: str) -> pq.ParquetFile:
    return pq.ParquetFile(pa.OSFile(os.fsencode(part)))


def _token_type(info: TableInfo) -> pa.DataType:
    return pa.list_(pa.field("element", pa.uint16() if info.codes else pa.float16()))


def _measure_columns(info: TableInfo, pictures: Iterable[Picture]) -> dict[str, list[float | int | None]]:
    found = [picture.measures for picture in pictures]
    columns = {name: [getattr(row, name, None) for row in found] for name in PLAIN_MEASURES}
    for index, budget in enumerate(info.budgets):
        columns[f"thumbnail_{budget}"] = [row and row.thumbnail[index] for row in found]
    return columns


def _spread(values: NDArray[Any], ok: NDArray[np.bool_]) -> pa.Array:
    """One value for each True of `ok`, null elsewhere."""
    full = np.zeros(len(ok), dtype=values.dtype)
    full[ok] = values
    return pa.array(full, mask=~ok)


def _lists(values: NDArray[Any], ok: NDArray[np.bool_], budget: int, info: TableInfo) -> pa.Array:
    """One flat list for each True of `ok`, null elsewhere."""
    shape = (ok.sum(), budget) if info.codes else (ok.sum(), budget, info.token_dim)
    kind = np.dtype(np.uint16 if info.codes else np.float16)
    if values.shape != shape or values.dtype != kind:
        raise ValueError(f"tokens[{budget}] are {values.dtype} {values.shape}, not {kind} {shape}")
    length = values[0].size if len(values) else 0
    offsets = np.concatenate([[0], np.cumsum(ok * length)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)), type=_token_type(info), mask=pa.array(~ok))
