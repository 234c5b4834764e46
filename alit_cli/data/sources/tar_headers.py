"""The headers of a tar, read so that one that lies or is damaged can cost neither memory nor an endless loop."""

import tarfile
from typing import BinaryIO, cast

from alit_cli.data.sources.remote import open_file
from alit_cli.errors import ImageProblem

MAX_HEADER = 2**24
"""Bytes that tarfile may read at once: a damaged header can claim that a name is as long as the tar."""
MAX_SPARSE = 2**28
"""Bytes of a sparse member with its holes filled: no image is that large, but a header can claim it in 512 bytes."""

MOST_BYTES = 2**62
"""No file is larger; offsets stay below what 64 bits hold."""
PIECE = 2**20
"""Bytes of a sparse member that are read at once; less than MAX_HEADER."""


class _BoundedReads:
    """A file that refuses to give many bytes at once, as only a damaged header makes tarfile ask for them."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on. Raises tarfile.ReadError for more than a header has."""
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._read(size)


def open_tar(file: BinaryIO) -> tarfile.TarFile:
    """An uncompressed tar, from where the file stands. Raises OSError, tarfile.TarError."""
    bounded = cast(BinaryIO, _BoundedReads(file))
    try:
        # Undecodable names must come out as the same bytes wherever this runs, not as the locale has it.
        return tarfile.open(fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape")
    except (tarfile.TarError, OSError):
        raise
    except Exception as problem:  # the first header is read here; see next_member
        raise tarfile.ReadError(str(problem) or type(problem).__name__) from problem


def next_member(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member; None at the end and where the tar breaks off in its middle, or its headers lie.

    `archive.offset` is then where it ends, or the header that cannot be used. Raises tarfile.ReadError where the very
    first one cannot: then it is no tar.
    """
    first = archive.firstmember is not None  # type: ignore[attr-defined]  # tarfile has read it when it was opened
    before = 0 if first else archive.offset
    try:
        member = archive.next()
    except Exception as problem:  # of damaged headers: ValueError, IndexError, RecursionError …
        if before == 0:
            raise tarfile.ReadError(str(problem) or type(problem).__name__) from problem
        archive.offset = before
        return None
    archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
    if member is not None and (not 0 <= member.size < MOST_BYTES or archive.offset <= before):
        archive.offset = before  # a negative size leads back to where we have been, without end
        return None
    return member


def read_sparse(path: str, offset: int) -> bytes:
    """The content of a sparse member whose headers begin at `offset`. Raises OSError, ImageProblem."""
    try:
        with open_file(path) as file:
            file.seek(offset)
            with open_tar(file) as archive:
                member = next_member(archive)
                if member is not None and member.size > MAX_SPARSE:
                    raise ImageProblem("too_large", f"The sparse file has {member.size:,} bytes; it is not read.")
                content = None if member is None else archive.extractfile(member)
                if content is not None:
                    return b"".join(iter(lambda: content.read(PIECE), b""))
    except (tarfile.TarError, ValueError, OverflowError) as problem:
        raise ImageProblem("truncated", "The tar is damaged where it lists the parts of this file.") from problem
    raise ImageProblem("truncated", "The tar is damaged where it lists the parts of this file.")
