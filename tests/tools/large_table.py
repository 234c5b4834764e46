"""Time `alit select` on a synthetic token table of ten million rows, which is made first, as a stream.

    python tests/tools/large_table.py /tmp/large.parquet                 # eight L1 columns: about 500 MB
    python tests/tools/large_table.py /tmp/large.parquet --tokens        # tokens too: 2.3 kB an image; give --rows less

Prints seconds and peak resident memory of each command; the table and what select wrote are removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alit_cli.data.tables.parquet import ROW_GROUP, encodings
from alit_cli.data.tables.token_table import TableInfo, TableOptions, token_schema

ROOT = Path(__file__).parents[2]
BUDGETS = tuple(range(32, 257, 32))
CODES = 4096
SCALED = 0.9 ** np.arange(8, dtype=np.float32)
"""How the error falls from budget to budget."""


def main() -> None:
    """Make the table, select on it, remove it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--tokens", action="store_true", help="lists of tokens, as tokenize writes them")
    parser.add_argument("--keep", action="store_true", help="leave the table where it is")
    options = parser.parse_args()
    begun = time.monotonic()
    write_table(options.table, options.rows, options.tokens)
    size = options.table.stat().st_size / 1e6
    print(f"{options.rows} rows, {size:.0f} MB, made in {time.monotonic() - begun:.0f} s", flush=True)
    out = options.table.with_suffix(".selection.parquet")
    lines = {
        "several thresholds": ["--thr", "0.05,0.07,0.09,0.11"],
        "--no-tokens": ["--thr", "0.08", "--no-tokens", "--out", str(out)],
        **({"with tokens": ["--thr", "0.08", "--out", str(out)]} if options.tokens else {}),
    }
    for name, words in lines.items():
        memory, seconds = measured(["select", str(options.table), *words])
        print(f"select, {name}: {seconds:.1f} s, {memory:.0f} MiB", flush=True)
        out.unlink(missing_ok=True)
    if not options.keep:
        options.table.unlink()


def write_table(path: Path, rows: int, tokens: bool) -> None:
    """Write a token table as `alit tokenize` does, around random numbers."""
    info = TableInfo(
        model="synthetic", model_sha256="0" * 64, image_size=256, budgets=BUDGETS, codes=CODES, token_dim=12,
        fit="crop", precision="float32", batch_size=16, versions={}, options=TableOptions(measures=False, images=rows),
    )  # fmt: skip
    schema = token_schema(info, measures=False)
    with pq.ParquetWriter(path, schema, **encodings(schema)) as writer:
        for part in _parts(info, schema, rows, tokens):
            writer.write_table(part, row_group_size=ROW_GROUP)


def _parts(info: TableInfo, schema: pa.Schema, rows: int, tokens: bool) -> Iterator[pa.Table]:
    """Row groups; without tokens their columns hold empty lists."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, ROW_GROUP):
        count = min(ROW_GROUP, rows - start)
        first = rng.gamma(8, 0.02, (count, 1)).astype(np.float32)
        columns = {
            "image": pa.array([f"{number // 1000:06d}/{number:09d}.jpg" for number in range(start, start + count)]),
            "source": pa.array(["photos"] * count),
            "status": pa.array(["ok"] * count),
            "error": pa.nulls(count, pa.string()),
            "width": pa.array(np.full(count, 500, np.int32)),
            "height": pa.array(np.full(count, 375, np.int32)),
            "model_id": pa.array([info.model_id] * count),
        }
        for index, budget in enumerate(BUDGETS):
            noise = rng.normal(1, 0.02, (count, 1)).astype(np.float32)
            columns[f"l1_{budget}"] = pa.array((first * noise)[:, 0] * SCALED[index])
            length = budget if tokens else 0
            ids = pa.array(rng.integers(0, CODES, count * length).astype(np.uint16))
            offsets = np.arange(count + 1, dtype=np.int32) * length
            columns[f"tokens_{budget}"] = pa.ListArray.from_arrays(offsets, ids).cast(
                schema.field(f"tokens_{budget}").type
            )
        yield pa.table([columns[name] for name in schema.names], schema=schema)


def measured(words: list[str], without: str = "") -> tuple[float, float]:
    """MiB that a command had resident at most, and its seconds; it fails where the module `without` was imported."""
    begun = time.monotonic()
    program = (
        "import atexit, os, sys; from alit_cli.cli import main; "
        f"atexit.register(lambda: {without!r} in sys.modules and os._exit(9)); main(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    if status:
        said = process.stderr.read().decode() if process.stderr else ""
        raise SystemExit(f"alit {' '.join(words)} ended with status {status}: {said}")
    return usage.ru_maxrss / 1024, seconds


if __name__ == "__main__":
    main()
