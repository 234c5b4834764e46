"""Pictures that another codec made of the images of a token table: one file per image, matched by name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alit_cli.data.annotations.matching import match
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.parquet import open_columns
from alit_cli.data.tables.score_table import ORIGINAL
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError

# A name ends names of columns and of files, and '@' and operators have a meaning in criteria.
NAME = re.compile(r"(?!\d+$)[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Reconstructions:
    """What another codec made of images.

    Attributes:
        name: what it is called in the names of columns and tables.
        folder: where its pictures are, as given.
        items: image key → its picture; images without one are left out.
        digest: 16 hexadecimal digits of the pictures' names and sizes.
    """

    name: str
    folder: str
    items: Mapping[str, Item]
    digest: str


def codec_name(text: str) -> tuple[str, str]:
    """The name and the folder of `[NAME=]DIR`; without a name the folder's own, its suffix left out.

    Raises InputError for a name that cannot end the name of a column.
    """
    name, equals, folder = text.partition("=")
    # A path may hold '=' too, so that a folder that exists as written is taken whole.
    if not equals or os.path.exists(text):
        folder = text
        name = PurePosixPath(os.path.abspath(folder)).name.partition(".")[0]
    if not NAME.fullmatch(name) or name == ORIGINAL:
        raise InputError(
            f"'{name}' cannot name the reconstructions: write NAME={folder} with letters, digits, '-', '_' and '.', "
            f"and neither a number nor '{ORIGINAL}', which end other columns."
        )
    return name, folder


def find_reconstructions(text: str, table: str | Path) -> Reconstructions:
    """The pictures of `[NAME=]DIR` that belong to the images of a token table, whatever their suffixes.

    Raises InputError where the folder holds no picture of the table's, one could be of several images, or the table has
    several views of an image.
    """
    name, folder = codec_name(text)
    if read_info(table).options.views is not None:
        raise InputError("The token table has several views of each image, and --reconstructions one picture of each.")
    images = open_columns(table, ["image"])["image"].to_pylist()
    files = list_items([folder])
    pairs = match(
        [_stem(item.image) for item in files], [_stem(image) for image in images], "reconstructions", "token table"
    )
    if not len(pairs.names):
        raise InputError(
            f"None of the {len(files)} pictures in '{folder}' belongs to an image of the token table: they are named "
            f"like '{files[0].image}', the images like '{images[0]}'."
        )
    items = {images[key]: files[file] for file, key in zip(pairs.names, pairs.keys, strict=True)}
    sizes = sorted((image, item.image, _size(item)) for image, item in items.items())
    return Reconstructions(name, folder, items, hashlib.sha256(repr(sizes).encode()).hexdigest()[:16])


def _stem(image: str) -> str:
    return str(PurePosixPath(image).with_suffix(""))


def _size(item: Item) -> int:
    """Bytes of a picture; those of a whole file are asked for, since its item does not know them."""
    return item.size if item.size >= 0 or not os.path.exists(item.path) else os.path.getsize(item.path)
