"""Where images come from: folders, files, globs, tars, Parquet files and lists, as items in one fixed order."""

import glob
import os
import posixpath
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from braceexpand import braceexpand

from alit_cli.data.parquet_rows import RowReader, keys
from alit_cli.errors import ImageProblem, InputError

PHOTOGRAPHS = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2"
FOREIGN = ".heic .heif .jxl"
"""Not read, yet listed: a photograph that cannot be read is a row of the table, never a silent gap."""
SUFFIXES = frozenset(f"{PHOTOGRAPHS} {FOREIGN}".split())
"""What counts as an image inside a folder, a glob or a tar."""
COMPRESSED_TARS = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_BYTES = 2**31
"""A file longer than this is not read into memory."""
STDIN = "-"
_ROWS = RowReader()


@dataclass(frozen=True)
class Item:
    """One image that waits to be read.

    `image` is the join key: the '/'-separated path below the input root, the name of a tar member, or the
    name of a single file. Bytes of a name that are not UTF-8 stand there as `\\xNN`. `source` is the root or
    the tar as given, `path` the file, absolute, that holds the bytes: `size` of them from `offset` on; -1
    means to its end. With a `row`, the file is Parquet and the bytes are that row's.
    """

    image: str
    source: str
    path: str
    offset: int = 0
    size: int = -1
    row: int = -1

    def read(self) -> bytes:
        """The encoded bytes. Raises OSError, and ImageProblem (`too_large`) beyond MAX_BYTES."""
        if self.row >= 0:
            return _ROWS.read(self.path, self.row)
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size - self.offset if self.size < 0 else self.size
            if size > MAX_BYTES:
                raise ImageProblem("too_large", f"The file has {size:,} bytes; at most {MAX_BYTES:,} are read.")
            file.seek(self.offset)
            return file.read(self.size)


def list_items(paths: Sequence[str | Path], limit: int | None = None, null: bool = False) -> list[Item]:
    """Every image of the given inputs, input by input, at most `limit`.

    An input is a folder, a file, a glob, a plain tar, a Parquet file with a column of encoded images, a pattern with
    braces (`shard-{000..127}.tar`), `@list.txt` with a file name a line, or `-`: the same from standard input,
    where names end in NUL instead if `null` is given.

    A folder is walked with its subfolders and links, in natural order (img2 before img10), without hidden
    entries and `*.work` folders; there, in tars and in globs only image suffixes count, unless a glob names
    another suffix. A single file is taken whatever its suffix. The members of a tar come in its own order.
    Raises InputError for a missing path, an input without images, a damaged tar, or two images of one key.
    """
    if not paths:
        raise InputError("No input was given: name at least one folder, file, glob or .tar.")
    if limit is not None and limit < 1:
        raise InputError(f"The limit is {limit}; it must be at least 1.")
    names = [os.fspath(path) for path in paths]
    if null and STDIN not in names:
        raise InputError("-0 says how names end on standard input: name - as an input.")
    names = [expanded for name in names for expanded in _expanded(name)]
    listings = [_listing(name, null) for name in names]
    items: dict[str, Item] = {}
    for name, listing in zip(names, listings, strict=True):
        before = len(items)
        for item in listing:
            twin = items.setdefault(item.image, item)
            if twin is not item:
                raise InputError(_collision(twin, item))
            if len(items) == limit:
                return list(items.values())
        if len(items) == before:
            raise InputError(f"No image was found in '{readable(name)}'; looked for {PHOTOGRAPHS}.")
    return list(items.values())


def readable(path: str) -> str:
    """A path as text that every file and terminal can hold: bytes that are not UTF-8 become `\\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _expanded(name: str) -> list[str]:
    """The names that a pattern with braces stands for; any other name is itself."""
    if "{" not in name or os.path.lexists(name):
        return [name]
    try:
        return list(braceexpand(name))
    except ValueError as problem:
        raise InputError(f"'{readable(name)}' does not exist, and its braces do not close; check it.") from problem


def _listing(path: str, null: bool) -> Iterator[Item]:
    if path == STDIN:
        return _named(sys.stdin.buffer.read(), path, b"\0" if null else b"\n")
    if path.startswith("@") and not os.path.lexists(path):
        try:
            return _named(Path(path[1:]).read_bytes(), path, b"\n")
        except OSError as problem:
            raise InputError(f"The list '{readable(path[1:])}' cannot be read: {problem.strerror}.") from problem
    if os.path.isdir(path):
        source = _source(path)
        root = os.path.abspath(path)
        return (_file_item(source, root, below) for below in _walk(root, "", ()))
    if os.path.isfile(path):
        return _file(os.path.dirname(path), os.path.basename(path))
    if glob.has_magic(path):
        return _matches(path)
    if os.path.lexists(path):
        raise InputError(f"'{readable(path)}' is neither a folder nor a file that can be read.")
    raise InputError(f"'{readable(path)}' does not exist; check the path.")


def _named(content: bytes, source: str, end: bytes) -> Iterator[Item]:
    """The files that a list names, relative to where we are; the key of each is its name as written."""
    for line in content.split(end):
        name = os.fsdecode(line if end == b"\0" else line.rstrip(b"\r"))
        if name:
            key = posixpath.normpath("/" + PurePath(name).as_posix()).lstrip("/")
            yield Item(readable(key), readable(source), os.path.abspath(name))


def _walk(root: str, below: str, above: tuple[str, ...]) -> Iterator[str]:
    """Paths of the images below root, relative to it; `above` holds the real folders above, to stop loops."""
    folder = os.path.join(root, below)
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: _natural(entry.name))
    except OSError as problem:
        raise InputError(f"The folder '{readable(folder)}' cannot be listed: {problem.strerror}.") from problem
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.name.endswith(".work"):
                yield from _walk(root, os.path.join(below, entry.name), (*above, real))
        elif _is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield os.path.join(below, entry.name)


def _matches(pattern: str) -> Iterator[Item]:
    """The files of a glob below its fixed part; tars and Parquet files among them are opened."""
    parts = PurePath(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = os.path.join("", *parts[:fixed])
    suffix = os.path.splitext(pattern)[1]
    named = bool(suffix) and not glob.has_magic(suffix)
    found = []
    for match in glob.iglob(pattern, recursive=True):
        below = PurePath(match).parts[fixed:]
        wanted = named or _is_image(match) or match.lower().endswith((".tar", ".parquet"))
        if wanted and os.path.isfile(match) and not any(part.endswith(".work") for part in below[:-1]):
            found.append(below)
    for below in sorted(set(found), key=lambda below: [_natural(part) for part in below]):
        yield from _file(root, os.path.join(*below))


def _file(root: str, below: str) -> Iterator[Item]:
    path = os.path.join(root, below)
    if path.lower().endswith(COMPRESSED_TARS):
        raise InputError(f"'{readable(path)}' is a compressed tar; unpack it, or make it a plain .tar.")
    if path.lower().endswith(".tar"):
        return _members(path)
    if path.lower().endswith(".parquet"):
        real = os.path.abspath(path)
        return (Item(readable(key), _source(path), real, row=row) for row, key in enumerate(keys(path)))
    return iter([_file_item(_source(root), os.path.abspath(root), below)])


def _members(path: str) -> Iterator[Item]:
    """The images of a plain tar in its order; they are read later by seeking."""
    source, real, whole = _source(path), os.path.abspath(path), False
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = posixpath.normpath("/" + member.name).lstrip("/")  # no way out of the root by `..`
                hidden = any(part.startswith(".") for part in name.split("/"))
                if member.isreg() and _is_image(name) and not hidden:
                    yield Item(readable(name), source, real, member.offset_data, member.size)
            whole = _ends_well(real, archive.offset)
    except (tarfile.TarError, OSError) as problem:
        raise InputError(f"'{readable(path)}' is not a whole, uncompressed tar: {problem}.") from problem
    if not whole:
        raise InputError(f"'{readable(path)}' is a damaged tar: it breaks off in the middle; make or copy it again.")


def _ends_well(path: str, offset: int) -> bool:
    """Whether only padding follows the last member: tarfile stops silently at a header it cannot read."""
    with open(path, "rb") as file:
        file.seek(offset)
        return not file.read(tarfile.BLOCKSIZE).strip(b"\0")


def _file_item(source: str, root: str, below: str) -> Item:
    return Item(readable(PurePath(below).as_posix()), source, os.path.join(root, below))


def _source(path: str) -> str:
    return readable(PurePath(os.path.normpath(path)).as_posix())


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _natural(name: str) -> tuple[list[str | int], str]:
    """A sorting key: runs of digits count as numbers; the name itself decides between 1 and 01."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _collision(one: Item, other: Item) -> str:
    if one.path == other.path and one.offset == other.offset:
        return f"The image '{one.image}' ('{readable(one.path)}') is named twice by the inputs; name it once."
    first, second = (f"'{readable(item.path)}'" for item in (one, other))
    return f"Two images have the same name '{one.image}': {first} and {second}; give the folder that holds both."
