"""Values that are carried along with an image, such as its label: JSON in the plan, typed columns in the table."""

import json
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from alit_cli.errors import InputError

NUMBERS = {
    name: pa.type_for_alias(name)
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double")
}
WORDS = "string"
EXACT = 2**53
"""Integers up to this size are exact as floating-point numbers."""


LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class ExtraColumns:
    """The names that are kept, and what types their values have had so far.

    Args:
        names: columns of Parquet files or sidecars of tars, as asked for.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._types: dict[str, str] = {}
        self._large: set[str] = set()  # names of which an integer was met that floating point would round

    @classmethod
    def of(cls, types: Mapping[str, str]) -> "ExtraColumns":
        """A keeper that knows its types."""
        keeper = cls(tuple(types))
        keeper._types = dict(types)
        return keeper

    def declare(self, name: str, kind: pa.DataType, path: str) -> None:
        """A Parquet file has a column of this name. Raises InputError: its type cannot be kept."""
        named = type_name(kind)
        if named is None:
            raise InputError(f"The column '{name}' of '{path}' has the type {kind}, which cannot be kept.")
        self._widen(name, named)

    def write(self, name: str, value: object) -> str | None:
        """A value of a sidecar as JSON; its type is noted."""
        if value is None:
            return None
        # Booleans come first, because Python counts them as integers.
        if isinstance(value, bool):
            self._widen(name, "bool")
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            if abs(value) > EXACT:
                self._large.add(name)
            self._widen(name, "int64")
        elif isinstance(value, float):
            self._widen(name, "double")
        else:
            self._widen(name, WORDS)
        return as_json(value)

    def types(self) -> dict[str, str]:
        """The type of every name. Raises InputError: no input has one of them."""
        for name in self.names:
            if name not in self._types:
                raise InputError(
                    f"No input has '{name}' to keep: it is neither a column of a Parquet file nor a sidecar in a tar."
                )
        return {name: self._types[name] for name in self.names}

    def _widen(self, name: str, kind: str) -> None:
        before = self._types.setdefault(name, kind)
        if before != kind:
            both_numbers = {before, kind} <= NUMBERS.keys() - {"bool"}
            floating = both_numbers and {before, kind} & {"float", "double"}
            whole = both_numbers and "uint64" not in {before, kind}  # its upper half fits into no signed type
            self._types[name] = "double" if floating else "int64" if whole else WORDS
        if name in self._large and self._types[name] == "double":
            self._types[name] = WORDS  # an id of 17 digits must not be rounded


def as_json(value: object) -> str | None:
    """A value as the plan keeps it. Half a surrogate pair, which UTF-8 cannot hold, is spelled out as `\\ud800`."""
    if value is None:
        return None
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:  # nested as deeply as it could just be read
        return None
    # Two backslashes in JSON are one in the value, so a reader gets these six characters and not half a pair again.
    return LONE_SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", text)


def type_name(kind: pa.DataType) -> str | None:
    """The name under which a Parquet column's type is kept; None where it cannot be."""
    # A dictionary is only how a file encodes the column; its values are what is kept.
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = type_name(kind.value_type)
        return None if inner is None else f"list<{inner}>"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return WORDS
    return next((name for name, known in NUMBERS.items() if kind.equals(known)), None)


def kept_type(name: str) -> pa.DataType:
    """The inverse of type_name."""
    if name.startswith("list<"):
        # Parquet calls the values of a list so, and `encodings` in tables/parquet.py relies on that name.
        return pa.list_(pa.field("element", kept_type(name.removeprefix("list<").removesuffix(">"))))
    return pa.string() if name == WORDS else NUMBERS[name]


def kept_schema(types: Mapping[str, str]) -> list[tuple[str, pa.DataType]]:
    """The columns that names of types stand for."""
    return [(name, kept_type(kind)) for name, kind in types.items()]


def kept_column(texts: Sequence[str | None], kind: str) -> pa.Array:
    """JSON texts as a column of a type; a value that is no string becomes its JSON in a column of strings."""
    values = [None if text is None else json.loads(text) for text in texts]
    if kind in ("float", "double"):  # pyarrow takes no integer here that floating point would round
        values = [None if value is None else float(value) for value in values]
    if kind == WORDS:
        values = [v if v is None or isinstance(v, str) else text for v, text in zip(values, texts, strict=True)]
    return pa.array(values, kept_type(kind))
