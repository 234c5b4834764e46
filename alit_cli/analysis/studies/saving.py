"""How every analysis writes its tables: csv for people, Parquet for programs, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from alit_cli.data.files import atomic_file
from alit_cli.data.tables.parquet import write_table


def save_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a csv with six digits that matter; gives the path back. Raises what `atomic_file` raises."""
    with atomic_file(path) as file:
        table.to_csv(file, index=False, float_format="%.6g")
    return path


def save_parquet(table: pd.DataFrame, path: Path) -> Path:
    """Write a Parquet file; gives the path back. Raises what `atomic_file` raises."""
    write_table(pa.Table.from_pandas(table, preserve_index=False), path)
    return path
