"""Which files of a folder or a glob count, and in which order; one walk for folders here and behind URLs."""

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
WORK = ".work"
"""How a folder of unfinished work ends; what lies in it belongs to alit."""


def walk(root: str) -> Iterator[tuple[str, remote.Entry]]:
    """The path below `root` of every image under a folder, here or behind a URL, and its entry; in natural order.

    Hidden entries and work folders are passed over. Raises InputError: a folder cannot be listed.
    """
    join = posixpath.join if remote.is_url(root) else os.path.join
    # A stack of its own, because folders may be nested deeper than Python calls functions. Beside the entries that are
    # still to be looked at stand the identities of the folders above, as a link may lead back to one of them.
    stack = [("", iter(_entries(root)), frozenset({_identity(root)}))]
    while stack:
        below, entries, above = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        inner = join(below, entry.name)
        if entry.name.startswith("."):
            continue
        if entry.folder:
            folder = join(root, inner)
            identity = _identity(folder)
            if not entry.name.endswith(WORK) and (identity is None or identity not in above):
                stack.append((inner, iter(_entries(folder)), above | {identity}))
        elif is_image(entry.name):
            yield inner, entry


def _entries(folder: str) -> list[remote.Entry]:
    """Files, links and folders in a folder, in natural order."""
    entries = remote.folder(folder) if remote.is_url(folder) else _local_entries(folder)
    return sorted(entries, key=lambda entry: natural(entry.name))


def _local_entries(folder: str) -> list[remote.Entry]:
    """The same as `remote.folder`, without the detour over fsspec, which would decode names that are not UTF-8."""
    try:
        with os.scandir(folder) as entries:
            return [
                # Size and time are unknown: the plan looks at each file once, when it is made.
                remote.Entry(entry.path, entry.is_dir(), -1, -1)
                for entry in entries
                if entry.is_dir() or entry.is_file() or entry.is_symlink()  # a link to nothing is a row that says so
            ]
    except OSError as problem:
        raise InputError(f"The folder '{readable(folder)}' cannot be listed: {problem.strerror}.") from problem


def _identity(folder: str) -> tuple[int, int] | None:
    """Device and inode of a folder here; None behind a URL, where nothing leads back."""
    if remote.is_url(folder):
        return None
    try:
        about = os.stat(folder)
    except OSError as problem:
        raise InputError(f"The folder '{readable(folder)}' cannot be listed: {problem.strerror}.") from problem
    return about.st_dev, about.st_ino


def matches(pattern: str) -> tuple[str, list[tuple[str, remote.Entry | None]]]:
    """The fixed part of a glob, and the paths below it that count, tars and Parquet files among them.

    Behind a URL each comes with its entry.
    """
    behind_url = remote.is_url(pattern)
    parts = pattern.split("/") if behind_url else list(PurePath(pattern).parts)
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = "/".join(parts[:fixed]) if behind_url else os.path.join("", *parts[:fixed])
    suffix = os.path.splitext(pattern)[1]
    named = bool(suffix) and not glob.has_magic(suffix)  # '*.dat' takes what ends so, '*' only images
    matching: dict[tuple[str, ...], remote.Entry | None] = {}
    if behind_url:
        for entry in remote.glob(pattern):
            matching[tuple(remote.below(root, entry.url).split("/"))] = entry
    else:
        paths = (path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path))
        matching = dict.fromkeys(PurePath(path).parts[fixed:] for path in paths)
    counted = [
        below
        for below in matching
        if (named or _counts(below[-1])) and not any(part.endswith(WORK) for part in below[:-1])
    ]
    counted.sort(key=lambda below: [natural(part) for part in below])
    separator = "/" if behind_url else os.sep
    return root, [(separator.join(below), matching[below]) for below in counted]


def _counts(name: str) -> bool:
    return is_image(name) or name.lower().endswith(CONTAINERS)
