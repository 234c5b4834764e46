"""Which tokens of a table leave it, and what goes beside them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alit_cli.data.files import readable
from alit_cli.data.tables.parquet import column_names, stream_columns
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError

ROWS = 1000
"""Rows held in memory at a time."""


@dataclass(frozen=True, eq=False)
class Exported:
    """One image that has tokens: its key, what goes beside them, and uint16 ids k or float16 latents k c."""

    image: str
    beside: dict[str, Any]
    tokens: np.ndarray


@dataclass(frozen=True)
class Choice:
    """What is read of a table.

    Attributes:
        info: what the table says of itself.
        beside: columns that go along.
        budget: the one for every image; None where `selection` or the table itself chooses.
        selection: the file that chooses; None where nothing does.
    """

    info: TableInfo
    beside: tuple[str, ...]
    budget: int | None
    selection: Path | None


def choose(table: Path, budget: int | None, selection: Path | None) -> Choice:
    """What to read of a selection, or of a token table. Raises InputError: it does not say which budget."""
    name, info, columns = readable(os.fspath(table)), read_info(table), column_names(table)
    if info.tokens in columns:
        if budget is not None or selection is not None:
            raise InputError(f"'{name}' is a selection, each image has its budget: leave --budget and --selection out.")
        return Choice(info, tuple(column for column in columns if column not in ("image", info.tokens)), None, None)
    if f"{info.tokens}_{info.budgets[0]}" not in columns:
        raise InputError(f"'{name}' holds no tokens: export the token table, with --selection '{name}'.")
    kept = [column for column in (*info.keep, "width", "height") if column in columns]
    if selection is not None:
        if budget is not None:
            raise InputError("--budget is for every image, --selection chooses for each: give one of the two.")
        if not _is_selection(selection, info):
            raise InputError(
                f"'{readable(os.fspath(selection))}' is no selection of '{name}'; make it with alit select."
            )
    elif info.stop is not None and budget != info.budgets[0]:
        # Beyond the smallest budget some images have no tokens, and would be missing from the file without a word.
        raise InputError(
            f"Each image of '{name}' stopped at a budget of its own: `alit select --thr {info.stop:g}` makes the "
            "selection to export."
        )
    elif budget not in info.budgets:
        known = ", ".join(map(str, info.budgets))
        raise InputError(f"'{name}' holds the budgets {known}: choose one with --budget, or give a --selection.")
    return Choice(info, tuple(kept), budget, selection)


def _is_selection(path: Path, info: TableInfo) -> bool:
    """Whether a file chooses budgets for the images of a token table, and was made from it."""
    chosen = read_info(path)
    if not {"image", "n_tokens"} <= set(column_names(path)):
        return False
    # Tables of somebody else have no fingerprint of a run. Budgets are compared beside it, as they name the columns.
    runs = {chosen.options.plan, info.options.plan} - {None}
    return (chosen.model_id, chosen.budgets) == (info.model_id, info.budgets) and len(runs) < 2


def exported(table: Path, choice: Choice) -> Iterator[tuple[list[Exported], int]]:
    """The images of each chunk of rows that are chosen and have tokens, and how many rows it had."""
    if choice.selection is not None:
        yield from _as_selected(table, choice, choice.selection)
        return
    stem = choice.info.tokens
    column = stem if choice.budget is None else f"{stem}_{choice.budget}"
    losses = [] if choice.budget is None or not choice.info.losses else [f"l1_{choice.budget}"]
    for batch in stream_columns(table, ["image", *choice.beside, *losses, column], ROWS):
        beside = _rows(batch, choice.beside)
        for name in losses:
            beside = [{**row, "l1": value} for row, value in zip(beside, batch[name].to_pylist(), strict=True)]
        images = zip(batch["image"].to_pylist(), beside, batch[column], strict=True)
        exported = [Exported(key, row, _tokens(value, choice.info)) for key, row, value in images if value.is_valid]
        yield exported, batch.num_rows


def _as_selected(table: Path, choice: Choice, selection: Path) -> Iterator[tuple[list[Exported], int]]:
    """The rows of a token table that a selection names, which comes in the table's order, each at its budget."""
    info = choice.info
    chosen = _chosen(selection, info)
    wanted = next(chosen, None)
    names = [f"{stem}_{b}" for b in info.budgets for stem in (info.tokens, *(["l1"] if info.losses else []))]
    for batch in stream_columns(table, ["image", *choice.beside, *names], ROWS):
        exported = []
        beside = _rows(batch, choice.beside)
        for row, key in enumerate(batch["image"].to_pylist()):
            # Both tables are in the same order, so one pass over both finds every row.
            if wanted is None or wanted["image"] != key:
                continue
            said = {name: value for name, value in wanted.items() if name != "image"}
            value = batch[f"{info.tokens}_{said['n_tokens']}"][row]
            if value.is_valid:
                if info.losses:
                    said = {"l1": batch[f"l1_{said['n_tokens']}"][row].as_py(), **said}
                exported.append(Exported(key, {**beside[row], **said}, _tokens(value, info)))
            wanted = next(chosen, None)
        yield exported, batch.num_rows
    if wanted is not None:
        raise InputError(
            f"'{wanted['image']}' of '{readable(os.fspath(selection))}' is not in '{readable(os.fspath(table))}', or "
            "stands there in another order; make the selection of this table with alit select."
        )


def _chosen(selection: Path, info: TableInfo) -> Iterator[dict[str, Any]]:
    names = [name for name in column_names(selection) if name != info.tokens]
    for batch in stream_columns(selection, names, ROWS):
        yield from batch.to_pylist()


def _rows(batch: pa.RecordBatch, names: tuple[str, ...]) -> list[dict[str, Any]]:
    if not names:
        return [{} for _ in range(batch.num_rows)]
    rows: list[dict[str, Any]] = batch.select(list(names)).to_pylist()
    return rows


def _tokens(value: Any, info: TableInfo) -> np.ndarray:
    flat: np.ndarray = value.values.to_numpy(zero_copy_only=False)
    return flat if info.codes else flat.reshape(-1, info.token_dim)
