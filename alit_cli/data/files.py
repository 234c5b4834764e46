"""Files that appear whole or not at all, and write errors said in one sentence."""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

from alit_cli.errors import AlitError, InputError

ORPHAN_SECONDS = 1.0
FULL = {errno.ENOSPC, errno.EDQUOT}
NOT_ALLOWED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


@contextlib.contextmanager
def atomic_file(path: str | Path, tidy: bool = False) -> Iterator[BinaryIO]:
    """A binary file that takes its name `path` only when the block ends well; missing folders are made.

    Until then it has a temporary name beside it, ending in `.tmp`, which is removed when the block fails. On
    return the bytes are on disk. Raises AlitError for a full disk, InputError where nothing may be written.

    Args:
        tidy: first remove the temporary files of this path that killed processes have left; it lists the folder.
    """
    path = os.fspath(path)
    if tidy:
        _remove_orphans(path)
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    with named_write_errors(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                _lock(file)  # it says that somebody is writing, for as long as somebody is
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(os.path.dirname(path))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


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


def _remove_orphans(path: str) -> None:
    """Remove temporary files of `path` that nobody has locked, and that are not so new that the lock may yet come."""
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.\d+-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        for found in filter(pattern.fullmatch, os.listdir(folder or ".")):
            orphan = os.path.join(folder, found)
            with contextlib.suppress(OSError), open(orphan, "r+b") as file:
                if time.time() - os.path.getmtime(orphan) > ORPHAN_SECONDS and _lock(file):
                    os.unlink(orphan)


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, where they are missing. Raises as `atomic_file`."""
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
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
