"""Criteria as people write them, `l1<0.08 and class_rank<=5`, read by a small grammar of our own."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.query.measures import TASKS, bare, measure_info
from alit_cli.errors import InputError

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    # `=` and `==` mean the same: a criterion assigns nothing, and people write both.
    "=": operator.eq,
    "!=": operator.ne,
}
# The look-ahead behind a number refuses `3d` and `1.2.3`, which would otherwise be read as a number and a rest. Signs
# of two characters stand before those of one, because the first alternative that fits is taken.
PIECES = re.compile(
    r"""\s*(?: (?P<number> [-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)? (?![\w.]))
             | (?P<name> [^\W\d]\w*(?:@[\w.\-]+)?)
             | (?P<operator> <=|>=|==|!=|<|>|=)
             | (?P<bracket> [()])
             | '(?P<single>[^']*)' | "(?P<double>[^"]*)" )""",
    re.X,
)


@dataclass(frozen=True)
class Comparison:
    """`column operator value`. Without a value only the direction (smaller or larger is better) is known."""

    name: str
    operator: str
    value: float | str | None

    def __str__(self) -> str:
        # Every number is kept as a float, but a user who wrote `class_rank<=5` should not read `5.0` in an answer.
        value = f"'{self.value}'" if isinstance(self.value, str) else f"{'' if self.value is None else self.value:}"
        return f"{self.name}{self.operator}{value.removesuffix('.0')}"


@dataclass(frozen=True)
class Joined:
    """Two or more criteria of which all (`and`) or any (`or`) must hold, at the same budget."""

    word: str
    parts: tuple[Comparison | Joined, ...]

    def __str__(self) -> str:
        # Inner criteria always get parentheses, so that the text means the same when it is parsed again.
        texts = [f"({part})" if isinstance(part, Joined) else str(part) for part in self.parts]
        return f" {self.word} ".join(texts)


Criterion = Comparison | Joined


def parse(text: str, open_ended: bool = False) -> Criterion:
    """Read a criterion: comparisons (`< <= > >= = !=`) of columns, joined by `and`, `or` and parentheses.

    A task's name stands for its measure (`recon<0.08` is `l1<0.08`). Only an open-ended one may compare with
    nothing, to say which way is better. Raises InputError that names the place.
    """
    reader = _Reader(text)
    condition = reader.either()
    # The grammar stops at the first piece that it cannot use, so a piece that is left over is an error.
    if reader.kind:
        raise reader.wrong("expected 'and', 'or' or the end")
    for comparison in comparisons(condition):
        if comparison.value is None and not open_ended:
            raise InputError(f"'{comparison}' compares with nothing; write a number behind it.")
    return condition


def criterion(text: str, threshold: float | None = None, top: int | None = None) -> Criterion:
    """The criterion of `--tsc TEXT --thr NUMBER --top X`; a bare measure takes the number with its own operator.

    Raises InputError where a number is missing or has no place.
    """
    # Only a bare name takes its number from --thr or --top; with any sign in it, a criterion is complete.
    if re.fullmatch(r"\s*[^\W\d]\w*(@[\w.\-]+)?\s*", text):
        name = measure(text.strip())
        value = top if bare(name) == "class_rank" and threshold is None else threshold
        # Losses and errors cannot be negative. Gains such as caption_loglik can, so only `<` refuses a negative number.
        if (value is not None and not math.isfinite(value)) or (
            (value or 0) < 0 and measure_info(name).operator == "<"
        ):
            raise InputError(f"A threshold cannot be {value:g}; give a number from 0 up, such as 0.08.")
        # Where --top was given but the number came from --thr, --top would be ignored silently, so it is refused.
        if value is None or (top is not None and value is not top):
            option = "--top 5" if bare(name) == "class_rank" else "--thr 0.08"
            raise InputError(f"--tsc {text.strip()} needs a number: {option}, for example.")
        return Comparison(name, measure_info(name).operator, value)
    if threshold is not None or top is not None:
        raise InputError(f"'{text}' already contains its threshold. Remove --{'thr' if top is None else 'top'}.")
    return parse(text)


def measure(name: str) -> str:
    """The measure a name of `--tsc` or `--toi` stands for: `recon` is `l1`, `classify@vit` is `class_rank@vit`."""
    task, at, model = name.partition("@")
    return TASKS.get(task, task) + at + model


def comparisons(condition: Criterion) -> Iterator[Comparison]:
    """Every comparison of a criterion, in the order it was written."""
    if isinstance(condition, Comparison):
        yield condition
    else:
        for part in condition.parts:
            yield from comparisons(part)


def names(condition: Criterion) -> tuple[str, ...]:
    """The columns of a criterion, each once, in the order they were written."""
    return tuple(dict.fromkeys(comparison.name for comparison in comparisons(condition)))


def holds(condition: Criterion, values: Callable[[str], NDArray[Any]]) -> NDArray[np.bool_]:
    """Where a criterion holds. `values` gives a column by name, in any one shape; NaN and None satisfy nothing.

    A number is compared in the precision of the column: a float32 that prints as 0.08 is not below 0.08.
    """
    if isinstance(condition, Joined):
        join = np.logical_and if condition.word == "and" else np.logical_or
        return reduce(join, (holds(part, values) for part in condition.parts))
    column = values(condition.name)
    # Text columns arrive as object arrays; numbers and booleans have dtypes of their own.
    if isinstance(condition.value, str) != (column.dtype == object):
        kind = "words" if column.dtype == object else "numbers"
        raise InputError(f"'{condition}' cannot be answered: '{condition.name}' holds {kind}.")
    if isinstance(condition.value, str) and condition.operator not in ("=", "==", "!="):
        raise InputError(f"'{condition}' cannot be answered: words are only equal (==) or not (!=).")
    met: NDArray[np.bool_] = np.asarray(OPERATORS[condition.operator](column, condition.value), np.bool_)
    # NumPy says that NaN and None differ from everything, but a value that is not known must satisfy nothing.
    if condition.operator == "!=":
        met &= np.asarray([word is not None for word in column]) if column.dtype == object else ~np.isnan(column)
    return met


def split(texts: Sequence[str]) -> list[str]:
    """The pieces of options that may be repeated and may hold commas, without those that are empty."""
    return [piece.strip() for text in texts for piece in text.split(",") if piece.strip()]


class _Reader:
    """Reads a text piece by piece, the one ahead in `kind` and `piece`."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self.advance()

    def advance(self) -> None:
        """Look at the next piece; `kind` is empty at the end."""
        # `wrong` quotes the text from here on, so the start is kept before the place moves on.
        self.start = self.place
        if not self.text[self.place :].strip():
            self.kind, self.piece = "", ""
            return
        piece = PIECES.match(self.text, self.place)
        if piece is None:
            raise self.wrong("this is no column, number or sign")
        self.kind, self.piece = str(piece.lastgroup), piece[str(piece.lastgroup)]
        # The words of the grammar match as names first. A column called `and` can therefore not be asked for.
        if self.kind == "name" and self.piece.lower() in ("and", "or"):
            self.kind = self.piece.lower()
        self.place = piece.end()

    def wrong(self, why: str) -> InputError:
        """The error of the piece ahead."""
        where = f"at '{self.text[self.start :].strip()}'" if self.kind else "at its end"
        return InputError(f"The criterion '{self.text}' cannot be read {where}: {why}.")

    def either(self) -> Criterion:
        """Criteria with `or` between them."""
        # The parts of an `or` are read by `both`, so that `and` binds tighter, as in Python and SQL.
        return self._joined("or", self.both)

    def both(self) -> Criterion:
        """Criteria with `and` between them."""
        return self._joined("and", self.one)

    def _joined(self, word: str, part: Callable[[], Criterion]) -> Criterion:
        parts = [part()]
        while self.kind == word:
            self.advance()
            parts.append(part())
        # A single part stays what it is, because callers ask whether a criterion is one Comparison.
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def one(self) -> Criterion:
        """A comparison or a criterion in parentheses."""
        if self.piece == "(" and self.kind == "bracket":
            self.advance()
            inner = self.either()
            if self.piece != ")":
                raise self.wrong("a parenthesis is not closed")
            self.advance()
            return inner
        if self.kind != "name":
            raise self.wrong("expected a column, such as l1")
        name = measure(self.piece)
        self.advance()
        if self.kind != "operator":
            raise self.wrong(f"expected a comparison of '{name}', such as {name}<0.08")
        sign = self.piece
        self.advance()
        value: float | str | None = None
        if self.kind in ("number", "single", "double"):
            value = float(self.piece) if self.kind == "number" else self.piece
            self.advance()
        elif self.kind == "name" and self.piece.lower() in ("true", "false"):
            # Boolean columns compare as 0 and 1, so the two words become numbers.
            value = float(self.piece.lower() == "true")
            self.advance()
        # A comparison may still lack its value here; `parse` refuses it where the criterion is not open-ended.
        return Comparison(name, sign, value)
