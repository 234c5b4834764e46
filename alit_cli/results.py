"""What a command has to say: tables and sentences of its result, remarks beside it, and the same as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alit_cli.table_layout import Cell


@dataclass(frozen=True)
class TextTable:
    """A table to print: a title, the headings, and rows of as many cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of_known_columns(cls, title: str, columns: Mapping[str, Sequence[Cell]]) -> TextTable:
        """A table of columns by their headings. A column without any value is left out: it was not measured."""
        known = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
        return cls(title, tuple(known), tuple(zip(*known.values(), strict=True)))


@dataclass(frozen=True)
class Result:
    """The answer to a question, ready to be printed.

    Attributes:
        blocks: tables and sentences for stdout, in order.
        remarks: sentences for stderr: what the numbers need to be understood.
        data: what `--json` prints instead of the blocks.
    """

    blocks: tuple[TextTable | str, ...]
    remarks: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)
