"""Tables of prefix tokenizers: the longest sequence is stored once, and the tokens of every budget are cut from it.

Readers ask for `tokens_32` of such a table as of any other. Column names are resolved here, so that nothing else has to
know which kind of table it reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from alit_cli.data.marks import KEY

OPTION = "prefix"
"""The option of a TableInfo that says so; tables of other tokenizers have no such key."""
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def cut_columns(schema: pa.Schema) -> dict[str, tuple[str, int]]:
    """By name, what is cut rather than stored: the stored column, and how many of its tokens.

    Empty for a table of any other tokenizer, and for a foreign one. The stored column is among them: where an image
    stopped early, its list is shorter than the name of the column says, and those tokens do not exist.
    """
    try:
        said = json.loads((schema.metadata or {})[KEY.encode()])
        if not said["options"].get(OPTION):
            return {}
        budgets = [int(budget) for budget in said["budgets"]]
    # A table that says nothing of the kind, or not in our words, has only the columns that it has.
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    stored = f"tokens_{budgets[-1]}"
    if stored not in schema.names:  # a selection, whose rows each have one list of their own
        return {}
    return {f"tokens_{budget}": (stored, budget) for budget in budgets}


def stored_names(schema: pa.Schema, columns: Iterable[str]) -> list[str]:
    """The columns to read from disk for those asked for, each once; names that are nowhere stay as they are."""
    cut = cut_columns(schema)
    return list(dict.fromkeys(cut[name][0] if name in cut else name for name in columns))


def has_columns(schema: pa.Schema) -> list[str]:
    """All columns that can be asked for, stored or cut, in order."""
    return list(dict.fromkeys([*schema.names, *cut_columns(schema)]))


def take_columns(read: Rows, columns: Sequence[str], schema: pa.Schema) -> Rows:
    """The columns asked for, from what `stored_names` had read; `schema` is the file's.

    What was read comes back as it is where nothing has to be cut, as in every table of other tokenizers.
    """
    cut = cut_columns(schema)
    if not any(name in cut for name in columns):
        return read
    arrays = [cut_prefix(read[cut[name][0]], cut[name][1]) if name in cut else read[name] for name in columns]
    rows: Rows = type(read).from_arrays(arrays, names=list(columns), metadata=schema.metadata)
    return rows


def cut_prefix(column: Any, length: int) -> Any:
    """The first `length` tokens of every list, null where a list is shorter: the image stopped before that budget."""
    reached = pc.fill_null(pc.greater_equal(pc.list_value_length(column), length), False)
    return pc.if_else(reached, pc.list_slice(column, 0, length).cast(column.type), pa.scalar(None, column.type))
