"""Whether a table is sound: a token table, a score table or a selection."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alit_cli.data.pictures.measures import NEWER_MEASURES
from alit_cli.data.tables.parquet import open_parquet, row_groups, stream_columns
from alit_cli.data.tables.parts import PLAN, part_path, parts
from alit_cli.data.tables.score_table import ERROR, kind_of, read_score_info, why_foreign
from alit_cli.data.tables.token_table import TableInfo, read_info, token_schema
from alit_cli.errors import InputError
from alit_cli.runs.plan import Plan
from alit_cli.runs.shards import part_sha256, shard_stats

CheckRows = Callable[[pa.Table], Iterator[str]]


def problems(table: Path, tokens: Path | None = None) -> Iterator[str]:
    """Everything that is wrong with a finished table of ours, one sentence per problem; nothing if it is sound.

    Every page is read and its checksum compared, rows are counted against the plan they came from, and keys are unique.
    In a token table all rows are of one model, a row that is ok has tokens inside the codebook and finite losses at
    every budget that it reached, any other row has none. A score table has every measure at every budget, and nothing
    where it failed; its rows are those of the token table `tokens`, if given, in their order. A selection has whole
    tokens at budgets of its model.

    Raises:
        InputError: no table of ours, or `tokens` is no token table.
    """
    kind = kind_of(table)
    if kind == "score table":
        yield from _score_problems(table, tokens)
    elif kind == "selection":
        info = read_info(table)
        yield from _wrong_table(table, None, _selection_columns(info), lambda rows: _wrong_choices(rows, info))
    else:
        info = read_info(table)
        if table.is_dir() and (table / PLAN).exists():
            yield from _wrong_parts(table)
        columns = token_schema(info, bool(info.options.measures))
        yield from _wrong_table(table, info.options.images, columns, lambda rows: _wrong_rows(rows, info))


def _wrong_table(table: Path, planned: int | None, wanted: pa.Schema, check: CheckRows) -> Iterator[str]:
    """What is wrong with the columns, the number of rows and the keys; `check` looks at the rows of each row group."""
    keys: Counter[str | None] = Counter()
    rows = 0
    try:
        for group in _groups(table):
            # The columns are checked once. Where they are wrong, the rows cannot be checked at all.
            if rows == 0 and (wrong := list(_wrong_columns(group.schema, wanted))):
                yield from wrong
                return
            rows += group.num_rows
            keys.update(group["image"].to_pylist())
            yield from check(group)
    # It depends on the damaged bytes which of these errors Arrow raises.
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as problem:
        yield f"it is damaged after row {rows}: {str(problem).splitlines()[0]}"
        return
    if planned is not None and rows != planned:
        yield f"it has {rows} rows, but {planned} images were planned"
    if None in keys:
        yield f"{keys.pop(None)} rows have no name in image"
    if twice := [key for key, count in keys.items() if count > 1]:
        yield f"{len(twice)} images stand in it more than once, such as '{twice[0]}'"


def _wrong_columns(schema: pa.Schema, wanted: pa.Schema) -> Iterator[str]:
    """Columns that lack or have another type than the table says of itself; one of type null may have any."""
    for field in wanted:
        if schema.get_field_index(field.name) < 0:
            # Tables that were written before these measures existed are sound without them.
            if field.name not in NEWER_MEASURES:
                yield f"it has no column {field.name}"
        elif not pa.types.is_null(field.type) and not schema.field(field.name).type.equals(field.type):
            yield f"the column {field.name} has the type {schema.field(field.name).type}, not {field.type}"


def _wrong_rows(group: pa.Table, info: TableInfo) -> Iterator[str]:
    """What is wrong in the rows of one row group."""
    if group["status"].null_count:
        yield f"{group['status'].null_count} rows have no status"
    # A row without a status was reported above; here it counts as one that failed.
    ok = pc.fill_null(pc.equal(group["status"], "ok"), False).to_numpy()
    models = set(group["model_id"].unique().to_pylist()) - {info.model_id}
    if models:
        yield f"rows are of the model {sorted(map(str, models))[0]}, the table of {info.model_id}"
    # Only a run with early stop has the column n_tokens; otherwise every image went to the largest budget.
    ends = group["n_tokens"].to_numpy() if info.stop is not None else np.full(len(ok), info.budgets[-1])
    if info.prefix:  # one list for all budgets, as long as the last one that the image reached
        name = f"{info.tokens}_{info.budgets[-1]}"
        lengths = pc.fill_null(pc.list_value_length(group[name]), 0).to_numpy()
        if (lengths != np.where(ok, ends, 0)).any():
            yield f"{name} has lists that are not as long as their images' budgets"
        yield from _wrong_ids(group[name], name, info)
    for budget in info.budgets:
        there = ok & (ends >= budget)
        if not info.prefix:
            yield from _wrong_tokens(group[f"{info.tokens}_{budget}"], there, budget, info)
        if info.losses:
            l1 = group[f"l1_{budget}"].to_numpy()
            # Null becomes NaN in NumPy, so that one comparison finds both missing numbers and numbers too many.
            if (np.isfinite(l1) != there).any():
                yield f"l1_{budget} is missing where it should be a number, or the other way round"


def _wrong_tokens(column: pa.ChunkedArray, there: np.ndarray, budget: int, info: TableInfo) -> Iterator[str]:
    name = f"{info.tokens}_{budget}"
    if (column.is_valid().to_numpy() != there).any():
        yield f"{name} is missing where it should be a list, or the other way round"
    length = budget * info.numbers_per_token
    if set(pc.list_value_length(column).drop_null().unique().to_pylist()) - {length}:
        yield f"{name} has lists that are not {length} long"
    yield from _wrong_ids(column, name, info)


def _wrong_ids(column: pa.ChunkedArray, name: str, info: TableInfo) -> Iterator[str]:
    values = pc.list_flatten(column)
    if info.codes and len(values) and pc.max(values).as_py() >= info.codes:
        yield f"{name} has ids outside the codebook of {info.codes}"


def _wrong_parts(folder: Path) -> Iterator[str]:
    """Parts of a folder whose bytes are not those that were written, or that hold another number of rows."""
    for shard in Plan.load(folder).shards():
        stats = shard_stats(folder, shard.index)
        path = part_path(folder, shard.index)
        # A mark may lack the checksum; then the bytes cannot be compared.
        if stats.get("sha256") not in (None, part_sha256(path)):
            yield f"'{os.path.basename(path)}' has changed since it was written: its checksum is another"
        if stats["rows"] != shard.images:
            yield f"'{os.path.basename(path)}' has {stats['rows']} rows, not the {shard.images} of its plan"


def _groups(table: Path) -> Iterator[pa.Table]:
    """The row groups of a table, their checksums compared.

    The streams of data/tables refuse rows that are not sound. Here they are what is looked for, and errors of Arrow are
    passed on, to be told with their row.
    """
    for part in parts(table):
        with open_parquet(part) as file:
            yield from row_groups(file)


def tokens_of(scores: Path) -> Path | None:
    """The token table that a score table belongs to, from beside it or from the folder above; None: it is not there."""
    info = read_score_info(scores)
    assert info is not None
    here = scores.absolute().parent
    tables = [path for folder in (here.parent, here) for path in sorted(folder.iterdir()) if _may_be_tokens(path)]
    # Sorting is stable: the usual name comes first, and among equals the folder above.
    tables.sort(key=lambda path: path.name != "tokens.parquet")
    return next((path for path in tables if not why_foreign(info, read_info(path))), None)


def _may_be_tokens(path: Path) -> bool:
    try:
        is_table = (path.suffix == ".parquet" and path.is_file()) or (path / PLAN).exists()
        return is_table and kind_of(path) == "token table"
    except InputError:
        return False


def _score_problems(table: Path, tokens: Path | None) -> Iterator[str]:
    info = read_score_info(table)
    assert info is not None
    # The type of a measure depends on its task, so any type is accepted; see _wrong_columns.
    measured = [(f"{name}_{end}", pa.null()) for name in info.measures for end in info.ends]
    columns = pa.schema([("image", pa.string()), *measured])
    yield from _wrong_table(table, info.options.get("images"), columns, _wrong_scores)
    if tokens is not None:
        foreign = why_foreign(info, read_info(tokens))
        yield from [foreign] if foreign else []
        # With zip_longest, rows that only one of the two tables has are found as well.
        pairs = zip_longest(_names(table), _names(tokens))
        if different := next((pair for pair in pairs if pair[0] != pair[1]), None):
            mine, theirs = (f"'{name}'" if name is not None else "nothing" for name in different)
            yield f"its rows are not those of '{tokens}': where it has {mine}, that has {theirs}"


def _names(table: Path) -> Iterator[str]:
    for batch in stream_columns(table, ["image"]):
        yield from batch["image"].to_pylist()


def _wrong_scores(rows: pa.Table) -> Iterator[str]:
    if ERROR not in rows.column_names:
        return
    failed = rows.filter(pc.is_valid(rows[ERROR]))
    for name in set(rows.column_names) - {"image", ERROR}:
        if failed[name].null_count < len(failed):
            yield f"{name} has values in rows that failed"


def _selection_columns(info: TableInfo) -> pa.Schema:
    return pa.schema([("image", pa.string()), ("n_tokens", pa.int32()), ("satisfied", pa.bool_())])


def _wrong_choices(rows: pa.Table, info: TableInfo) -> Iterator[str]:
    """What is wrong in some rows of a selection."""
    if strange := set(rows["n_tokens"].unique().to_pylist()) - set(info.budgets):
        yield f"n_tokens is {sorted(map(str, strange))[0]} in some rows, which is no budget of the model"
    if info.tokens in rows.column_names:
        whole = rows.filter(pc.is_valid(rows[info.tokens]))
        lengths = pc.list_value_length(whole[info.tokens])
        if pc.any(pc.not_equal(lengths, pc.multiply(whole["n_tokens"], info.numbers_per_token))).as_py():
            yield f"{info.tokens} has lists that are not as long as n_tokens says"
        yield from _wrong_ids(whole[info.tokens], info.tokens, info)
