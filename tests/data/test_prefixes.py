"""Prefix tables: one stored column reads as one column per budget, and all other tables stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.data.pictures.fitting import Picture
from alit_cli.data.tables.parquet import (
    column_names,
    open_columns,
    read_rows,
    stream_columns,
    stream_row_groups,
    write_table,
)
from alit_cli.data.tables.prefixes import cut_columns, has_columns, stored_names
from alit_cli.data.tables.token_table import TableInfo, TableOptions, read_info, token_rows
from alit_cli.errors import InputError

BUDGETS = (2, 3, 5)


def info(stop: float | None = None) -> TableInfo:
    return TableInfo(
        model="test",
        model_sha256="0" * 64,
        image_size=32,
        budgets=BUDGETS,
        codes=4096,
        token_dim=12,
        fit="crop",
        precision="float32",
        batch_size=2,
        versions={},
        options=TableOptions(measures=False, device="cpu", stop=stop, prefix=True),
    )


def table(path: Path, reached: list[int], stop: float | None = None) -> list[list[int] | None]:
    """A table of images that reached so many budgets each; 0 is one that could not be read. Gives the stored lists."""
    about = info(stop)
    pictures = [
        Picture(image=f"{row}.png", source="", status="ok" if steps else "truncated", error=None)
        for row, steps in enumerate(reached)
    ]
    steps = np.array([count for count in reached if count])
    sequences = np.arange(len(steps) * BUDGETS[-1], dtype=np.uint16).reshape(-1, BUDGETS[-1])
    went = np.arange(len(BUDGETS))[None] < steps[:, None]
    tokens = {budget: sequences[went[:, step], :budget] for step, budget in enumerate(BUDGETS)}
    l1 = {budget: np.zeros(went[:, step].sum(), np.float32) for step, budget in enumerate(BUDGETS)}
    write_table(token_rows(about, pictures, went, l1, tokens, measures=False), path)
    whole = iter(sequences.tolist())
    return [next(whole)[: BUDGETS[count - 1]] if count else None for count in reached]


def cut(lists: list[list[int] | None], budget: int) -> list[list[int] | None]:
    """What a column of a budget must read as."""
    return [own[:budget] if own is not None and len(own) >= budget else None for own in lists]


@pytest.mark.parametrize("stop", [None, 0.1])
def test_every_reader_cuts_the_same_prefixes(tmp_path: Path, stop: float | None) -> None:
    path = tmp_path / "tokens.parquet"
    reached = [3, 0, 3, 3] if stop is None else [1, 0, 3, 2]
    stored = table(path, reached, stop)
    assert [name for name in pq.read_schema(path).names if name.startswith("tokens")] == ["tokens_5"]
    assert pq.read_table(path)["tokens_5"].to_pylist() == stored
    names = [f"tokens_{budget}" for budget in BUDGETS]
    expected = {f"tokens_{budget}": cut(stored, budget) for budget in BUDGETS}
    assert set(names) <= set(column_names(path))
    assert open_columns(path, names).to_pydict() == expected
    assert pa.Table.from_batches(stream_columns(path, names, rows=2)).to_pydict() == expected
    assert next(stream_row_groups(path, names, 100)).to_pydict() == expected
    for row in range(len(reached)):
        assert read_rows(path, names, [row]).to_pydict() == {
            name: lists[row : row + 1] for name, lists in expected.items()
        }
    assert read_info(path).prefix


def test_a_budget_that_was_not_asked_for_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    table(path, [3])
    with pytest.raises(InputError, match="tokens_4"):
        open_columns(path, ["tokens_4"])


@pytest.mark.parametrize(
    "said",
    [b"", b"[]", b"{", b'{"options": []}', b'{"options": {"prefix": true}}', b'{"options": {}, "budgets": [1]}'],
)
def test_other_tables_have_the_columns_they_have(said: bytes) -> None:
    schema = pa.schema([("image", pa.string()), ("tokens_1", pa.list_(pa.uint16()))], metadata={b"alit": said})
    assert cut_columns(schema) == {}
    assert has_columns(schema) == ["image", "tokens_1"]
    assert stored_names(schema, ["tokens_1", "image"]) == ["tokens_1", "image"]


def test_a_selection_of_a_prefix_table_is_not_cut() -> None:
    said = json.dumps({"options": {"prefix": True}, "budgets": [1, 2]}).encode()
    schema = pa.schema([("image", pa.string()), ("tokens", pa.list_(pa.uint16()))], metadata={b"alit": said})
    assert cut_columns(schema) == {}
