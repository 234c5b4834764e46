"""Files behind URLs (`s3://…`, `gs://…`, `memory://…`): listed, opened and read through fsspec."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar, cast

from alit_cli.errors import InputError

NEAR = ("memory://", "file://", "local://")
"""URLs of what is on this machine already."""
BLOCK = 2**22
"""Bytes that are fetched at once where a file is read from its beginning on."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder of a listing: its URL, whether it is a folder, its size in bytes and time of change in ns."""

    url: str
    folder: bool
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return os.path.basename(self.url.rstrip("/"))


def is_url(name: str) -> bool:
    """Whether a path is a URL with a protocol; one letter is a Windows drive."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def look(url: str) -> Entry | None:
    """What lies behind a URL; None where there is nothing. Raises InputError: it cannot be reached."""
    fs, path = _open_system(url)
    try:
        return _entry(fs, _asked(url, lambda: fs.info(path)))
    except FileNotFoundError:
        return None


def folder(url: str) -> list[Entry]:
    """The entries of a folder, in no order. Raises InputError: it cannot be listed."""
    fs, path = _open_system(url)
    entries = _asked(url, lambda: fs.ls(path, detail=True))
    # Some stores list a folder as an entry of itself, which a walk would follow without end.
    own = path.strip("/")
    return [_entry(fs, info) for info in entries if info["name"].strip("/") != own]


def glob(pattern: str) -> Iterator[Entry]:
    """The files that a pattern matches, in no order. Raises InputError: it cannot be listed."""
    fs, path = _open_system(pattern)
    entries = _asked(pattern, lambda: fs.glob(path, detail=True))
    return (entry for info in entries.values() if not (entry := _entry(fs, info)).folder)


def below(root: str, url: str) -> str:
    """The path of a file below a folder, both given as URLs."""
    (_, top), (_, inner) = _open_system(root), _open_system(url)
    return inner.removeprefix(top.rstrip("/")).strip("/")


def open_file(path: str) -> BinaryIO:
    """A file, local or behind a URL, for reading with seeks. Raises OSError."""
    if not is_url(path):
        return open(path, "rb")
    fs, inner = _open_system(path)
    # fsspec's files behave like binary files, but its packages have no types.
    return cast(BinaryIO, _read(lambda: fs.open(inner, "rb", block_size=BLOCK)))


def read(url: str, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes start … stop - 1 of a file (None: to its end). Raises OSError."""
    fs, path = _open_system(url)
    # None instead of 0: without a range at all, fsspec can fetch the whole file in one plain request.
    return bytes(_read(lambda: fs.cat_file(path, start=start or None, end=stop)))


def fetch(url: str, path: str) -> None:
    """Write all bytes of a file into a local one. Raises OSError."""
    fs, inner = _open_system(url)
    _read(lambda: fs.get_file(inner, path))


def size(url: str) -> int:
    """Bytes of a file. Raises OSError."""
    fs, path = _open_system(url)
    return int(_read(lambda: fs.size(path)) or 0)


def _read(action: Callable[[], Value]) -> Value:
    """Do it; every failure of a backend, each has its own family, becomes an OSError."""
    try:
        return action()
    except OSError:
        raise
    except Exception as problem:
        raise OSError(errno.EIO, short(problem)) from problem


def _asked(url: str, action: Callable[[], Value]) -> Value:
    """Do it; a failure becomes one sentence, but a file that is not there stays a FileNotFoundError."""
    try:
        return action()
    except FileNotFoundError:
        raise
    except Exception as problem:
        raise InputError(f"'{url}' cannot be listed: {short(problem)}.") from problem


def _open_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it."""
    # Protocols are written in any case; the file system is kept by its name, so one spelling is needed.
    protocol = url.partition("://")[0].lower()
    fs = _system(protocol)
    return fs, str(fs._strip_protocol(url))


# A file system holds connections, so that one of each protocol serves the whole process.
@lru_cache
def _system(protocol: str) -> Any:
    """One file system per protocol, without a cache of listings, which would grow with every folder."""
    try:
        # fsspec comes with the extra `remote`, and only those who name a URL need it.
        import fsspec

        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as problem:
        raise InputError(
            f"{protocol}:// needs a package that is not installed ({short(problem)}): pip install 'alit[remote]'."
        ) from problem
    except ValueError as problem:
        raise InputError(f"{protocol}:// is no protocol that fsspec knows; check the address.") from problem


def _entry(fs: Any, info: dict[str, Any]) -> Entry:
    # Listings hold paths without a protocol; everything else here expects URLs.
    url = str(fs.unstrip_protocol(info["name"]))
    return Entry(url, info["type"] == "directory", int(info.get("size") or 0), _changed(info))


def _changed(info: dict[str, Any]) -> int:
    """Nanoseconds since 1970; -1 where the backend does not say."""
    # S3, local files, Google Cloud, Azure and memory each have a name of their own for the same thing.
    for key in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = info.get(key)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            # A float holds microseconds since 1970 exactly, but not nanoseconds.
            return int(value.timestamp() * 1e6) * 1000
        if isinstance(value, int | float):
            return int(value * 1e9)
    return -1


def short(problem: Exception) -> str:
    """What a backend says, in one line of bearable length."""
    return " ".join(str(problem).split()).rstrip(".")[:160] or type(problem).__name__
