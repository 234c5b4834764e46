"""Which files of a folder or a glob count, and in which order; here or behind a URL."""

import glob
import os
import posixpath
from collections.abc import Iterator
from pathlib import PurePath

from alit_cli.data.files import natural, readable
from alit_cli.data.sources import remote
from alit_cli.data.sources.items import is_image
from alit_cli.errors import InputError

CONTAINERS = (".tar", ".parquet")
"""Files that a glob opens to look for images inside."""


def walk(root: str, below: str, above: tuple[str, ...]) -> Iterator[str]:
    """Paths of the images below root, relative to it; `above` holds the real folders above, to stop loops."""
    folder = os.path.join(root, below)
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: natural(entry.name))
    except OSError as problem:
        raise InputError(f"The folder '{readable(folder)}' cannot be listed: {problem.strerror}.") from problem
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.name.endswith(".work"):
                yield from walk(root, os.path.join(below, entry.name), (*above, real))
        elif is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield os.path.join(below, entry.name)


def walk_url(root: str, below: str = "") -> Iterator[tuple[str, remote.Entry]]:
    """As walk, behind a URL: the path below root of every image, and its entry."""
    entries = sorted(remote.folder(posixpath.join(root, below)), key=lambda entry: natural(entry.name))
    for entry in entries:
        inner = posixpath.join(below, entry.name)
        if entry.name.startswith("."):
            continue
        if entry.folder:
            if not entry.name.endswith(".work"):
                yield from walk_url(root, inner)
        elif is_image(entry.name):
            yield inner, entry


def matches(pattern: str) -> tuple[str, list[str]]:
    """The fixed part of a glob, and the files below it that count, tars and Parquet files among them."""
    parts = PurePath(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = os.path.join("", *parts[:fixed])
    suffix = os.path.splitext(pattern)[1]
    named = bool(suffix) and not glob.has_magic(suffix)
    found = []
    for match in glob.iglob(pattern, recursive=True):
        below = PurePath(match).parts[fixed:]
        if (
            (named or _counts(match))
            and os.path.isfile(match)
            and not any(part.endswith(".work") for part in below[:-1])
        ):
            found.append(below)
    return root, [os.path.join(*below) for below in sorted(set(found), key=_order)]


def matches_url(pattern: str) -> tuple[str, list[tuple[str, remote.Entry]]]:
    """As matches, behind a URL, with the entry of each."""
    parts = pattern.split("/")
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = "/".join(parts[:fixed])
    suffix = os.path.splitext(pattern)[1]
    named = bool(suffix) and not glob.has_magic(suffix)
    found = {}
    for entry in remote.glob(pattern):
        below = tuple(remote.below(root, entry.url).split("/"))
        if (named or _counts(entry.name)) and not any(part.endswith(".work") for part in below[:-1]):
            found[below] = entry
    return root, [("/".join(below), found[below]) for below in sorted(found, key=_order)]


def _order(below: tuple[str, ...]) -> list[tuple[list[str | int], str]]:
    return [natural(part) for part in below]


def _counts(name: str) -> bool:
    return is_image(name) or name.lower().endswith(CONTAINERS)
