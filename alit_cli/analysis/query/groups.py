"""Which group each image of a token table belongs to: a column, its folder, or a file of labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alit_cli.analysis.query.score_joins import positions_of_keys
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.studies.complexity_scores import GROUP_NAMES
from alit_cli.data.annotations.frames import IMAGE_NAMES, find_column, read_frame
from alit_cli.data.tables.parquet import open_columns
from alit_cli.errors import InputError

# Only these endings make `--by a:b` a file and its column; the name of a column may itself hold a colon.
FILES = (".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".pq")


@dataclass(frozen=True)
class Groups:
    """The groups of n images.

    Attributes:
        name: what they are called as a column.
        names: of the groups, ascending.
        codes: the number of each image's group, int32 n; -1 where it has none.
    """

    name: str
    names: tuple[str, ...]
    codes: NDArray[np.int32]


def group_images(tables: Tables, by: str) -> Groups:
    """The groups that `--by` names: a column of the tables, `folder`, or a file of labels (`FILE` or `FILE:COLUMN`).

    Rows of the file are joined as scores are; remarks on what did not match are added to the tables'. Raises
    InputError where there is no such column or file.
    """
    path, _, column = by.rpartition(":") if ":" in by else (by, "", "")
    if Path(path).suffix.lower() in FILES:
        return _from_file(tables, Path(path), column or None)
    # A real column called `folder` comes first, because it could not be reached in any other way.
    if by == "folder" and not tables.has(by):
        images = open_columns(tables.path, ["image"])["image"].cast(pa.string())
        folders = pc.replace_substring_regex(images, r"/?[^/]*$", "")
        # Images at the top have no folder; the dot is what a shell calls that place.
        return _encode("folder", pc.if_else(pc.equal(folders, ""), ".", folders))
    present = tables.image_columns()
    # A column of several tables is present although `has` denies it: `find` says how to tell them apart.
    if not tables.has(by) and by not in present:
        columns = ", ".join(present) or "none"
        raise InputError(
            f"There is nothing called '{by}' to group by: give folder, a file of labels (FILE or FILE:COLUMN), or a "
            f"column with one value per image; there is: {columns}."
        )
    if tables.find(by).per_budget:
        raise InputError(f"'{by}' has a value for every budget; group by a column with one per image, or by folder.")
    chunks = [pa.array(chunk.columns[by], from_pandas=True).cast(pa.string()) for chunk in tables.stream([by])]
    return _encode(by, pa.chunked_array(chunks, pa.string()))


def _from_file(tables: Tables, path: Path, column: str | None) -> Groups:
    frame = read_frame(path, "groups")
    image = find_column(frame, None, IMAGE_NAMES, "image names", "a column 'image'", path)
    group = find_column(frame, column, (*GROUP_NAMES, "label"), "groups", f"--by {path}:COLUMN", path, taken=(image,))
    names = pa.chunked_array([pa.array(frame[image].astype(str))])
    positions, remarks = positions_of_keys(str(path), names, open_columns(tables.path, ["image"])["image"])
    tables.remarks += remarks
    labels = pa.array(frame[group].astype("string"), pa.string(), from_pandas=True)
    # An image without a row in the file takes null here, and `_encode` turns null into the group -1.
    return _encode(group, pa.chunked_array([labels.take(pa.array(positions, mask=positions < 0))]))


def _encode(name: str, labels: pa.ChunkedArray) -> Groups:
    encoded = pc.dictionary_encode(labels.combine_chunks())
    words = encoded.dictionary.to_pylist()
    # The dictionary is in order of appearance, but groups are numbered in the order of their names. The extra last
    # place is for null.
    ranks = np.empty(len(words) + 1, np.int32)
    ranks[np.argsort(np.asarray(words, dtype=np.str_), kind="stable")] = np.arange(len(words))
    ranks[-1] = -1
    # Null becomes the number behind the last word, which is the place that holds -1.
    codes = pc.fill_null(encoded.indices, len(words)).to_numpy()
    return Groups(name, tuple(sorted(words)), ranks[codes])
