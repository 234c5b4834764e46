"""The images of a selection that are kept, and the table they are written to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.analysis.query.criteria import Criterion, holds, names, parse
from alit_cli.analysis.query.groups import Groups
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import BudgetChoice, Summary, summarize
from alit_cli.data.files import check_output, open_output
from alit_cli.data.tables.parquet import KEY, ROW_GROUP, encodings
from alit_cli.data.tables.token_table import SELECTION_COLUMNS, token_schema
from alit_cli.errors import InputError

BARE_ROW_GROUP = 100_000
"""Rows of a row group without tokens."""


@dataclass(frozen=True)
class Narrowing:
    """Which images of a selection are wanted; the steps are taken in this order.

    Attributes:
        where: a criterion on one value per image: `n_tokens`, `satisfied`, the group, `l1` at the chosen budget …
        hardest, easiest: so many, of each group where there are groups; None: all.
    """

    where: str | None = None
    hardest: int | None = None
    easiest: int | None = None


def narrow(tables: Tables, choice: BudgetChoice, wanted: Narrowing, groups: Groups | None) -> NDArray[np.bool_] | None:
    """The rows that are wanted, n; None where all are. Raises InputError for a column that is not there."""
    # No mask at all is cheaper than one that is true everywhere, and most selections keep all images.
    if wanted == Narrowing():
        return None
    kept = choice.ok.copy()
    if wanted.where is not None:
        kept &= _where(tables, choice, parse(wanted.where), groups)
    if wanted.hardest is not None or wanted.easiest is not None:
        order = _by_hardness(choice, kept, groups)
        chosen = np.zeros(len(kept), np.bool_)
        # With both numbers given, the hardest and the easiest images are kept together.
        for most, ranked in ((wanted.hardest, order), (wanted.easiest, order[::-1])):
            if most is not None:
                chosen[_first_of_each(ranked, most, groups)] = True
        kept &= chosen
    return kept


def _where(tables: Tables, choice: BudgetChoice, where: Criterion, groups: Groups | None) -> NDArray[np.bool_]:
    known: dict[str, NDArray[Any]] = {
        "n_tokens": np.asarray(tables.budgets, np.int64)[choice.index],
        "satisfied": choice.satisfied,
        # These are the values at the chosen budget, which is what a user of --where means by `l1`.
        **choice.values,
    }
    if groups is not None:
        # The code -1 picks the last word, so None stands there for images without a group.
        known[groups.name] = np.asarray([*groups.names, None], object)[groups.codes]
    others = [name for name in names(where) if name not in known]
    for name in others:
        if tables.find(name).per_budget:
            raise InputError(
                f"'{name}' has a value for every budget; write {name}_{tables.budgets[-1]}, or select by it."
            )
    if not others:
        return holds(where, known.__getitem__)
    kept = np.zeros(len(choice.ok), np.bool_)
    for chunk in tables.stream(others):
        rows = slice(chunk.start, chunk.start + len(chunk.ok))
        here = {**{name: column[rows] for name, column in known.items()}, **chunk.columns}
        kept[rows] = holds(where, here.__getitem__)
    return kept


def _by_hardness(choice: BudgetChoice, kept: NDArray[np.bool_], groups: Groups | None) -> NDArray[np.intp]:
    """The kept rows, the hardest first: never satisfied, then many tokens, then a bad value of the first column."""
    rows = np.flatnonzero(kept)
    value = choice.values[choice.first.name][rows].astype(np.float64)
    # A value that is not known counts as the worst.
    bad = np.where(np.isnan(value), np.inf, value if choice.first.operator.startswith("<") else -value)
    # lexsort takes its last key first, and False sorts before True. Unsigned bytes have no negative, hence int16.
    keys = (-bad, -choice.index[rows].astype(np.int16), choice.satisfied[rows])
    return rows[np.lexsort(keys)]


def _first_of_each(ranked: NDArray[np.intp], most: int, groups: Groups | None) -> NDArray[np.intp]:
    """The first rows of a ranking, so many of each group; rows without a group are in none."""
    if groups is None:
        return ranked[:most]
    codes = groups.codes[ranked]
    # A stable sort keeps the ranking inside each group.
    by_group = np.argsort(codes, kind="stable")
    ordered = codes[by_group]
    # The position of the first row of the same group is subtracted, which leaves the rank inside the group.
    place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return ranked[by_group[(place < most) & (ordered >= 0)]]


def summaries_by_group(
    tables: Tables, choice: BudgetChoice, kept: NDArray[np.bool_] | None, groups: Groups | None
) -> list[Summary]:
    """A summary of all images that are kept, then one for each group."""
    summaries = [summarize(tables, choice, kept)]
    for code, name in enumerate(groups.names if groups else ()):
        inside = groups.codes == code if groups else np.zeros(0, np.bool_)
        summaries.append(summarize(tables, choice, inside if kept is None else inside & kept, name))
    return summaries


def write_selection(
    tables: Tables,
    choice: BudgetChoice,
    out: Path,
    options: Mapping[str, Any],
    kept: NDArray[np.bool_] | None = None,
    groups: Groups | None = None,
    tokens: bool = True,
) -> None:
    """Write a selection, some rows at a time: `image`, `n_tokens`, `satisfied`, `tokens`, the criterion's values.

    A row per image that was tokenized and is kept, in the table's order, with the `tokens` of its budget (`latents`
    of a continuous model; null where the table has none; no column without `tokens`), the columns the table keeps
    of its source, and its group under the groups' name. The metadata is the table's, with `options` as its option
    `select`. A name that ends in .csv gives a csv, without tokens. Raises what `open_output` raises.
    """
    check_output(out, "selection")
    if clash := next((name for name in choice.values if name in SELECTION_COLUMNS), None):
        raise InputError(
            f"Every selection has a column '{clash}' of its own; give the columns of your table another name."
        )
    as_csv = out.suffix.lower() == ".csv"
    tokens = tokens and not as_csv  # a cell holds no list
    carried = _carried(tables, choice)
    # A table cannot have two columns of one name, and the group's is the one that can be renamed.
    while groups is not None and groups.name in (*SELECTION_COLUMNS, *carried, *choice.values):
        groups = dataclasses.replace(groups, name=f"{groups.name}_group")
    schema = _schema(tables, choice, options, groups, tokens)
    settings = encodings(schema)
    # The name of an image is different in every row, so a dictionary of names would only cost.
    settings["use_dictionary"] = [name for name in settings["use_dictionary"] if name != "image"]
    with open_output(out, "selection", tidy=True) as file, contextlib.ExitStack() as stack:
        writer = None if as_csv else stack.enter_context(pq.ParquetWriter(file, schema, **settings))
        for start, table in _chunks(tables, choice, kept, tokens):
            rows = np.arange(start, start + table.num_rows)
            rows = rows[(choice.ok if kept is None else choice.ok & kept)[rows]]
            columns = [
                table["image"].take(pa.array(rows - start)),
                pa.array(np.asarray(tables.budgets, np.int32)[choice.index[rows]]),
                pa.array(choice.satisfied[rows]),
            ]
            if tokens:
                columns.append(_chosen_tokens(table, tables, rows - start, choice.index[rows]))
            for name, values in choice.values.items():
                # NaN becomes null before the cast, because a column of integers cannot hold it.
                columns.append(pa.array(values[rows], from_pandas=True).cast(schema.field(name).type))
            columns += [table[name].take(pa.array(rows - start)) for name in carried]
            if groups is not None:
                columns.append(pa.array(np.asarray([*groups.names, None], object)[groups.codes[rows]], pa.string()))
            selected = pa.table(columns, schema=schema)
            if writer is None:
                # The chunk of the first row writes the header, the others go on below it.
                selected.to_pandas().to_csv(file, index=False, header=start == 0, float_format="%.6g")
            else:
                writer.write_table(selected)


def _carried(tables: Tables, choice: BudgetChoice) -> list[str]:
    """The columns of the source that the table keeps."""
    kept = tables.info.keep
    return [name for name in kept if name in tables.schema.names and name not in (*SELECTION_COLUMNS, *choice.values)]


def _chunks(
    tables: Tables, choice: BudgetChoice, kept: NDArray[np.bool_] | None, tokens: bool
) -> Iterator[tuple[int, pa.Table]]:
    """The rows of the token table with the columns that are written, and the number of the first."""
    info = tables.info
    # Columns of tokens are by far the largest, so only those of budgets that were chosen are read.
    steps = np.unique(choice.index[choice.ok if kept is None else choice.ok & kept])
    columns = [f"{info.tokens}_{info.budgets[step]}" for step in steps] if tokens else []
    columns += _carried(tables, choice)
    for chunk in tables.stream([], ["image", *columns], ROW_GROUP if tokens else BARE_ROW_GROUP):
        yield chunk.start, chunk.table


def _chosen_tokens(table: pa.Table, tables: Tables, rows: NDArray[np.intp], index: NDArray[np.uint8]) -> pa.Array:
    """The tokens of the chosen budget of some rows; `index` says which budget, one for each of them."""
    info = tables.info
    kind = token_schema(info, measures=False).field(f"{info.tokens}_{info.budgets[-1]}").type
    pieces = [
        table[f"{info.tokens}_{info.budgets[step]}"].take(pa.array(rows[index == step])) for step in np.unique(index)
    ]
    # The pieces come budget by budget; `place` says where each row of the table is among them.
    place = np.empty(len(index), np.int64)
    place[np.argsort(index, kind="stable")] = np.arange(len(index))
    chunks = [chunk for piece in pieces for chunk in piece.chunks]
    return pa.chunked_array(chunks, kind).take(pa.array(place)) if chunks else pa.chunked_array([[]], kind)


def _schema(
    tables: Tables, choice: BudgetChoice, options: Mapping[str, Any], groups: Groups | None, tokens: bool
) -> pa.Schema:
    """The columns of a selection, and the table's own description with the criterion added."""
    info = tables.info
    described = dataclasses.replace(info, options=dataclasses.replace(info.options, select=dict(options)))
    fields: list[Any] = [("image", pa.string()), ("n_tokens", pa.int32()), ("satisfied", pa.bool_())]
    if tokens:
        whole = token_schema(info, measures=False)
        fields.append(whole.field(f"{info.tokens}_{info.budgets[-1]}").with_name(info.tokens))
    for name in choice.values:
        kind = tables.kind(name)
        fields.append((name, kind if pa.types.is_integer(kind) else pa.float32()))
    fields += [tables.schema.field(name) for name in _carried(tables, choice)]
    if groups is not None:
        fields.append((groups.name, pa.string()))
    return pa.schema(fields, metadata={KEY: described.to_json().encode()})
