"""The images of a plain tar, here or behind a URL, with the sidecars that WebDataset puts beside them."""

import json
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from alit_cli.data.files import readable
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import LOST, is_image
from alit_cli.data.sources.remote import open_file
from alit_cli.errors import InputError

COMPRESSED = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
ALIASES = {"label": "cls", "caption": "txt"}
"""A name to keep that a tar may hold as a member of its own under another suffix."""
MAX_SIDECAR = 2**20


@dataclass(frozen=True, slots=True)
class Member:
    """An image inside a tar: its cleaned name, its bytes (LOST: where the tar breaks off), and what is kept of it."""

    name: str
    offset: int
    size: int
    kept: tuple[str | None, ...]


def members(path: str, keeper: ExtraColumns, real: str | None = None) -> Iterator[Member]:
    """The images of a tar in its own order; where it breaks off, a member of size LOST says so.

    It is read at `real`, where that is another place than `path`.

    Sidecars may lie anywhere in the tar: `KEY.json` with the name as a field, or `KEY.NAME` (`.cls` for label, `.txt`
    for caption). KEY is the image's name without its last suffix, or up to the first dot of its last part, as
    WebDataset has it (`a.b.jpg` belongs to `a`).

    Raises:
        InputError: it cannot be read, or is no uncompressed tar.
    """
    try:
        with open_file(real or path) as file:
            if not keeper.names:
                yield from (Member(readable(name), offset, size, ()) for name, offset, size in _scan(file, path, None))
                return
            sidecars: dict[str, bytes] = {}
            found = list(_scan(file, path, sidecars))  # the whole tar first: its order means nothing
        for name, offset, size in found:
            kept = tuple(keeper.write(wanted, _value(wanted, name, sidecars)) for wanted in keeper.names)
            yield Member(readable(name), offset, size, kept)
    except (tarfile.TarError, OSError) as problem:
        raise InputError(f"'{readable(path)}' is not a whole, uncompressed tar: {problem}.") from problem


def _scan(file: BinaryIO, path: str, sidecars: dict[str, bytes] | None) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every image; contents of small other files go into `sidecars` by name."""
    end, last = file.seek(0, os.SEEK_END), 0
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := _next(archive)) is not None:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            name = posixpath.normpath("/" + member.name).lstrip("/")  # no way out of the root by `..`
            if not member.isreg() or any(part.startswith(".") for part in name.split("/")):
                continue
            if is_image(name):
                last = member.offset_data + member.size
                yield name, member.offset_data, member.size
            elif sidecars is not None and member.size <= MAX_SIDECAR:
                file.seek(member.offset_data)
                sidecars[name] = file.read(member.size)
        offset = archive.offset
    if last <= end and not _ends_well(file, offset, end):  # a member that is cut off says so itself
        yield f"{posixpath.basename(path)}@{offset}", offset, LOST


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member; None at the end and where the tar breaks off in its middle."""
    try:
        return archive.next()
    except tarfile.ReadError:
        if archive.offset == 0:
            raise
        return None


def _ends_well(file: BinaryIO, offset: int, end: int) -> bool:
    """Whether only padding follows the last member: tarfile stops silently at a header it cannot read."""
    file.seek(min(offset, end))
    return offset <= end + tarfile.BLOCKSIZE and not file.read(tarfile.BLOCKSIZE).strip(b"\0")


def _value(wanted: str, image: str, sidecars: dict[str, bytes]) -> object:
    """What the sidecars of an image say under a name; None where they do not, or cannot be read."""
    folder, slash, base = image.rpartition("/")
    for key in (os.path.splitext(image)[0], f"{folder}{slash}{base.partition('.')[0]}"):
        fields = _json(sidecars.get(f"{key}.json"))
        if wanted in fields:
            return fields[wanted]
        for suffix in (wanted, ALIASES.get(wanted)):
            text = sidecars.get(f"{key}.{suffix}")
            if text is not None:
                return _text(text)
    return None


def _json(content: bytes | None) -> dict[str, object]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(content: bytes) -> object:
    text = content.decode("utf-8", "replace").strip()
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 19 else text
