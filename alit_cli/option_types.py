"""What options hold beyond click's own types: numbers and names with commas between them."""

import math
from typing import Any

import click


class Numbers(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Numbers with commas between them (`0.05,0.08`) or a list in a config file; the command gets a tuple."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read the numbers, or name the piece that is not one."""
        pieces = value if isinstance(value, list | tuple) else str(value).split(",")
        if not pieces:
            self.fail("there is no number in it", param, ctx)
        return tuple(self._number(str(piece).strip(), param, ctx) for piece in pieces)

    def _number(self, piece: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = self.kind(piece)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"'{piece}' is not a {'whole ' if self.kind is int else ''}number", param, ctx)
        return number


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names with commas between them (`label,caption`) or a list in a config file; the command gets a tuple."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split, and leave out what is empty."""
        pieces = value if isinstance(value, list | tuple) else str(value).split(",")
        return tuple(piece for each in pieces if (piece := str(each).strip()))
