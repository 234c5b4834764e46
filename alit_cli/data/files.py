"""Where every output file is opened, what may be replaced, and write errors said in one sentence.

How to write a file:

    with open_output(path, "selection", tidy=True) as file:   # or "analysis", "figure", …: `marks.Kind`
        ...

- `open_output` is the only function that opens an output for writing. It refuses to replace a file that alit did not
  write, a file of another kind, and a file that the running command reads.
- `check_output(path, kind)` and `check_output_folder(path)` say the same before the work begins. Call them first.
- What a command reads is known from its options: `out_option` and `report_options` protect every path among them. A
  command that reads more (`decode` reads what the table's `source` names) adds it with `protected(paths)`.
- The content must carry the mark of its format: see `marks.py` for one function per format.
"""

import contextlib
import contextvars
import errno
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

from alit_cli.data.marks import LISTED, MANIFEST, SUFFIXES, Kind, Sources, kind_of_file, listed, read_manifest
from alit_cli.errors import AlitError, InputError

ORPHAN_SECONDS = 1.0
"""A temporary file younger than this may be of a process that has not locked it yet."""
LONGEST_NAME = 255
"""Bytes that a file's name may have on all usual file systems."""
# EDQUOT is what a full disk is called where each user has a share of it.
FULL = {errno.ENOSPC, errno.EDQUOT}
# Another --out helps against each of these, and the message asks for one.
NOT_ALLOWED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}
_PROTECTED: contextvars.ContextVar[frozenset[tuple[int, int]]] = contextvars.ContextVar(
    "protected", default=frozenset()
)
"""Device and inode of what the running command reads; both together tell one file by whatever name it is given."""


_NO_SOURCES = Sources()
_COMPUTED_FROM: contextvars.ContextVar[Sources] = contextvars.ContextVar("computed_from", default=_NO_SOURCES)


@contextlib.contextmanager
def computed_from(sources: Sources) -> Iterator[None]:
    """Record in the manifest what the csv files of this block were computed from.

    The page of `alit view` shows an analysis only beside a table that it was computed from.
    """
    before = _COMPUTED_FROM.get()
    _COMPUTED_FROM.set(sources)
    try:
        yield
    finally:
        _COMPUTED_FROM.set(before)


@contextlib.contextmanager
def protected(paths: Iterable[str | Path]) -> Iterator[None]:
    """Files and folders that no output of this block may replace; what does not exist is passed over."""
    before = _PROTECTED.get()
    _PROTECTED.set(before | {identity for path in paths if (identity := _identity(path))})
    try:
        yield
    finally:
        _PROTECTED.set(before)


def check_output(path: str | Path, kind: Kind) -> None:
    """Raise InputError where `open_output` would refuse to write a file of this kind under this name."""
    # Work folders are alit's own, so that nothing in them can be the user's.
    if kind == "working file":
        return
    path = os.fspath(path)
    name, suffix = readable(path), os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES[kind]:
        endings = " or ".join(filter(None, SUFFIXES[kind]))
        raise InputError(
            f"'{name}' has the wrong ending: {_article(kind)} is written as {endings}; choose another --out."
        )
    if os.path.isdir(path):
        raise InputError(f"'{name}' cannot be written (it is a folder); name a file with --out.")
    if _identity(path) in _PROTECTED.get():
        raise InputError(f"'{name}' is read by this command and is not replaced; choose another --out.")
    # lexists, because a link to nothing would be replaced as well.
    if os.path.lexists(path) and (existing := kind_of_file(path)) != kind:
        raise InputError(
            f"'{name}' is {_article(existing)}, not {_article(kind)}, and is not replaced; choose another --out."
            if existing
            else f"'{name}' carries no mark of alit, so it may be yours and is not replaced; move it away or choose "
            "another --out."
        )


def check_output_folder(path: str | Path) -> None:
    """Raise InputError where pictures cannot be written into this folder: it is a file, or this command reads it."""
    name = readable(os.fspath(path))
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(f"'{name}' is a file; name a folder with --out.")
    if not os.path.exists(path) and os.path.splitext(path)[1].lower() in _FILE_SUFFIXES:
        raise InputError(f"'{name}' looks like a file, but a folder is written; choose another --out.")
    if _identity(path) in _PROTECTED.get():
        raise InputError(f"'{name}' is a folder that this command reads its images from; choose another --out.")


_FILE_SUFFIXES = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes if suffix}


def _article(kind: str) -> str:
    """A kind in a sentence."""
    # 'attention maps' takes no article.
    return kind if kind.endswith("s") else f"an {kind}" if kind[0] in "ae" else f"a {kind}"


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Device and inode of what a path leads to; None where it leads nowhere."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):  # a name with a NUL is a ValueError
        return None
    return about.st_dev, about.st_ino


@contextlib.contextmanager
def open_output(path: str | Path, kind: Kind, tidy: bool = False) -> Iterator[BinaryIO]:
    """A binary file that takes its name `path` only when the block ends well; missing folders are made.

    Until then it has a temporary name beside it, ending in `.tmp`, which is removed when the block fails. On
    return the bytes are on disk, but for pictures, which come by the thousand and can be made again.

    Args:
        kind: what is written; only a file of the same kind that alit wrote is replaced. What is written must carry
            the mark of its format; a csv or jsonl file is listed in its folder's manifest.
        tidy: first remove the temporary files of this path that killed processes have left; it lists the folder.

    Raises:
        InputError: the file in the way is not to be replaced, the name has another format's ending, or nothing may be
            written here.
        AlitError: the disk is full.
    """
    check_output(path, kind)
    path = os.fspath(path)
    if tidy:
        _remove_orphans(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{_stem(name)}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with named_write_errors(path):
        os.makedirs(folder or ".", exist_ok=True)
        try:
            # x refuses a file that is there already; + lets a mark be added to what was written.
            with open(temporary, "x+b") as file:
                _lock(file)  # it says that somebody is writing, for as long as somebody is
                yield file
                file.flush()
                if kind != "picture":
                    # Before the rename: a power cut must not leave the name with nothing behind it.
                    os.fsync(file.fileno())
            if kind != "working file" and name.lower().endswith(LISTED):
                with _folder_lock(folder):
                    # The manifest is written twice, so that a process killed around the rename leaves a file that is
                    # still known.
                    _list_in_manifest(folder, name, kind, temporary, replaced=False)
                    os.replace(temporary, path)
                    _list_in_manifest(folder, name, kind, path, replaced=True)
            else:
                os.replace(temporary, path)
            if kind != "picture":
                _sync_folder(folder)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _list_in_manifest(folder: str, name: str, kind: Kind, content: str, replaced: bool) -> None:
    """Write the folder's manifest with one more file; see `marks.listed`."""
    files = listed(read_manifest(folder), name, kind, content, replaced, _COMPUTED_FROM.get())
    about = {"about": "csv and jsonl files that alit wrote here; it replaces no others", "files": files}
    with open_output(os.path.join(folder, MANIFEST), "working file", tidy=True) as file:
        file.write(json.dumps(about, indent=1).encode())


@contextlib.contextmanager
def _folder_lock(folder: str) -> Iterator[None]:
    """Hold a lock on a folder, so that two processes do not lose each other's entries of its manifest."""
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
    except OSError:  # a system whose folders cannot be opened
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a system without locks
            lock_descriptor(descriptor)
        yield
    finally:
        os.close(descriptor)


def _stem(name: str) -> str:
    """The beginning of a temporary file's name; a long name is cut, since 24 bytes are added to it."""
    return os.fsdecode(os.fsencode(name)[: LONGEST_NAME - 32])


@contextlib.contextmanager
def claimed(path: str | Path) -> Iterator[bool]:
    """Whether this process has the file `path`, which exists, to itself among those that claim it, for this block.

    A process that ends loses its claim, however it ends. Where the system knows no locks, everybody has it. Raises
    FileNotFoundError.
    """
    with open(path, "r+b") as file:
        yield _lock(file) is not False


def _lock(file: BinaryIO) -> bool | None:
    """Lock an open file until it is closed. False: another process has the lock; None: the system knows no locks."""
    try:
        # Of an open file, not of a path: a lock file beside every output would have to be removed by somebody.
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        return None


TEMPORARY = r"\.\d+-[0-9a-f]{8}\.tmp"
"""How the name of a temporary file ends: the process that writes it, and a random number."""


def _remove_orphans(path: str) -> None:
    """Remove the temporary files of `path` that killed processes have left."""
    folder, name = os.path.split(path)
    _remove_unlocked(folder, re.compile(re.escape(_stem(name)) + TEMPORARY))


def remove_orphans_below(folder: str | Path, min_age: float = ORPHAN_SECONDS) -> None:
    """Remove the temporary files of any name that killed processes have left in a folder and in those below it.

    A `min_age` of 0 seconds is for a process that has the folder to itself, so that no file there can be in use.
    """
    for inner, _, _ in os.walk(folder):
        _remove_unlocked(inner, re.compile(".*" + TEMPORARY, re.DOTALL), min_age)


def _remove_unlocked(folder: str, pattern: re.Pattern[str], min_age: float = ORPHAN_SECONDS) -> None:
    """Remove files that nobody has locked, and that are not so new that the lock may yet come."""
    with contextlib.suppress(OSError):
        for name in filter(pattern.fullmatch, os.listdir(folder or ".")):
            orphan = os.path.join(folder, name)
            # Open for writing, since some network file systems lock nothing else.
            with contextlib.suppress(OSError), open(orphan, "r+b") as file:
                if time.time() - os.path.getmtime(orphan) >= min_age and _lock(file):
                    os.unlink(orphan)


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, where they are missing. Raises as `open_output`."""
    with named_write_errors(path):
        os.makedirs(os.fspath(path) or ".", exist_ok=True)


@contextlib.contextmanager
def named_write_errors(path: str | Path) -> Iterator[None]:
    """Turn an OSError of the block into one sentence about `path`."""
    try:
        yield
    except OSError as problem:
        name = readable(os.fspath(path))
        if problem.errno in FULL:
            raise AlitError(
                f"The disk is full: '{name}' could not be written; make space and run the same command again."
            ) from problem
        reason = problem.strerror or str(problem)
        if problem.errno in NOT_ALLOWED:
            raise InputError(f"'{name}' cannot be written ({reason}); choose another --out.") from problem
        raise AlitError(f"'{name}' could not be written ({reason}).") from problem


def _sync_folder(path: str) -> None:
    """Make a rename in this folder outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def readable(path: str) -> str:
    """A path as text that every file and terminal can hold: bytes that are not UTF-8 become `\\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def natural(name: str) -> tuple[list[str | int], str]:
    """A sorting key: runs of digits count as numbers; the name itself decides between 1 and 01."""
    parts = re.split("([0-9]+)", name)
    # re.split puts what the group matched, the digits, at the odd places.
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
