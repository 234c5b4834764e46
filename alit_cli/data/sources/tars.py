"""The images of a plain tar, here or behind a URL, with the sidecars that WebDataset puts beside them."""

import json
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from alit_cli.data.files import readable
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import DANGLING, LOST, SPARSE, is_image
from alit_cli.data.sources.remote import open_file
from alit_cli.data.sources.tar_headers import next_member, open_tar
from alit_cli.errors import InputError

# An item is an offset in the file, and in a compressed tar none can be reached without all that comes before it.
COMPRESSED = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
ALIASES = {"label": "cls", "caption": "txt"}
"""A name to keep that a tar may hold as a member of its own under another suffix."""
# Sidecars of a whole tar are held in memory; no label or caption is longer than this.
MAX_SIDECAR = 2**20
MOST_LINKS = 8
"""Links that lead to one another are followed so far, as a loop of them has no end."""


@dataclass(frozen=True, slots=True)
class Member:
    """An image inside a tar: its cleaned name, its bytes as an Item has them, and what is kept of it."""

    name: str
    offset: int
    size: int
    kept: tuple[str | None, ...]


@dataclass
class _Contents:
    """What a tar holds beside its images.

    Attributes:
        sidecars: contents of small other files by name; None where nobody asks for them.
        targets: where each file lies, and what each link names; None until the first link is met.
    """

    sidecars: dict[str, bytes] | None
    targets: dict[str, tuple[int, int] | str] | None = field(default=None)


def members(path: str, keeper: ExtraColumns, real: str | None = None) -> Iterator[Member]:
    """The images of a tar in its own order; where it breaks off, a member of size LOST says so.

    It is read at `real`, where that is another place than `path`. A link is the file that it names inside the tar.

    Sidecars may lie anywhere in the tar: `KEY.json` with the name as a field, or `KEY.NAME` (`.cls` for label, `.txt`
    for caption). KEY is the image's name without its last suffix, or up to the first dot of its last part, as
    WebDataset has it (`a.b.jpg` belongs to `a`).

    Raises:
        InputError: it cannot be read, or is no uncompressed tar.
    """
    try:
        with open_file(real or path) as file:
            if not keeper.names:
                contents = _Contents(None)
                members = _scan(file, path, contents)
                yield from (Member(readable(name), offset, size, ()) for name, offset, size in members)
                return
            contents = _Contents({})
            images = list(_scan(file, path, contents))  # the whole tar first: its order means nothing
        for name, offset, size in images:
            kept = tuple(keeper.write(column, _value(column, name, contents.sidecars or {})) for column in keeper.names)
            yield Member(readable(name), offset, size, kept)
    except (tarfile.TarError, OSError) as problem:
        raise InputError(f"'{readable(path)}' is not a whole, uncompressed tar: {problem}.") from problem


def _scan(file: BinaryIO, path: str, contents: _Contents) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every image, as an Item has them; small other files go into `contents`."""
    end, last = file.seek(0, os.SEEK_END), 0
    file.seek(0)
    with open_tar(file) as archive:
        while (member := next_member(archive)) is not None:
            name = _cleaned(member)
            # As in folders. Tars made on a Mac hold a file '._NAME' beside every file, which ends like an image.
            if any(part.startswith(".") for part in name.split("/")):
                continue
            if member.islnk() or member.issym():
                if is_image(name):
                    yield (name, *_target(file, contents, name))
            elif not member.isreg():
                continue
            elif is_image(name):
                place = _place(member)
                last = max(last, member.offset_data + (member.size if place[1] >= 0 else 0))
                yield (name, *place)
            elif contents.sidecars is not None and member.size <= MAX_SIDECAR and not member.issparse():
                file.seek(member.offset_data)
                contents.sidecars[name] = file.read(member.size)
        offset = archive.offset
    if last <= end and not _ends_well(file, offset, end):  # a member that is cut off says so itself
        yield f"{posixpath.basename(path)}@{offset}", offset, LOST


def _cleaned(member: tarfile.TarInfo) -> str:
    """A member's name inside the root; where tarfile overlooks it, that of a sparse file in the PAX format."""
    return _inside_root(member.pax_headers.get("GNU.sparse.name", member.name))


def _inside_root(name: str) -> str:
    """A name without a way out of the root by `..`."""
    return posixpath.normpath("/" + name).lstrip("/")


def _place(member: tarfile.TarInfo) -> tuple[int, int]:
    """Offset and size of a regular member; a sparse one is named by its headers, which say where its parts lie."""
    return (member.offset, SPARSE) if member.issparse() else (member.offset_data, member.size)


def _target(file: BinaryIO, contents: _Contents, link: str) -> tuple[int, int]:
    """Offset and size of the file that a link names, over any number of links; size DANGLING where there is none."""
    if contents.targets is None:
        # Only a tar with links is read twice: a symbolic link may name a file that comes later.
        file.seek(0)
        contents.targets = {}
        with open_tar(file) as archive:
            while (member := next_member(archive)) is not None:
                name = _cleaned(member)
                if member.isreg():
                    contents.targets[name] = _place(member)
                elif member.islnk():
                    contents.targets[name] = _inside_root(member.linkname)
                elif member.issym():
                    contents.targets[name] = _inside_root(posixpath.join("/", posixpath.dirname(name), member.linkname))
    target: tuple[int, int] | str | None = link
    for _ in range(MOST_LINKS):
        if not isinstance(target, str):
            break
        target = contents.targets.get(target)
    return target if isinstance(target, tuple) else (0, DANGLING)


def _ends_well(file: BinaryIO, offset: int, end: int) -> bool:
    """Whether only padding follows the last member: tarfile stops silently at a header it cannot read."""
    file.seek(min(offset, end))
    return offset <= end + tarfile.BLOCKSIZE and not file.read(tarfile.BLOCKSIZE).strip(b"\0")


def _value(column: str, image: str, sidecars: dict[str, bytes]) -> object:
    """What the sidecars of an image say under a name; None where they do not, or cannot be read."""
    folder, slash, base = image.rpartition("/")
    # The plain rule comes first; that of WebDataset matters only for names with several dots.
    for key in (os.path.splitext(image)[0], f"{folder}{slash}{base.partition('.')[0]}"):
        fields = _json(sidecars.get(f"{key}.json"))
        if column in fields:
            return fields[column]
        for suffix in (column, ALIASES.get(column)):
            text = sidecars.get(f"{key}.{suffix}")
            if text is not None:
                return _text(text)
    return None


def _json(content: bytes | None) -> dict[str, object]:
    try:
        fields = json.loads(content or b"{}")
    except (ValueError, RecursionError):  # not JSON, or nested deeper than Python follows
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(content: bytes) -> object:
    text = content.decode("utf-8", "replace").strip()
    # A number of 19 digits may not fit into 64 bits.
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 19 else text
