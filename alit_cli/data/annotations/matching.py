"""Which key of a table a name in another file means: the same path, or the longest ending that fits one only."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from alit_cli.errors import InputError


@dataclass(frozen=True)
class Match:
    """Which name belongs to which key, in the order of the names.

    Attributes:
        names, keys: the two row numbers of every pair, int64, one length.
        unmatched_names, unmatched_keys: those left over on either side, as written.
    """

    names: NDArray[np.int64]
    keys: NDArray[np.int64]
    unmatched_names: tuple[str, ...]
    unmatched_keys: tuple[str, ...]


def match(names: Sequence[str], keys: Sequence[str], who: str = "scores", where: str = "table") -> Match:
    """Pair each name with the table key that is the same path, else with the longest that agrees with it.

    Two paths agree when one of them, whole, is the end of the other: `art/7.jpg` is `images/art/7.jpg` or
    `7.jpg`, never `objects/7.jpg`. A name that fits several keys, or a key that several names fit, is an
    InputError that names them; `who` is what it calls the names, `where` what holds the keys.
    """
    wanted, known = _tidy_all(names, f"The {who} list"), _tidy_all(keys, f"The {where} holds")
    # Equal paths come first: no ending may take a key that belongs to one of them.
    pairs = {row: known[name] for name, row in wanted.items() if name in known}
    taken = set(pairs.values())
    rest = {name: row for name, row in wanted.items() if row not in pairs}
    claims: dict[int, str] = {}
    for name, key in _by_ending(rest, known, who, where):
        if known[key] in taken:
            continue
        if known[key] in claims:
            raise InputError(
                f"Both '{claims[known[key]]}' and '{name}' of the {who} could be the {where}'s '{key}'; "
                f"write the names in the {who} as the {where} has them."
            )
        claims[known[key]] = name
        pairs[rest[name]] = known[key]
    # Both passes above add to `pairs`, so that the order of the names has to be restored.
    rows = np.array(sorted(pairs), np.int64)
    matched = set(pairs.values())
    return Match(
        names=rows,
        keys=np.array([pairs[row] for row in rows], np.int64),
        unmatched_names=tuple(name for row, name in enumerate(names) if row not in pairs),
        unmatched_keys=tuple(key for row, key in enumerate(keys) if row not in matched),
    )


def _tidy_all(paths: Iterable[str], what: str) -> dict[str, int]:
    """Row number of every path, written one way; a path that is there twice is an InputError."""
    rows: dict[str, int] = {}
    for row, path in enumerate(paths):
        if rows.setdefault(_tidy(path), row) != row:
            raise InputError(f"{what} '{path}' more than once; an image can have only one row.")
    return rows


def _tidy(path: str) -> str:
    """One spelling of a path: forward slashes, no './', no doubled or leading slash, composed accents."""
    # macOS gives accents as two characters, and Windows separates by backslashes.
    parts = unicodedata.normalize("NFC", path.strip()).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _by_ending(names: dict[str, int], known: dict[str, int], who: str, where: str) -> Iterable[tuple[str, str]]:
    """(name, key) for every name that ends a key, or else ends in one (the longest); both are tidy paths."""
    # Only endings as long as some name are collected, so that the index stays small for deep folders.
    depths = {name.count("/") + 1 for name in names}
    longer: dict[str, list[str]] = defaultdict(list)
    for key in known:
        parts = key.split("/")
        for depth in depths:
            if depth < len(parts):
                longer["/".join(parts[-depth:])].append(key)
    for name in names:
        if len(fits := longer.get(name, [])) > 1:
            raise InputError(
                f"'{name}' of the {who} could be {_list(fits)} of the {where}; "
                "write the folders before it that tell them apart."
            )
        if fits:
            yield name, fits[0]
            continue
        parts = name.split("/")
        # From the longest ending down; the first that is a key is the answer.
        ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
        yield from ((name, end) for end in islice((end for end in ends if end in known), 1))


def _list(names: Sequence[str]) -> str:
    shown = " or ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} or {len(names) - 3} more"
