"""What options hold beyond click's own types: numbers and names with commas between them."""

import math
from collections.abc import Sequence
from typing import Any

import click


class Numbers(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Numbers with commas between them (`0.05,0.08`) or a list in a config file; the command gets a tuple."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read the numbers, or name the piece that is not one."""
        # A config file may hold a single number, which is no text, hence the str.
        pieces = value if isinstance(value, list | tuple) else str(value).split(",")
        if not pieces:
            self.fail("there is no number in it", param, ctx)
        return tuple(self._number(str(piece).strip(), param, ctx) for piece in pieces)

    def _number(self, piece: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = self.kind(piece)
        except ValueError:
            # The next test speaks for both a text that is no number and a number that is not finite.
            number = math.nan
        # `nan` and `inf` are floats to Python, but no threshold or share can be one of them.
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


class Choices(click.ParamType):  # type: ignore[type-arg]
    """Some of a few names with commas between them, or a list in a config file; the command gets a tuple."""

    name = "choices"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split, and say which name is none of them."""
        pieces = tuple(value) if isinstance(value, list | tuple) else tuple(value.split(","))
        for piece in pieces:
            if piece not in self.names:
                self.fail(f"'{piece}' is not one of {', '.join(self.names)}", param, ctx)
        return pieces


class ChoicePerKey(click.ParamType):  # type: ignore[type-arg]
    """One choice for all keys, or `key=choice` with commas; the command gets a dict with the keys that were given."""

    name = "choice per key"

    def __init__(self, keys: Sequence[str], choices: Sequence[str]) -> None:
        self.keys, self.choices = keys, choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Read the pairs, or say which piece is none."""
        # click converts a default a second time, and a config file may hold a table.
        if isinstance(value, dict):
            return value
        choices: dict[str, str] = {}
        for piece in str(value).split(","):
            # Without an equals sign the whole piece is the choice, and it holds for all keys.
            key, equals, choice = piece.rpartition("=")
            if choice not in self.choices or (equals and key not in self.keys):
                example = f"{self.keys[-1]}={self.choices[-1]}"
                self.fail(f"'{piece}' is neither one of {', '.join(self.choices)} nor like {example}", param, ctx)
            choices |= dict.fromkeys([key] if equals else self.keys, choice)
        return choices


class NumberPairs(click.ParamType):  # type: ignore[type-arg]
    """Pairs of numbers like `0.1:0.2,0.5:0.8`; the command gets a tuple of pairs in ascending order."""

    name = "pairs"

    def __init__(self, example: str) -> None:
        self.example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the pairs, or say how they are written."""
        # click converts a default a second time, and then it is a tuple already.
        if isinstance(value, tuple):
            return value
        try:
            pairs = sorted(tuple(map(float, piece.split(":"))) for piece in str(value).split(","))
        except ValueError:
            pairs = []
        if not pairs or any(len(pair) != 2 for pair in pairs):
            self.fail(f"'{value}' is not of the form {self.example}", param, ctx)
        return tuple(pairs)
