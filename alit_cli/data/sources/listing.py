"""Where images come from: folders, files, globs, tars, Parquet files, lists and URLs, as items in one fixed order."""

import glob
import os
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath

from braceexpand import braceexpand

from alit_cli.data.files import readable
from alit_cli.data.sources import folders, remote, tars
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import PHOTOGRAPHS, Found, Item
from alit_cli.data.sources.parquet_rows import rows
from alit_cli.errors import InputError

STDIN = "-"
NO_EXTRA_COLUMNS = ExtraColumns()
Copy = Callable[[remote.Entry], str | None]
"""Where a local copy of a remote tar or Parquet file lies; None: it is read where it is."""


def no_copy(_entry: remote.Entry) -> str | None:
    """All are read where they are."""
    return None


def list_items(paths: Sequence[str | Path], limit: int | None = None, null: bool = False) -> list[Item]:
    """Every image of the given inputs as a list; see stream_items. Raises InputError also for two images of one key."""
    items: dict[str, Item] = {}
    for found in stream_items(paths, limit, null):
        twin = items.setdefault(found.item.image, found.item)
        if twin is not found.item:
            raise InputError(collision(twin, found.item))
    return list(items.values())


def stream_items(
    paths: Sequence[str | Path],
    limit: int | None = None,
    null: bool = False,
    keeper: ExtraColumns = NO_EXTRA_COLUMNS,
    copy: Copy = no_copy,
) -> Iterator[Found]:
    """Every image of the given inputs, input by input, at most `limit`; none is held in memory.

    An input is a folder, a file, a glob, a plain tar, a Parquet file with a column of encoded images, a URL of any of
    these (`s3://…`), a pattern with braces (`shard-{000..127}.tar`), `@list.txt` with a file name or URL a line, or
    `-`: the same from standard input, where names end in NUL instead if `null` is given.

    A folder is walked with its subfolders and links, in natural order (img2 before img10), without hidden
    entries and `*.work` folders; there, in tars and in globs only image suffixes count, unless a glob names
    another suffix. A single file is taken whatever its suffix. The members of a tar come in its own order; one that
    breaks off ends in an item that says so. Remote tars and Parquet files of which `copy` makes a copy are read there.

    Raises InputError for a missing path, an input without images, or what `keeper` cannot keep.
    """
    if not paths:
        raise InputError("No input was given: name at least one folder, file, glob or .tar.")
    if limit is not None and limit < 1:
        raise InputError(f"The limit is {limit}; it must be at least 1.")
    names = [os.fspath(path) for path in paths]
    if null and STDIN not in names:
        raise InputError("-0 only applies to names that are read from standard input; add - to PATHS.")
    names = [expanded for name in names for expanded in _expanded(name)]
    listings = [(name, _listing(name, null, keeper, copy)) for name in names]
    return islice(_chained(listings), limit)


def _chained(listings: Sequence[tuple[str, Iterator[Found]]]) -> Iterator[Found]:
    for name, listing in listings:
        nothing = True
        for found in listing:
            nothing = False
            yield found
        if nothing:
            raise InputError(f"No image was found in '{readable(name)}'; looked for {PHOTOGRAPHS}.")


def collision(one: Item, other: Item) -> str:
    """One sentence about two items of one key."""
    if one.path == other.path and one.offset == other.offset:
        return f"The image '{one.image}' ('{readable(one.path)}') is named twice by the inputs; name it once."
    first, second = (f"'{readable(item.path)}'" for item in (one, other))
    return f"Two images have the same name '{one.image}': {first} and {second}; give the folder that holds both."


def _expanded(name: str) -> list[str]:
    """The names that a pattern with braces stands for; any other name is itself."""
    if "{" not in name or os.path.lexists(name):
        return [name]
    try:
        return list(braceexpand(name))
    except ValueError as problem:
        raise InputError(f"'{readable(name)}' does not exist, and its braces do not close; check it.") from problem


def _listing(path: str, null: bool, keeper: ExtraColumns, copy: Copy) -> Iterator[Found]:
    if path == STDIN:
        return _named(sys.stdin.buffer.read(), path, b"\0" if null else b"\n")
    if path.startswith("@") and not os.path.lexists(path):
        try:
            return _named(Path(path[1:]).read_bytes(), path, b"\n")
        except OSError as problem:
            raise InputError(f"The list '{readable(path[1:])}' cannot be read: {problem.strerror}.") from problem
    if remote.is_url(path):
        return _url(path, keeper, copy)
    if os.path.isdir(path):
        source, root = _source(path), os.path.abspath(path)
        return (_file_item(source, root, below) for below in folders.walk(root, "", ()))
    if os.path.isfile(path):
        return _file(os.path.dirname(path), os.path.basename(path), keeper)
    if glob.has_magic(path):
        root, found = folders.matches(path)
        return (item for below in found for item in _file(root, below, keeper))
    if os.path.lexists(path):
        raise InputError(f"'{readable(path)}' is neither a folder nor a file that can be read.")
    raise InputError(f"'{readable(path)}' does not exist; check the path.")


def _named(content: bytes, source: str, end: bytes) -> Iterator[Found]:
    """The files that a list names, relative to where we are; the key of each is its name as written."""
    for line in content.split(end):
        name = os.fsdecode(line if end == b"\0" else line.rstrip(b"\r"))
        if remote.is_url(name):
            yield Found(Item(readable(name.partition("://")[2]), readable(source), name))
        elif name:
            key = posixpath.normpath("/" + PurePath(name).as_posix()).lstrip("/")
            yield Found(Item(readable(key), readable(source), os.path.abspath(name)))


def _url(url: str, keeper: ExtraColumns, copy: Copy) -> Iterator[Found]:
    """The images behind a URL: a file, a folder or a glob."""
    if glob.has_magic(url.partition("://")[2]):
        root, found = folders.matches_url(url)
        return (item for below, entry in found for item in _entry(root, below, entry, keeper, copy))
    entry = remote.look(url)
    if entry is None:
        raise InputError(f"'{url}' does not exist; check the address.")
    if not entry.folder:
        return _entry(url.rpartition("/")[0], entry.name, entry, keeper, copy)
    root = url.rstrip("/")
    return (item for below, inner in folders.walk_url(root) for item in _entry(root, below, inner, keeper, copy))


def _entry(root: str, below: str, entry: remote.Entry, keeper: ExtraColumns, copy: Copy) -> Iterator[Found]:
    """The images in a file behind a URL."""
    look = entry.size, entry.mtime_ns
    if entry.url.lower().endswith((*tars.COMPRESSED, *folders.CONTAINERS)):
        for found in _inside(entry.url, copy(entry) or entry.url, keeper):
            yield Found(found.item, look, found.kept)
    else:
        yield Found(Item(readable(below), readable(root), entry.url, 0, entry.size), look)


def _file(root: str, below: str, keeper: ExtraColumns) -> Iterator[Found]:
    """The images in a file."""
    path = os.path.join(root, below)
    if path.lower().endswith((*tars.COMPRESSED, *folders.CONTAINERS)):
        return _inside(path, os.path.abspath(path), keeper)
    return iter([_file_item(_source(root), os.path.abspath(root), below)])


def _inside(path: str, real: str, keeper: ExtraColumns) -> Iterator[Found]:
    """The images in a tar or a Parquet file; `real` is where it will be read."""
    if path.lower().endswith(tars.COMPRESSED):
        raise InputError(f"'{readable(path)}' is a compressed tar; unpack it, or make it a plain .tar.")
    source = readable(path) if remote.is_url(path) else _source(path)
    if path.lower().endswith(".tar"):
        for member in tars.members(path, keeper, real):
            yield Found(Item(member.name, source, real, member.offset, member.size), None, member.kept)
    else:
        for row, (key, kept) in enumerate(rows(path, keeper, real)):
            yield Found(Item(readable(key), source, real, row=row), None, kept)


def _file_item(source: str, root: str, below: str) -> Found:
    return Found(Item(readable(PurePath(below).as_posix()), source, os.path.join(root, below)))


def _source(path: str) -> str:
    return readable(PurePath(os.path.normpath(path)).as_posix())
