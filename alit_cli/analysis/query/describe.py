"""What `alit info` says about a token table or a selection: its rows, its columns and every question it can answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from alit_cli.analysis.query.measures import TASKS, measure_info
from alit_cli.analysis.query.tables import Tables
from alit_cli.data.tables.parquet import open_columns
from alit_cli.data.tables.score_table import kind_of
from alit_cli.data.tables.summary import summarize


@dataclass(frozen=True)
class ScoreFile:
    """A score table beside the token table: its measures, or why it does not belong to it."""

    path: str
    measures: tuple[str, ...]
    why_not: str | None = None


@dataclass(frozen=True)
class TableDescription:
    """A token table or a selection in words and numbers.

    Attributes:
        kind: `token table` or `selection`.
        rows, statuses: how many rows there are, and how many of each status (empty for a selection).
        bytes: size on disk.
        mean_l1: mean L1 by budget over the rows that are ok; empty where the table cannot say it.
        mean_tokens: tokens per image where rollouts stopped early, or of a selection.
        sources: rows by the folder, tar or Parquet file that they came from.
        columns: name and type of every column.
        scores: the score tables of the folder `scores`, here or beside the table.
        criteria: everything that can stand in `alit select --tsc`, with its operator.
    """

    kind: str
    rows: int
    statuses: dict[str, int]
    bytes: int
    mean_l1: dict[int, float]
    mean_tokens: float | None
    sources: dict[str, int]
    columns: dict[str, str]
    scores: tuple[ScoreFile, ...]
    criteria: tuple[str, ...]


def describe_table(path: Path) -> TableDescription:
    """Read what a token table (a file or a folder of parts) or a selection holds.

    Raises:
        InputError: there is no such table, or it is not one of alit.
    """
    kind = kind_of(path)
    tables = Tables(path)
    names = set(tables.schema.names)
    sources: Counter[str] = Counter()
    if "source" in names:
        for pair in pc.value_counts(open_columns(path, ["source"])["source"]).to_pylist():
            sources[str(pair["values"])] = pair["counts"]
    mean_tokens = None
    # A selection has one budget per image in a column; for a token table, the summary below knows the mean.
    if kind == "selection":
        mean_tokens = pc.mean(open_columns(path, ["n_tokens"])["n_tokens"]).as_py() if "n_tokens" in names else None
    summary = summarize(path) if kind == "token table" else None
    return TableDescription(
        kind=kind,
        rows=tables.rows(),
        statuses=summary.statuses if summary else {},
        bytes=sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.parquet"))),
        mean_l1=summary.l1 if summary else {},
        mean_tokens=summary.mean_tokens if summary else mean_tokens,
        sources=dict(sources),
        columns={field.name: str(field.type) for field in tables.schema},
        scores=_score_files(tables),
        # A criterion chooses a budget. In a selection that choice has been made, so there is nothing left to ask.
        criteria=_criteria(tables) if kind == "token table" else (),
    )


def _score_files(tables: Tables) -> tuple[ScoreFile, ...]:
    """The score tables that were found; those of another run come last."""
    own = [ScoreFile(source.name, tuple(tables.stems(source.columns))) for source in tables.sources]
    foreign = [
        ScoreFile(table.source.name, tuple(tables.stems(table.source.columns)), table.sentence)
        for table in tables.foreign
    ]
    return (*own, *foreign)


def _criteria(tables: Tables) -> tuple[str, ...]:
    """`recon`, `l1<NUMBER`, `class_rank@resnet-18<=NUMBER` …; a task's name first, then its measure."""
    measures = tables.measures()
    tasks = [task for task, measure in TASKS.items() if measure in {name.partition("@")[0] for name in measures}]
    return (*tasks, *filter(None, (_as_criterion(name, tables.kind(name)) for name in measures)))


def _as_criterion(name: str, kind: pa.DataType) -> str | None:
    """How a measure is asked for; None for a list per image (features), which can be neither counted nor compared."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return f"{name}=='WORD'"  # such as the class that a network sees
    return f"{name}{measure_info(name).operator}NUMBER"
