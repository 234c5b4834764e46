"""Lists of images with something about each, as a csv, tsv, xlsx or parquet file; columns found by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from alit_cli.errors import InputError

IMAGE_NAMES = (
    "image",
    "images",
    "imagepath",
    "imagefile",
    "imagename",
    "file",
    "filename",
    "filepath",
    "path",
    "img",
    "name",
)
"""What the column of image names is called, the likeliest first."""
LABEL_NAMES = ("label", "labels", "class", "classname", "classid", "category", "target", "wnid", "synset", "y")
"""The same of class labels."""


def read_frame(path: Path, what: str = "scores") -> pd.DataFrame:
    """The file's table, its text columns as written: a name like 007 stays one.

    `what` is what an error calls its content. Raises InputError where it cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".xlsx":
            frame = pd.read_excel(path, dtype=str)
        elif suffix in (".parquet", ".pq"):
            frame = pd.read_parquet(path)
        elif suffix in (".csv", ".tsv", ".txt"):
            frame = _read_text(path)
        else:
            raise InputError(f"{path} is not a csv, tsv, parquet or xlsx file (it is known by its suffix).")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path} with the {what}.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; name the csv, tsv, parquet or xlsx file with the {what}.") from error
    except InputError:
        raise
    except Exception as error:  # each reader has its own family of errors
        raise InputError(f"{path} cannot be read as {suffix[1:]}: {str(error).splitlines()[0].rstrip('.')}.") from error
    frame.columns = frame.columns.map(str)
    return frame.reset_index(drop=True)


def _read_text(path: Path) -> pd.DataFrame:
    """A csv or tsv file; the separator that its first line uses most."""
    # Excel writes a byte order mark, which would become part of the first column's name.
    text = path.read_text(encoding="utf-8-sig")
    header = text.split("\n", 1)[0]
    # Of equal counts max takes the first, so that a file of one column is read with commas.
    return pd.read_csv(StringIO(text), sep=max(",;\t", key=header.count), dtype=str, skipinitialspace=True)


def find_column(
    frame: pd.DataFrame,
    given: str | None,
    names: Sequence[str],
    what: str,
    option: str,
    path: Path,
    taken: Sequence[str] = (),
) -> str:
    """The column called `given`, else the first that goes by one of `names`, without case, spaces and signs.

    Raises InputError, which says `what` was looked for and which `option` names the column.
    """
    columns = [str(column) for column in frame.columns]
    if given is not None:
        if given in columns:
            return given
        raise InputError(f"{path} has no column '{given}'; it has {', '.join(columns)}.")
    # Reversed, because the last entry of a dict wins and the first column should.
    plain = {re.sub(r"[\W_]", "", column).lower(): column for column in reversed(columns) if column not in taken}
    for name in names:
        if name in plain:
            return plain[name]
    raise InputError(
        f"No column of {path} is known to hold {what} (it has {', '.join(columns)}); name it with {option}."
    )
