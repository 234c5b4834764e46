"""Score tables: what a task found out about every image at every budget, beside the token table it was made from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alit_cli.data.files import readable
from alit_cli.data.marks import kind_of_file
from alit_cli.data.tables.parquet import KEY
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError

FORMAT_NAME, FORMAT_VERSION = "alit-scores", 1
FORMAT = f"{FORMAT_NAME}/{FORMAT_VERSION}"
FOLDER = "scores"
"""Where score tables lie in the working folder, and where every later command looks for them."""
ORIGINAL = "original"
"""What stands in the place of the budget where a measure describes the fitted original image."""

ERROR = "error"
"""The column that says why an image has no scores."""
MAP_ERROR = "depth_map_error"
"""The column that says why an image's depth map cannot be read; null where it was read, or there is none."""

Kind = Literal["float32", "int32", "list<float16>", "string"]
TYPES: Mapping[str, pa.DataType] = {
    "float32": pa.float32(),
    "int32": pa.int32(),
    "list<float16>": pa.list_(pa.field("element", pa.float16())),
    "string": pa.string(),
}


@dataclass(frozen=True)
class Measure:
    """One measure of a task: a column `<name>_<budget>` for every budget, and `<name>_original` if `original`."""

    name: str
    kind: Kind = "float32"
    original: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreInfo:
    """What a score table says about itself, under the metadata key `alit`.

    `model` is the hub id or folder of the task's model, '' where it has none; `model_id` the tokenizer that made the
    token table, `image_size` its pixels, `budgets` ascending token counts, `measures` the names that stand before
    them. `options` is whatever else decides the numbers, `versions` the packages that made them.
    """

    format: str = FORMAT
    task: str
    model: str
    model_id: str
    image_size: int
    budgets: tuple[int, ...]
    measures: tuple[str, ...]
    options: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def codec(self) -> str:
        """The name of the codec whose pictures the table scores; '' where it scores the tokens' own."""
        return str(dict(self.options.get("reconstructions") or {}).get("name", ""))

    @property
    def ends(self) -> tuple[str, ...]:
        """What stands behind the `_` of a measure's columns: every budget, or the name of another codec."""
        return (self.codec,) if self.codec else tuple(map(str, self.budgets))

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> ScoreInfo:
        """Read `to_json`; further keys are ignored. Raises InputError for another or a newer format."""
        try:
            description = json.loads(text)
            name, version = str(description["format"]).split("/")
            if name != FORMAT_NAME:
                raise ValueError("another kind of table")
            if int(version) > FORMAT_VERSION:
                raise InputError(
                    f"The table has format {version}, this alit reads up to {FORMAT_VERSION}; install a newer alit."
                )
            # JSON knows no tuples; further keys, of a newer version, are dropped.
            values = {field.name: description[field.name] for field in fields(cls)}
            return cls(**values | {name: tuple(values[name]) for name in ("budgets", "measures")})
        except (ValueError, KeyError, TypeError) as problem:
            raise InputError("The description inside the table is not that of a score table.") from problem


def score_path(task: str, model: str = "", folder: str | Path = FOLDER, codec: str = "") -> Path:
    """Where the scores of a task lie: `scores/recon.parquet`, `scores/classify@resnet-18.parquet`.

    Args:
        model: a hub id or a folder, of which the last part counts; '' for a task without a model.
        codec: the name of another codec whose pictures are scored (`scores/recon-of-jpeg.parquet`); '' for the tokens.
    """
    stem = f"{task}-of-{codec}" if codec else task
    # A folder is resolved first, because the last part of '.' or '..' is no name.
    stem += f"@{PurePath(Path(model).resolve() if Path(model).is_dir() else model).name}" if model else ""
    return Path(folder) / f"{stem}.parquet"


def score_schema(info: ScoreInfo, measures: Sequence[Measure], extras: Mapping[str, Kind]) -> pa.Schema:
    """The columns: `image`, each measure at every budget and on the original, then what is known per image.

    A table of another codec's pictures has one column per measure and nothing of the originals, which would be there
    twice: the table of the tokens has it.
    """
    columns: list[tuple[str, pa.DataType]] = [("image", pa.string())]
    for measure in measures:
        ends = [*info.ends, *([ORIGINAL] if measure.original and not info.codec else [])]
        columns += [(f"{measure.name}_{end}", TYPES[measure.kind]) for end in ends]
    columns += [(name, TYPES[kind]) for name, kind in extras.items()]
    return pa.schema(columns, metadata={KEY: info.to_json().encode()})


def score_rows(schema: pa.Schema, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Rows of a score table; None and NaN become null.

    Args:
        schema: as score_schema makes it.
        columns: the value of every row under every column's name; a list is a 1-D array.
    """
    arrays = [pa.array([_known(value) for value in columns[field.name]], field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def read_score_info(path: str | Path) -> ScoreInfo | None:
    """What a score table says about itself; None for a table of the user's own or of an analysis.

    Raises:
        InputError: not a Parquet file, or another table of alit.
    """
    name = readable(str(path))
    try:
        # Not through `read_schema` of parquet.py, whose errors speak of token tables.
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError as problem:
        raise InputError(f"'{name}' does not exist; `alit score` makes score tables.") from problem
    except (OSError, pa.ArrowException) as problem:
        raise InputError(f"'{name}' is not a Parquet file, or is damaged.") from problem
    if KEY not in metadata or kind_of_file(path) == "analysis":
        return None
    try:
        return ScoreInfo.from_json(metadata[KEY])
    except InputError as problem:
        raise InputError(f"'{name}' cannot be used: {problem}") from problem


def why_foreign(info: ScoreInfo, tokens: TableInfo) -> str | None:
    """Why scores do not belong to a token table, as the end of a sentence that began with 'it'; None where they do.

    Every command that joins two tables asks this. A score table records the model, the budgets and the run (the
    fingerprint of the plan, in which the inputs, the fit and the views take part) of the tokens that it scores.
    """
    if info.model_id != tokens.model_id:
        return f"it scores tokens of the model {info.model_id}, the token table is of {tokens.model_id}"
    if info.budgets != tokens.budgets:
        return f"it has the budgets {info.budgets}, the token table {tokens.budgets}"
    run = tokens.options.plan
    if info.options.get("tokens", run) != run:  # tables older than the record have no key `tokens`
        return "it scores another run of alit tokenize than the token table's"
    return None


def is_score_table(path: str | Path) -> bool:
    """Whether a file is a score table that alit wrote."""
    try:
        return read_score_info(path) is not None
    except InputError:
        return False


def kind_of(path: str | Path) -> Literal["token table", "score table", "selection"]:
    """What kind of table a file or a folder of parts is. InputError: none of ours."""
    # Score tables come first, because `read_info` raises for them.
    if is_score_table(path):
        return "score table"
    return "selection" if read_info(path).options.select is not None else "token table"


def list_score_tables(folder: str | Path = FOLDER) -> list[Path]:
    """The score tables of a folder, by name; none where there is no folder."""
    return sorted(path for path in Path(folder).glob("*.parquet") if path.is_file())


def _known(value: Any) -> Any:
    # Means over a column pass over nulls, but a single NaN would make them NaN.
    return None if isinstance(value, float) and math.isnan(value) else value
