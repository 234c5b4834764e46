"""Token tables of several tokenizers, matched by image, so that every study of them is of the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.tables import Tables
from alit_cli.errors import InputError

ROWS = 20_000
"""Rows held at a time while tables stream."""
ALL = "all, by each image's need"
"""The name of the mixture of every tokenizer."""


@dataclass(frozen=True)
class Tokenizer:
    """One tokenizer of a comparison.

    Attributes:
        name: what it is called.
        tables: its tables, which stream the shared images alone.
        rows: the numbers of the shared images' rows in the token table, n, in the order that all tokenizers have in
            common.
    """

    name: str
    tables: Tables
    rows: NDArray[np.int64]

    @property
    def bits(self) -> NDArray[np.float64]:
        """The bits of one image at each budget, T."""
        # A token has as many bits as its codebook needs, which differs from tokenizer to tokenizer.
        return np.asarray(self.tables.budgets, np.float64) * self.tables.info.bits_per_token

    @property
    def adaptive(self) -> bool:
        """Whether images can be given different budgets."""
        return len(self.tables.budgets) > 1

    def values(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of the shared images in their common order, n T; one of a value per image counts at every budget."""
        budgets = len(self.tables.budgets)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for chunk in self.tables.stream(names, rows=ROWS):
            for name in names:
                column = chunk.columns[name]
                parts[name].append(column if column.ndim > 1 else np.repeat(column[:, None], budgets, axis=1))
        return {name: np.concatenate(own)[self.rows] for name, own in parts.items()}


@dataclass(frozen=True)
class Choices:
    """Every tokenizer at every budget, in the order of their bits: what one image can be given; C choices.

    Attributes:
        tokens, bits, pixels: what a choice costs, and the pixels of its picture, C.
        order: the places of the choices behind one another, tokenizer by tokenizer.
    """

    tokens: NDArray[np.float64]
    bits: NDArray[np.float64]
    pixels: NDArray[np.float64]
    order: NDArray[np.intp]

    @classmethod
    def of(cls, tokenizers: Sequence[Tokenizer]) -> Choices:
        """All choices that the tokenizers give."""
        bits = np.concatenate([tokenizer.bits for tokenizer in tokenizers])
        # Tokens of different codebooks do not cost the same, so that choices are ordered by bits.
        order = np.argsort(bits, kind="stable")
        tokens = np.concatenate([tokenizer.tables.budgets for tokenizer in tokenizers]).astype(np.float64)
        pixels = [
            np.full(len(tokenizer.bits), tokenizer.tables.info.image_size**2, np.float64) for tokenizer in tokenizers
        ]
        return cls(tokens[order], bits[order], np.concatenate(pixels)[order], order)

    def together(self, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """One column of every tokenizer, n T each, as the column of all choices, n C."""
        return np.concatenate(columns, axis=1)[:, self.order]


@dataclass(frozen=True)
class Matched:
    """Tokenizers whose tables have images in common.

    Attributes:
        images: how many.
        keys: their names in the order of the first table, n.
        remarks: what did not match, and what a reader must know of sizes and scores.
    """

    tokenizers: tuple[Tokenizer, ...]
    images: int
    keys: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the tokenizers are called, in the order of their tables."""
        return tuple(tokenizer.name for tokenizer in self.tokenizers)

    def network(self, measure: str) -> str:
        """The first network, by name, whose scores of a measure every table has; '' where there is none."""
        networks = [set(tokenizer.tables.models(measure)) for tokenizer in self.tokenizers]
        return min(set.intersection(*networks), default="")

    def network_remarks(self, measure: str, what: str) -> Iterator[str]:
        """What a reader must know of the network that is behind a number, called `what`."""
        scored = [set(tokenizer.tables.models(measure)) for tokenizer in self.tokenizers]
        if not any(scored):
            return
        if not (network := self.network(measure)):
            yield f"No network has scored the {measure} of every table, so there is no {what}: score all with the same."
        elif len(set.intersection(*scored)) > 1:
            yield f"The {what} is that of {network}, the first by name of the networks that scored every table."


def match_tables(tables: Sequence[Tables], names: Sequence[str] = ()) -> Matched:
    """Keep the images that every table has with an L1 at each of its budgets.

    Args:
        tables: of different tokenizers, of the same images and the same fit.
        names: what to call them; empty: by their models.

    Raises:
        InputError: fewer than two tables, names that do not fit, another fit, no image in common, a table without
            losses or one whose images stopped early.
    """
    called = _names(tables, names)
    _check(tables)
    keys, places = zip(*map(_known_images, tables), strict=True)
    # The order of the first table is kept throughout, so that a row is one image in every table.
    shared = keys[0]
    for other in keys[1:]:
        shared = shared[shared.isin(other)]
    if not len(shared):
        raise InputError(
            f"'{tables[0].name}' and the other tables have no image in common: they name images like "
            f"'{keys[0][0] if len(keys[0]) else ''}' and '{keys[-1][0] if len(keys[-1]) else ''}'. Tokenize the same "
            "folder with each."
        )
    tokenizers = []
    for name, table, own, rows in zip(called, tables, keys, places, strict=True):
        wanted = rows[own.get_indexer(shared)]
        tokenizers.append(Tokenizer(name, table.only(wanted), wanted))
    remarks = (*_left_out(tables, keys, len(shared)), *_sizes(tokenizers), *_without_scores(tables))
    return Matched(tuple(tokenizers), len(shared), tuple(shared), remarks)


def _known_images(table: Tables) -> tuple[pd.Index, NDArray[np.int64]]:
    """The images with an L1 at every budget, and the numbers of their rows."""
    keys: list[NDArray[np.object_]] = []
    rows: list[NDArray[np.int64]] = []
    for chunk in table.stream(["l1"], ["image"], ROWS):
        known = np.flatnonzero(chunk.ok & ~np.isnan(chunk.columns["l1"]).any(axis=1))
        keys.append(chunk.table["image"].to_numpy(zero_copy_only=False)[known])
        rows.append(chunk.start + known)
    return pd.Index(np.concatenate(keys)), np.concatenate(rows)


def _names(tables: Sequence[Tables], names: Sequence[str]) -> list[str]:
    """One name per table; models that are called alike are told apart by their tables."""
    if len(tables) < 2:
        raise InputError("A comparison needs two token tables or more.")
    if names:
        if len(names) != len(tables):
            raise InputError(f"--names gives {len(names)} names for {len(tables)} tables; give one for each.")
        if ALL in names:
            raise InputError(f"--names cannot give the name '{ALL}', which the line of all tokenizers together has.")
        if len(set(names)) < len(names):
            raise InputError("--names gives one name twice; tables are told apart by their names.")
        return list(names)
    # A user who gave no names still reads two tables of one model apart, by their files.
    models = [table.info.model for table in tables]
    called = [
        model if models.count(model) == 1 else f"{model} ({table.path.stem})"
        for model, table in zip(models, tables, strict=True)
    ]
    if len(set(called)) < len(called):
        raise InputError("Two of the tables have the same name and the same model; tell them apart with --names.")
    return called


def _check(tables: Sequence[Tables]) -> None:
    first = tables[0]
    for table in tables:
        # This raises for a table without losses, with a sentence that says how to make them.
        table.find("l1")
        if table.info.stop is not None:
            raise InputError(
                f"'{table.name}' stopped each image at l1<{table.info.stop:g}, so its later budgets hold the hard "
                "images only; tokenize without --stop to compare tokenizers."
            )
        # Fits cut or stretch pictures differently, so errors of two fits are of two pictures.
        if table.info.fit != first.info.fit:
            raise InputError(
                f"'{table.name}' was made with --fit {table.info.fit}, '{first.name}' with --fit {first.info.fit}: "
                "their errors are of different pictures. Tokenize both alike."
            )


def _left_out(tables: Sequence[Tables], keys: Sequence[pd.Index], shared: int) -> Iterator[str]:
    for table, own in zip(tables, keys, strict=True):
        if len(own) > shared:
            left = len(own) - shared
            yield f"{left} of the {len(own)} images of '{table.name}' are not in every table, and are left out."


def _sizes(tokenizers: Sequence[Tokenizer]) -> Iterator[str]:
    if len({tokenizer.tables.info.image_size for tokenizer in tokenizers}) > 1:
        said = ", ".join(f"{tokenizer.name} at {tokenizer.tables.info.image_size}" for tokenizer in tokenizers)
        yield f"Errors are of pictures of different sizes ({said} px); a smaller one has less detail to lose."


def _without_scores(tables: Sequence[Tables]) -> Iterator[str]:
    # A folder of scores often holds those of several tables; each takes its own, so that no list of them is needed.
    for table in tables:
        if table.foreign and not table.sources:
            yield f"None of the {len(table.foreign)} score tables that were found belongs to '{table.name}'."
