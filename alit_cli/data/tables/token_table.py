"""The token table: what its columns are, how its rows are made, and how tables are written and read."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alit_cli.config import token_bits
from alit_cli.data.files import readable
from alit_cli.data.pictures.fitting import Fit, Picture
from alit_cli.data.pictures.measures import PLAIN_MEASURES, WHOLE_NUMBERS
from alit_cli.data.sources.extra_columns import kept_column, kept_schema
from alit_cli.data.tables.parquet import KEY, read_description, read_schema
from alit_cli.data.tables.sound import check_columns, check_description
from alit_cli.errors import InputError

FORMAT_NAME, FORMAT_VERSION = "alit", 1
FORMAT = f"{FORMAT_NAME}/{FORMAT_VERSION}"
SELECTION_COLUMNS = ("image", "n_tokens", "satisfied", "tokens", "latents")
"""The columns of every selection, whose names no other column of it may have."""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What else `alit tokenize` or `alit select` was asked for; None where an option was not given.

    An option that is None has no key in the JSON. Fingerprints of plans are made of that JSON, so a new option that
    nobody gives leaves unfinished work and finished tables of earlier versions as they are. For the same reason the
    fields stand in the order in which the keys are written.

    Attributes:
        measures: whether the table has the columns of plain measures.
        device: the kind of device that the table was made on: cpu, cuda or mps.
        losses: False where the table has no L1 columns.
        stop: the L1 below which each image's rollout stopped.
        hash: True where the table has the sha256 of every file.
        views: the set of views that was asked for: flip or ten-crop.
        keep: names and types of the columns that are carried along from the source.
        plan: the fingerprint of the plan that the table was made by.
        images: rows that were planned.
        select: the criterion of a selection, as `alit select` was given it.
        prefix: True where the tokens of every budget are the first ones of the largest, which alone is stored.
        plain_measures: the columns of plain measures; tables of earlier versions do not name theirs. So work that was
            begun with other columns is not resumed.
    """

    measures: bool | None = None
    device: str | None = None
    losses: bool | None = None
    stop: float | None = None
    hash: bool | None = None
    views: str | None = None
    keep: Mapping[str, str] | None = None
    plan: str | None = None
    images: int | None = None
    select: Mapping[str, Any] | None = None
    prefix: bool | None = None
    plain_measures: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The options that were given, in order."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableOptions":
        """Read `to_dict`; further keys are ignored. Raises TypeError or ValueError for values that no table has."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        for names, kind in (
            (("measures", "losses", "hash", "prefix"), bool),
            (("device", "views", "plan"), str),
            (("keep", "select"), Mapping),
            (("stop",), int | float),
            (("images",), int),
            (("plain_measures",), list),
        ):
            # Somebody else may have made the table, and a value of another type would fail far from here.
            if any(not isinstance(known[name], kind) for name in names if known.get(name) is not None):
                raise TypeError(f"one of {', '.join(names)} has another type")
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """What a token table says about itself, under the metadata key `alit`.

    `budgets` are ascending token counts; `codes` is the size of the codebook, 0 for continuous latents, of
    which each token has `token_dim` numbers. `model` is the name or path it was given by, `model_sha256` the
    weights' hash. `versions` are those of the packages that decide the numbers, `options` is whatever else the
    command was given.
    """

    format: str = FORMAT
    model: str
    model_sha256: str
    image_size: int
    budgets: tuple[int, ...]
    codes: int
    token_dim: int
    fit: Fit
    precision: str
    batch_size: int
    versions: Mapping[str, str]
    options: TableOptions

    @property
    def model_id(self) -> str:
        """The first 16 hex digits of the weights' sha256."""
        return self.model_sha256[:16]

    @property
    def losses(self) -> bool:
        """Whether the table has the L1 columns."""
        # Only False is ever written, so that a table without the key has its losses.
        return self.options.losses is not False

    @property
    def stop(self) -> float | None:
        """The L1 below which each image's rollout stopped early; None where all ran to the largest budget."""
        return None if self.options.stop is None else float(self.options.stop)

    @property
    def digest(self) -> bool:
        """Whether the table has the sha256 of every file's bytes."""
        return bool(self.options.hash)

    @property
    def keep(self) -> dict[str, str]:
        """Names and types of the columns that are carried along from the source, in their order in the table."""
        return dict(self.options.keep or {})

    @property
    def prefix(self) -> bool:
        """Whether the tokens of every budget are cut from the largest one's, the only ones stored (prefixes.py)."""
        return bool(self.options.prefix)

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

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON knows it; options that were not given are absent."""
        return {**asdict(self), "budgets": list(self.budgets), "options": self.options.to_dict()}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "TableInfo":
        """Read `to_json`; further keys are ignored. Raises InputError for another or a newer format."""
        try:
            description = json.loads(text)
            name, version = str(description["format"]).split("/")
            # Another kind of table is told apart from a newer version, as each needs another sentence.
            if name != FORMAT_NAME:
                raise InputError(f"It is a table of another kind ({name}); a token table or a selection is wanted.")
            if int(version) > FORMAT_VERSION:
                raise InputError(
                    f"The table has format {version}, this alit reads up to {FORMAT_VERSION}; install a newer alit."
                )
            values = {field.name: description[field.name] for field in fields(cls)}
            check_description(values)
            options = TableOptions.from_dict(values["options"])
            return cls(**{**values, "budgets": tuple(values["budgets"]), "options": options})
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise InputError("The description inside the table is not one of alit.") from problem


def token_schema(info: TableInfo, measures: bool) -> pa.Schema:
    """The columns of a token table: names, status, size, measures, L1 and tokens at every budget.

    A prefix tokenizer's tokens have one column, that of the largest budget.
    """
    columns: list[tuple[str, pa.DataType]] = [
        ("image", pa.string()),
        ("source", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
    if measures:
        columns += [(name, pa.int32() if name in WHOLE_NUMBERS else pa.float32()) for name in PLAIN_MEASURES]
        columns += [(f"thumbnail_{budget}", pa.float32()) for budget in info.budgets]
    if info.losses:
        columns += [(f"l1_{budget}", pa.float32()) for budget in info.budgets]
    # The order of the columns is part of the format: parts of one table, made at different times, must agree.
    stored = info.budgets[-1:] if info.prefix else info.budgets
    columns += [(f"{info.tokens}_{budget}", _token_type(info)) for budget in stored]
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
    # A ValueError, not an InputError: this would be a mistake of our own code, not of the user.
    if reached.shape != (ok.sum(), len(info.budgets)):
        raise ValueError(f"reached has shape {reached.shape}, not {(int(ok.sum()), len(info.budgets))}")
    names = ("image", "source", "status", "error", "width", "height")
    columns: dict[str, Any] = {name: [getattr(picture, name) for picture in pictures] for name in names}
    if measures:
        columns |= _measure_columns(info, pictures)
    for index, budget in enumerate(info.budgets):
        there = ok.copy()
        # `reached` has rows only for pictures that are ok; `there` has one for every picture.
        there[ok] = reached[:, index]
        if info.losses:
            columns[f"l1_{budget}"] = _spread(l1[budget], there)
        if not info.prefix:
            columns[f"{info.tokens}_{budget}"] = _lists(tokens[budget], there, budget, info)
    if info.prefix:
        # A list may be shorter than the name says, where the image stopped early; see `cut_columns` in prefixes.py.
        columns[f"{info.tokens}_{info.budgets[-1]}"] = _longest_lists(tokens, reached, ok, info)
    if info.stop is not None:
        # Every picture that is ok reaches at least the first budget, so that steps - 1 is an index.
        steps = reached.sum(axis=1)
        columns["n_tokens"] = _spread(np.asarray(info.budgets, np.int32)[steps - 1], ok)
    columns["model_id"] = [info.model_id] * len(pictures)
    # Columns that the schema does not have are left out at the end, where its fields choose.
    columns["sha256"] = [picture.sha256 for picture in pictures]
    columns |= {name: kept_column((kept or {})[name], kind) for name, kind in info.keep.items()}
    schema = token_schema(info, measures)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def read_info(path: str | Path) -> TableInfo:
    """What a table (a file or a folder of parts) says about itself; InputError where it is not one of ours."""
    description = read_description(path)
    try:
        info = TableInfo.from_json(description)
    except InputError as problem:
        raise InputError(f"'{readable(os.fspath(path))}' cannot be used: {problem}") from problem
    check_columns(read_schema(path), os.fspath(path))
    return info


def _token_type(info: TableInfo) -> pa.DataType:
    return pa.list_(pa.field("element", pa.uint16() if info.codes else pa.float16()))


def _measure_columns(info: TableInfo, pictures: Iterable[Picture]) -> dict[str, list[float | int | None]]:
    measures = [picture.measures for picture in pictures]
    columns = {name: [getattr(row, name, None) for row in measures] for name in PLAIN_MEASURES}
    for index, budget in enumerate(info.budgets):
        # `and` keeps the None of a picture that has no measures.
        columns[f"thumbnail_{budget}"] = [row and row.thumbnail[index] for row in measures]
    return columns


def _spread(values: NDArray[Any], ok: NDArray[np.bool_]) -> pa.Array:
    """One value for each True of `ok`, null elsewhere."""
    # numpy integers have no null, so zeros stand under the mask.
    full = np.zeros(len(ok), dtype=values.dtype)
    full[ok] = values
    return pa.array(full, mask=~ok)


def _longest_lists(
    tokens: Mapping[int, NDArray[Any]], reached: NDArray[np.bool_], ok: NDArray[np.bool_], info: TableInfo
) -> pa.Array:
    """For each True of `ok` the tokens of the last budget that the image reached, null elsewhere."""
    lists: list[NDArray[Any] | None] = [None] * len(ok)
    last = reached.sum(axis=1) - 1
    for step, budget in enumerate(info.budgets):
        # Row i of a budget's tokens is of the i-th image that reached it; those that went no further end here.
        ends = last[reached[:, step]] == step
        images = np.flatnonzero(ok)[reached[:, step]][ends]
        for image, own in zip(images, tokens[budget][ends], strict=True):
            lists[image] = own.reshape(-1)
    return pa.array(lists, _token_type(info))


def _lists(values: NDArray[Any], ok: NDArray[np.bool_], budget: int, info: TableInfo) -> pa.Array:
    """One flat list for each True of `ok`, null elsewhere."""
    shape = (ok.sum(), budget) if info.codes else (ok.sum(), budget, info.token_dim)
    kind = np.dtype(np.uint16 if info.codes else np.float16)
    if values.shape != shape or values.dtype != kind:
        raise ValueError(f"tokens[{budget}] are {values.dtype} {values.shape}, not {kind} {shape}")
    length = values[0].size if len(values) else 0
    # A failed picture has length 0 here and is null by the mask; lists of Arrow have 32-bit offsets.
    offsets = np.concatenate([[0], np.cumsum(ok * length)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)), type=_token_type(info), mask=pa.array(~ok))
