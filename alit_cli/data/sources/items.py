"""What an item is: the name of one image, and where its bytes lie."""

import os
import stat
from dataclasses import dataclass

from alit_cli.data.sources import remote
from alit_cli.data.sources.parquet_rows import RowReader
from alit_cli.data.sources.tar_headers import read_sparse
from alit_cli.errors import ImageProblem

PHOTOGRAPHS = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2"
FOREIGN = ".heic .heif .jxl"
"""Not read, yet listed: a photograph that cannot be read is a row of the table, never a silent gap."""
SUFFIXES = frozenset(f"{PHOTOGRAPHS} {FOREIGN}".split())
"""What counts as an image inside a folder, a glob or a tar."""
MAX_BYTES = 2**31
"""A file longer than this is not read into memory."""
TO_THE_END, LOST, SPARSE, DANGLING = -1, -2, -3, -4
"""Sizes of an item that say something else than bytes.

LOST is where a damaged tar breaks off, SPARSE a tar's member with holes, whose headers lie at the item's offset, and
DANGLING a link in a tar to a file that is not in it.
"""
# One reader per process holds the row groups. It is no part of an item, as items go from process to process.
_ROWS = RowReader()


# With slots an item takes less memory; there may be millions of them.
@dataclass(frozen=True, slots=True)
class Item:
    """One image that waits to be read.

    `image` is the join key: the '/'-separated path below the input root, the name of a tar member, or the
    name of a single file. Bytes of a name that are not UTF-8 stand there as `\\xNN`. `source` is the root or
    the tar as given, `path` the file (absolute, or a URL) that holds the bytes: `size` of them from `offset` on;
    negative sizes are named above. With a `row`, the file is Parquet and the bytes are that row's. `view` is
    how the image is looked at, a name of data/views.py; empty for the plain view.
    """

    image: str
    source: str
    path: str
    offset: int = 0
    size: int = TO_THE_END
    row: int = -1
    view: str = ""

    def read(self) -> bytes:
        """The encoded bytes. Raises OSError, and ImageProblem (`too_large`, `truncated`)."""
        if self.row >= 0:
            return _ROWS.read(self.path, self.row)
        if self.size == LOST:
            raise ImageProblem("truncated", f"The tar breaks off at byte {self.offset:,}; what came after it is lost.")
        if self.size == DANGLING:
            raise ImageProblem("unreadable", "It is a link to a file that the tar does not hold.")
        if self.size == SPARSE:
            return read_sparse(self.path, self.offset)
        data = self._from_url() if remote.is_url(self.path) else self._from_file()
        if len(data) < self.size:
            raise ImageProblem(
                "truncated",
                "The bytes end early: the file is shorter than it was when it was listed, or a tar breaks off.",
            )
        return data

    def _from_file(self) -> bytes:
        with open(self.path, "rb", opener=_open_without_waiting) as file:
            # The open file is asked, not its path, which may lead to another file by now.
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ImageProblem("unreadable", "This is no regular file, but a pipe, a device or the like.")
            size = about.st_size - self.offset if self.size < 0 else self.size
            self._check(size)
            file.seek(self.offset)
            return file.read(max(size, 0))  # a file that grows meanwhile is read up to the size that was checked

    def _from_url(self) -> bytes:
        if self.size < 0:
            self._check(remote.size(self.path))
            return remote.read(self.path)
        self._check(self.size)
        # A range of no bytes cannot be asked for: some servers refuse it, others send everything.
        return remote.read(self.path, self.offset, self.offset + self.size) if self.size else b""

    def _check(self, size: int) -> None:
        if size > MAX_BYTES:
            raise ImageProblem("too_large", f"The file has {size:,} bytes; at most {MAX_BYTES:,} are read.")


@dataclass(frozen=True, slots=True)
class ListedItem:
    """An item as a listing gives it.

    Attributes:
        item: the image.
        look: size in bytes and time of change (ns since 1970; -1 unknown) of its file; None where nobody looked.
        kept: the values kept of it, in the order of the names asked for, as JSON; None where it has none.
    """

    item: Item
    look: tuple[int, int] | None = None
    kept: tuple[str | None, ...] = ()


def _open_without_waiting(path: str, flags: int) -> int:
    """An opener that does not wait for a writer where the path turns out to be a FIFO."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES
