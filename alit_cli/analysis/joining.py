"""Which image of a token table each score belongs to, and what the table knows about it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.scores import Scores
from alit_cli.data.sources import readable
from alit_cli.data.table import TableInfo, column_names, open_columns, read_info
from alit_cli.errors import InputError

BASELINES = ("jpeg_bytes", "png_bytes", "edge_density", "entropy", "mad")
"""The columns of a token table that describe an image without a model; `thumbnail_<budget>` besides."""


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


@dataclass(frozen=True)
class Study:
    """Scored images and what the token table knows about them; n images, T budgets.

    Attributes:
        score: n.
        groups: the group of each image, n; None where the scores have no groups.
        losses: L1 at every budget, float32 n T, NaN where it is not known.
        measures: `jpeg_bytes`, `mad`, `thumbnail_32` … → n each; those the table has.
        pairs: which scores found an image.
        failed: scored images that were not tokenized and are left out.
    """

    info: TableInfo
    score: NDArray[np.float64]
    groups: NDArray[np.str_] | None
    losses: NDArray[np.float32]
    measures: Mapping[str, NDArray[np.float64]]
    pairs: Match
    failed: int


def join_scores(tokens: Path, scores: Scores) -> Study:
    """Look up the scored images in a token table; InputError where none of them is there."""
    info, name = read_info(tokens), readable(str(tokens))
    if info.stop is not None or not info.losses:
        option = "--no-losses" if not info.losses else "--stop"
        raise InputError(f"'{name}' was made with {option}: a study wants L1 at every budget; tokenize again without.")
    present = set(column_names(tokens))
    losses = [f"l1_{budget}" for budget in info.budgets]
    described = [*BASELINES, *(f"thumbnail_{budget}" for budget in info.budgets)]
    measures = [column for column in described if column in present]
    table = open_columns(tokens, ["image", "status", *losses, *measures])
    keys = table["image"].to_pylist()
    pairs = match(scores.images, keys)
    if not len(pairs.names):
        raise InputError(
            f"None of the scores belongs to an image of '{name}': the scores name images like "
            f"{_examples(scores.images)}, the table has {_examples(keys)}."
        )
    frame = table.take(pairs.keys).to_pandas()
    ok = np.asarray((frame["status"] == "ok") & frame[losses].notna().any(axis=1))
    if not ok.any():
        raise InputError(f"None of the {len(ok)} scored images in '{name}' has an L1; its column `error` says why.")
    groups = None if scores.groups is None else np.array(scores.groups)[pairs.names][ok]
    return Study(
        info=info,
        score=scores.score[pairs.names][ok],
        groups=groups,
        losses=frame.loc[ok, losses].to_numpy(np.float32),
        measures={column: frame.loc[ok, column].to_numpy(np.float64) for column in measures},
        pairs=pairs,
        failed=int((~ok).sum()),
    )


def _examples(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names[:2]) or "none"


def match(names: Sequence[str], keys: Sequence[str], listed: str = "scores", known_in: str = "table") -> Match:
    """Pair each name with the table key that is the same path, else with the longest that agrees with it.

    Two paths agree when one of them, whole, is the end of the other: `art/7.jpg` is `images/art/7.jpg` or
    `7.jpg`, never `objects/7.jpg`. A name that fits several keys, or a key that several names fit, is an
    InputError that names them; `listed` and `known_in` say there what the names and the keys are.
    """
    wanted, known = _tidy_all(names, f"The {listed} list"), _tidy_all(keys, f"The {known_in} holds")
    pairs = {row: known[name] for name, row in wanted.items() if name in known}
    taken = set(pairs.values())
    rest = {name: row for name, row in wanted.items() if row not in pairs}
    claims: dict[int, str] = {}
    for name, key in _by_ending(rest, known, listed, known_in):
        if known[key] in taken:
            continue
        if known[key] in claims:
            raise InputError(
                f"Both '{claims[known[key]]}' and '{name}' of the {listed} could be the {known_in}'s '{key}'; "
                f"write the names in the {listed} as the {known_in} has them."
            )
        claims[known[key]] = name
        pairs[rest[name]] = known[key]
    rows = np.array(sorted(pairs), np.int64)
    found = set(pairs.values())
    return Match(
        names=rows,
        keys=np.array([pairs[row] for row in rows], np.int64),
        unmatched_names=tuple(name for row, name in enumerate(names) if row not in pairs),
        unmatched_keys=tuple(key for row, key in enumerate(keys) if row not in found),
    )


def _tidy_all(paths: Iterable[str], who: str) -> dict[str, int]:
    """Row number of every path, written one way; a path that is there twice is an InputError."""
    rows: dict[str, int] = {}
    for row, path in enumerate(paths):
        if rows.setdefault(_tidy(path), row) != row:
            raise InputError(f"{who} '{path}' more than once; an image can have only one row.")
    return rows


def _tidy(path: str) -> str:
    """One spelling of a path: forward slashes, no './', no doubled or leading slash, composed accents."""
    parts = unicodedata.normalize("NFC", path.strip()).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _by_ending(names: dict[str, int], known: dict[str, int], listed: str, known_in: str) -> Iterable[tuple[str, str]]:
    """(name, key) for every name that ends a key, or else ends in one (the longest); both are tidy paths."""
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
                f"'{name}' of the {listed} could be {_list(fits)} of the {known_in}; "
                "write the folders before it that tell them apart."
            )
        if fits:
            yield name, fits[0]
            continue
        parts = name.split("/")
        ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
        yield from ((name, end) for end in islice((end for end in ends if end in known), 1))


def _list(names: Sequence[str]) -> str:
    shown = " or ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} or {len(names) - 3} more"
