"""Where images come from: folders, files, globs, tars, Parquet files, lists and URLs, as items in one fixed order."""

import codecs
import glob
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePath

from braceexpand import braceexpand

from alit_cli.data.files import readable
from alit_cli.data.sources import folders, remote, tars
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import PHOTOGRAPHS, Item, ListedItem
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
    """Every image of the given inputs as a list; see stream_items. Raises InputError also for two images of one key.

    Where two inputs have images of one name, all names begin with their input's.
    """
    try:
        return _unique(stream_items(paths, limit, null))
    except SameName:
        return _unique(stream_items(paths, limit, null, prefixed=True))


def _unique(listing: Iterable[ListedItem]) -> list[Item]:
    items: dict[str, Item] = {}
    for entry in listing:
        # setdefault returns what is there already; only for a new key is that the item itself.
        twin = items.setdefault(entry.item.image, entry.item)
        if twin is not entry.item:
            raise collision(twin, entry.item)
    return list(items.values())


def stream_items(
    paths: Sequence[str | Path],
    limit: int | None = None,
    null: bool = False,
    keeper: ExtraColumns = NO_EXTRA_COLUMNS,
    copy: Copy = no_copy,
    prefixed: bool = False,
) -> Iterator[ListedItem]:
    """Every image of the given inputs, input by input, at most `limit`; none is held in memory.

    An input is a folder, a file, a glob, a plain tar, a Parquet file with a column of encoded images, a URL of any of
    these (`s3://…`), a pattern with braces (`shard-{000..127}.tar`), `@list.txt` with one file name or URL per line, or
    `-`: the same from standard input, where names end in NUL instead if `null` is given.

    A folder is walked with its subfolders and links, in natural order (img2 before img10), without hidden
    entries and `*.work` folders; there, in tars and in globs only image suffixes count, unless a glob names
    another suffix. A single file is taken whatever its suffix. The members of a tar come in its own order; one that
    breaks off ends in an item that says so. Remote tars and Parquet files of which `copy` makes a copy are read there.

    With `prefixed`, every name begins with its input's, so that two inputs may have images of one name: the path of the
    folder, tar or Parquet file, below the folder that all inputs lie in. Lists and standard input stay as they are.

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
    if prefixed and STDIN in names:
        raise InputError(
            "Two inputs have images of one name, and - cannot be read twice; name the inputs on their own."
        )
    # All inputs are looked for before the first image is listed, so that a mistyped last one is reported at once.
    listings = [(name, _listing(name, null, keeper, copy)) for name in names]
    listed = _chained(listings)
    return islice(_with_prefixes(listed, _common_folder(names)) if prefixed else listed, limit)


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all inputs lie in, as a source names it; '' where there is none."""
    # Of a glob, what stands before its first sign counts.
    above = [os.path.dirname(re.split(r"[*?[]", name, maxsplit=1)[0].rstrip("/")) for name in names]
    try:
        return _source(os.path.commonpath(above))
    except ValueError:  # URLs beside paths, or relative paths beside absolute ones
        return ""


def _with_prefixes(listed: Iterable[ListedItem], common: str) -> Iterator[ListedItem]:
    """The same items, the names of which begin with their input's."""
    for entry in listed:
        if entry.item.source.startswith((STDIN, "@")):
            yield entry
            continue
        image = f"{prefix_of(entry.item.source, common)}/{entry.item.image}"
        yield replace(entry, item=replace(entry.item, image=image))


def prefix_of(source: str, common: str = "") -> str:
    """What stands before the names of an input's images: its path below `common`, without a suffix or a way upwards."""
    inner = source.removeprefix(f"{common}/") if common else source
    inner = inner.partition("://")[2] or inner
    # The prefix becomes the beginning of keys, and keys become paths below output folders: no '..' may stay.
    path = "/".join(part for part in inner.split("/") if part not in ("", ".", ".."))
    return path.removesuffix(".tar").removesuffix(".parquet") or "input"


def _chained(listings: Sequence[tuple[str, Iterator[ListedItem]]]) -> Iterator[ListedItem]:
    for name, listing in listings:
        nothing = True
        for entry in listing:
            nothing = False
            yield entry
        # Each input must give something: a folder that holds no image is more likely a mistake than a wish.
        if nothing:
            raise InputError(f"No image was found in '{readable(name)}'; looked for {PHOTOGRAPHS}{_hint(name)}.")


def _hint(name: str) -> str:
    """What to write instead for a folder that holds only tars or Parquet files, which a walk passes over."""
    inside = os.listdir(name) if os.path.isdir(name) else []
    endings = [ending for ending in folders.CONTAINERS if any(entry.lower().endswith(ending) for entry in inside)]
    patterns = " ".join(f"'{readable(os.path.join(name, '*'))}{ending}'" for ending in endings)
    return f"; to read the files inside it, write {patterns}" if patterns else ""


class SameName(InputError):
    """Two inputs have images of one name; listed with `prefixed`, they have not."""


def collision(one: Item, other: Item) -> InputError:
    """What is wrong with two items of one key, in a sentence."""
    if (one.path, one.offset, one.row) == (other.path, other.offset, other.row):
        return InputError(
            f"The image '{one.image}' ('{readable(one.path)}') is named twice by the inputs; name it once."
        )
    first, second = (f"'{readable(item.path)}'" for item in (one, other))
    # A prefix tells two inputs apart, but not two images of one input: only the first is worth listing again.
    kind = InputError if one.source == other.source else SameName
    return kind(f"Two images have the same name '{one.image}': {first} and {second}; give the folder that holds both.")


def _expanded(name: str) -> list[str]:
    """The names that a pattern with braces stands for; any other name is itself."""
    # A file or folder of exactly this name is meant before a pattern is.
    if "{" not in name or os.path.lexists(name):
        return [name]
    try:
        return list(braceexpand(name))
    except ValueError as problem:
        raise InputError(f"'{readable(name)}' does not exist, and its braces do not close; check it.") from problem


def _listing(path: str, null: bool, keeper: ExtraColumns, copy: Copy) -> Iterator[ListedItem]:
    if path == STDIN:
        # Bytes, because names of files need not be UTF-8.
        return _named(sys.stdin.buffer.read(), path, b"\0" if null else b"\n")
    if path.startswith("@") and not os.path.lexists(path):
        try:
            return _named(Path(path[1:]).read_bytes(), path, b"\n")
        except OSError as problem:
            raise InputError(f"The list '{readable(path[1:])}' cannot be read: {problem.strerror}.") from problem
    if remote.is_url(path):
        return _url(path, keeper, copy)
    # What exists comes before globs, as names of files and folders may hold brackets.
    if os.path.isdir(path):
        source, root = _source(path), os.path.abspath(path)
        return (_file_item(source, root, below) for below, _ in folders.walk(root))
    if os.path.isfile(path):
        return _file(os.path.dirname(path), os.path.basename(path), keeper)
    if glob.has_magic(path):
        root, matching = folders.matches(path)
        return (item for below, _ in matching for item in _file(root, below, keeper))
    if os.path.lexists(path):
        raise InputError(f"'{readable(path)}' is neither a folder nor a file that can be read.")
    raise InputError(f"'{readable(path)}' does not exist; check the path.")


def _named(content: bytes, source: str, end: bytes) -> Iterator[ListedItem]:
    """The files that a list names, relative to where we are; the key of each is its name as written.

    Raises InputError: it is no text, or a name holds a NUL, which no file's name does.
    """
    for number, line in enumerate(_as_utf_8(content, source).split(end), 1):
        # Lists written on Windows end their lines with a carriage return; names that end in NUL may hold one.
        name = os.fsdecode(line if end == b"\0" else line.rstrip(b"\r"))
        if "\0" in name:
            raise InputError(
                f"Line {number} of the list '{readable(source)}' holds a NUL byte; a list has one name per line, or "
                "names that end in NUL on standard input (alit tokenize - -0)."
            )
        if remote.is_url(name):
            yield ListedItem(Item(readable(name.partition("://")[2]), readable(source), name))
        elif name:
            # normpath on an absolute path drops '..', so that no key leads out of an output folder.
            key = posixpath.normpath("/" + PurePath(name).as_posix()).lstrip("/")
            yield ListedItem(Item(readable(key), readable(source), os.path.abspath(name)))


def _as_utf_8(content: bytes, source: str) -> bytes:
    """A list without its byte order mark; UTF-16, as PowerShell writes it, becomes UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16").encode()
        except UnicodeError as problem:
            raise InputError(f"The list '{readable(source)}' is damaged UTF-16; save it as UTF-8.") from problem
    return content.removeprefix(codecs.BOM_UTF8)


def _url(url: str, keeper: ExtraColumns, copy: Copy) -> Iterator[ListedItem]:
    """The images behind a URL: a file, a folder or a glob."""
    if glob.has_magic(url.partition("://")[2]):
        root, matching = folders.matches(url)
        return (item for below, entry in matching if entry for item in _entry(root, below, entry, keeper, copy))
    entry = remote.look(url)
    if entry is None:
        raise InputError(f"'{url}' does not exist; check the address.")
    if not entry.folder:
        return _entry(url.rpartition("/")[0], entry.name, entry, keeper, copy)
    root = url.rstrip("/")
    return (item for below, inner in folders.walk(root) for item in _entry(root, below, inner, keeper, copy))


def _entry(root: str, below: str, entry: remote.Entry, keeper: ExtraColumns, copy: Copy) -> Iterator[ListedItem]:
    """The images in a file behind a URL."""
    # The listing says it already, so the plan need not ask the server again for every file.
    look = entry.size, entry.mtime_ns
    if entry.url.lower().endswith((*tars.COMPRESSED, *folders.CONTAINERS)):
        for listed in _inside(entry.url, copy(entry) or entry.url, keeper):
            yield ListedItem(listed.item, look, listed.kept)
    else:
        yield ListedItem(Item(readable(below), readable(root), entry.url, 0, entry.size), look)


def _file(root: str, below: str, keeper: ExtraColumns) -> Iterator[ListedItem]:
    """The images in a file."""
    path = os.path.join(root, below)
    if path.lower().endswith((*tars.COMPRESSED, *folders.CONTAINERS)):
        return _inside(path, os.path.abspath(path), keeper)
    return iter([_file_item(_source(root), os.path.abspath(root), below)])


def _inside(path: str, real: str, keeper: ExtraColumns) -> Iterator[ListedItem]:
    """The images in a tar or a Parquet file; `real` is where it will be read."""
    if path.lower().endswith(tars.COMPRESSED):
        raise InputError(f"'{readable(path)}' is a compressed tar; unpack it, or make it a plain .tar.")
    source = readable(path) if remote.is_url(path) else _source(path)
    if path.lower().endswith(".tar"):
        for member in tars.members(path, keeper, real):
            yield ListedItem(Item(member.name, source, real, member.offset, member.size), None, member.kept)
    else:
        for row, (key, kept) in enumerate(rows(path, keeper, real)):
            yield ListedItem(Item(readable(key), source, real, row=row), None, kept)


def _file_item(source: str, root: str, below: str) -> ListedItem:
    return ListedItem(Item(readable(PurePath(below).as_posix()), source, os.path.join(root, below)))


def _source(path: str) -> str:
    # 'photos', './photos/' and 'photos/' are one source.
    return readable(PurePath(os.path.normpath(path)).as_posix())
