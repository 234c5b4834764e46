"""Where the images of a token table lie now, so that they can be read again."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alit_cli.data.annotations.matching import match
from alit_cli.data.pictures.views import split_view
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items, prefix_of
from alit_cli.data.sources.remote import is_url
from alit_cli.data.tables.parquet import open_columns
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError

ARCHIVES = (".tar", ".parquet")
LISTS = ("@", "-")


def find_originals(table: str | Path, roots: Sequence[str] = ()) -> list[Item]:
    """The image of every row of a token table, in its order.

    Without `roots` an image is looked for where it came from: below the folder, or inside the tar or the Parquet file,
    that the table's `source` names, relative to where we are, else to the table's folder or the one above it (where a
    table lies that was written to `study/`). A `source` behind a URL is not opened, as somebody else
    may have made the table: the user names it among the roots. With them, the roots are listed as `alit tokenize` would
    and the names are joined by the whole path, then by the longest ending that fits one image only. An image that is
    not there is an Item all the same, of a file that does not exist: reading it says so. Views are those of the image.

    Raises:
        InputError: no such table, root, tar or Parquet file, or none of the images is there.
    """
    rows = open_columns(table, ["image", "source"])
    images, sources = rows["image"].to_pylist(), [source or "" for source in rows["source"].to_pylist()]
    # Only a table with views has '#' and a view's name in its keys; elsewhere that is part of a file's name.
    split = split_view if read_info(table).options.views is not None else lambda image: (image, "")
    places = [(*split(image), source) for image, source in zip(images, sources, strict=True)]
    # The views of an image share one file, which is looked for once.
    plain = list(dict.fromkeys((image, source) for image, _, source in places))
    names, roots_of = [image for image, _ in plain], [source for _, source in plain]
    there = dict(
        zip(plain, _moved(names, roots_of, roots) if roots else _in_place(names, roots_of, table), strict=True)
    )
    items = [
        replace(there[image, source], image=key, view=view)
        for key, (image, view, source) in zip(images, places, strict=True)
    ]
    # Some missing images are rows that say so, but where not a single one is there, the whole place is wrong.
    if not any(is_url(item.path) or os.path.exists(item.path) for item in items):
        if away := next((source for source in sources if is_url(source)), None):
            raise InputError(
                f"The images of '{table}' came from {away}, and an address that a table names is not opened by itself; "
                f"name it with --images {away}."
            )
        raise InputError(
            f"None of the images of '{table}' is where it was (such as '{items[0].path}' of the source "
            f"'{sources[0]}'): go to the folder that they were tokenized from, or name where they are with --images."
            if items
            else f"'{table}' has no rows."
        )
    return items


def _moved(images: list[str], sources: list[str], roots: Sequence[str]) -> list[Item]:
    """The images by name among those of the roots."""
    items, names = list_items(list(roots)), list(dict.fromkeys(images))
    pairs = match(names, [item.image for item in items], "images of the token table")
    places = {names[name]: items[key] for name, key in zip(pairs.names, pairs.keys, strict=True)}
    return [
        dataclasses.replace(places[image], image=image, source=source)
        if image in places
        else Item(image, source, _nowhere(image, roots))
        for image, source in zip(images, sources, strict=True)
    ]


def _in_place(images: list[str], sources: list[str], table: str | Path) -> list[Item]:
    """The images where the table says that they came from."""
    inside: dict[str, dict[str, Item]] = {}
    places = {source: _found_again(source, Path(table)) for source in dict.fromkeys(sources)}
    items = []
    for image, source in zip(images, sources, strict=True):
        if is_url(source):
            items.append(Item(image, source, _nowhere(image, [source])))
        elif source.lower().endswith(ARCHIVES):
            if source not in inside:
                # A tar is listed once, not once for each of its images.
                inside[source] = {item.image: item for item in list_items([places[source]])}
            there = inside[source].get(image) or inside[source].get(_without_prefix(image, source))
            items.append(replace(there, image=image) if there else Item(image, source, _nowhere(image, [source])))
        elif source.startswith(LISTS) and not os.path.isdir(source):
            items.append(Item(image, source, _listed(image)))
        else:
            path = _path(os.path.join(places[source], image))
            if not os.path.exists(path) and (inner := _without_prefix(image, source)):
                path = _path(os.path.join(places[source], inner))
            items.append(Item(image, source, path))
    return items


def _found_again(source: str, table: Path) -> str:
    """A source as it was typed, or where it is seen from the table if we are in another folder now."""
    if is_url(source) or source.startswith(LISTS) or os.path.exists(source):
        return source
    folder = table.absolute().parent
    places = (os.path.join(above, source) for above in (folder, folder.parent))
    return next((place for place in places if os.path.exists(place)), source)


def _without_prefix(image: str, source: str) -> str:
    """A key without the name of its input, which it begins with where inputs had images of one name; '' otherwise."""
    prefix = f"/{prefix_of(source)}/"
    parts = image.split("/")
    # From the longest beginning down, as a short one may also fit by chance.
    for count in range(len(parts) - 1, 0, -1):
        if prefix.endswith(f"/{'/'.join(parts[:count])}/"):
            return "/".join(parts[count:])
    return ""


def _listed(image: str) -> str:
    """A file that a list named: relative to where we are, else from the root."""
    here, above = _path(image), _path(f"/{image}")
    return above if not os.path.exists(here) and os.path.exists(above) else here


def _path(name: str) -> str:
    """The absolute path of a readable name; `\\xNN` in it is a byte that is not UTF-8, unless such a file exists."""
    path = os.path.abspath(name.replace("\0", "\\x00"))  # no file's name holds a NUL
    if "\\x" not in path or os.path.exists(path):
        return path
    # Python stands for a byte 0x80–0xff of such a name by a character from 0xDC80 on; os.fsencode turns it back.
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), path)


def _nowhere(image: str, roots: Sequence[str]) -> str:
    """A path that does not exist, for an image that none of the roots holds."""
    # abspath makes one slash of two, so that what began as a URL is none any more.
    return os.path.join(os.path.abspath(roots[0]), image.replace("\0", "\\x00"))
