"""How every analysis writes its tables: csv for people, Parquet for programs, each whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from alit_cli.data.files import open_output
from alit_cli.data.marks import ANALYSIS_FORMAT, KEY
from alit_cli.data.tables.parquet import write_table


def save_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a csv with six digits that matter; gives the path back. Raises what `open_output` raises."""
    with open_output(path, "analysis") as file:
        table.to_csv(file, index=False, float_format="%.6g")
    return path


def save_parquet(table: pd.DataFrame, path: Path) -> Path:
    """Write a Parquet file; gives the path back. Raises what `open_output` raises."""
    rows = pa.Table.from_pandas(table, preserve_index=False)
    # The mark tells later commands that the file is one of ours, which they may overwrite.
    mark = {KEY: json.dumps({"format": ANALYSIS_FORMAT})}
    # The metadata of pandas stays, so that the types come back when the file is read.
    write_table(rows.replace_schema_metadata({**rows.schema.metadata, **mark}), path, "analysis")
    return path
