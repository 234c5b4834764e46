"""Everything the tables know about some images, as columns that the page can filter, sort and colour by.

A token table and the score tables beside it hold four kinds of columns: a measure has a number at every budget, a
number has one per image, a group has a word per image, and a guess has a word at every budget (the class that a
network sees). They are read for a random part of a long table, so that a page stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alit_cli.analysis.query.measures import bare, measure_info
from alit_cli.analysis.query.tables import SAME_MEASURE, Tables
from alit_cli.data.tables.score_table import ORIGINAL

MOST_GROUPS = 300
"""Different words that still make a group; a column with more of them (a hash, a caption) is no use as one."""
BYTES_OF_NUMBERS = 2_500_000
"""What the columns may take in the page, before base64."""
# The most keep the page's charts quick, however few columns there are; the fewest still show how images spread, however
# many columns there are.
MOST_ROWS, FEWEST_ROWS = 20_000, 200
NOT_SHOWN = {"image", "status", "error", "model_id", "sha256", "label_source"}
"""Columns that say nothing about a picture."""
LABELS = {
    "width": "width (pixels)",
    "height": "height (pixels)",
    "jpeg_bytes": "JPEG size (bytes)",
    "png_bytes": "PNG size (bytes)",
    "edge_density": "edge density",
    "entropy": "entropy of grey values (bits)",
    "mad": "contrast (mean absolute deviation)",
    "n_tokens": "tokens until the run stopped",
    "thumbnail": "L1 of a thumbnail of as many bits",
    "thumb_l1": "L1 of a thumbnail of as many bits",
}
"""How the token table's own columns are called on the page."""

Kind = Literal["measure", "number", "group", "guess"]


@dataclass(frozen=True)
class Column:
    """One column of n images and T budgets.

    Attributes:
        key: the name that a criterion uses for it, such as `psnr`, `class_rank@resnet-18` or `folder`.
        kind: see this file's first lines.
        label: for people, with the unit.
        operator: how a threshold is compared where none is written, such as `<`.
        values: of a measure float32 n T, of a number float32 n, NaN where unknown; of a group int16 n and of a guess
            int16 n T: places in `words`, -1 where unknown.
        originals: the same of the original images, n; None where nobody has measured it.
        words: of groups and guesses.
    """

    key: str
    kind: Kind
    label: str
    operator: str
    values: NDArray[Any]
    originals: NDArray[Any] | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """All columns of n images of a token table, in its order.

    Attributes:
        rows: the images' row numbers in the token table, ascending, n.
        of: how many images have tokens; n of them were drawn, or all of them.
        images, sources: names and where they came from, n each.
        sizes: width and height before fitting, n × 2.
        photographs: the number of each image's photograph, n, where the table has several views of each.
    """

    rows: NDArray[np.int64]
    of: int
    images: tuple[str, ...]
    sources: tuple[str, ...]
    sizes: NDArray[np.int32]
    columns: tuple[Column, ...]
    photographs: NDArray[np.int64] | None = None

    def column(self, key: str) -> Column | None:
        """The column of this name."""
        return next((column for column in self.columns if column.key == key), None)


def read_numbers(tables: Tables, ok: NDArray[np.bool_], share: int = 1, seed: int = 0) -> Numbers:
    """Read every column of the images that have tokens: of all of them, or of as many drawn at random as fit.

    Args:
        ok: which rows of the token table were tokenized.
        share: how many tables share the page's room.

    Raises InputError for a damaged file, as `Tables.stream`.
    """
    # The list is needed twice, and the generator could be run through only once.
    names = list(_column_names(tables))
    # Numbers take 4 bytes, words (int16) take less; 60 bytes are left for the name and the size of an image.
    row_bytes = sum(4 * (len(tables.budgets) if tables.find(name).per_budget else 1) for name in names) + 60
    most = int(np.clip(BYTES_OF_NUMBERS // share // row_bytes, FEWEST_ROWS, MOST_ROWS))
    # Rows are kept in ascending order: the table is read in one pass, and the results are put together in that order.
    rows = np.flatnonzero(ok).astype(np.int64)
    of = len(rows)
    if of > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    raw = ("image", "source", "width", "height")
    pieces: dict[str, list[Any]] = {name: [] for name in [*raw, *names]}
    for chunk in tables.stream(names, raw):
        # Only the drawn rows of a chunk are kept, so that a long table never lies in memory as a whole.
        here = rows[(rows >= chunk.start) & (rows < chunk.start + len(chunk.ok))] - chunk.start
        for name in names:
            pieces[name].append(chunk.columns[name][here])
        for name in raw:
            # These columns are texts or may hold nulls, so they come from the Arrow table and not as numbers.
            pieces[name].append(chunk.table[name].take(pa.array(here)).to_numpy())
    values = {name: np.concatenate(arrays) for name, arrays in pieces.items() if arrays}
    images = tuple(map(str, values.get("image", ())))
    columns = [column for name in names if (column := _column(tables, name, values)) is not None]
    # The folder is no column of the table, but pictures are often sorted by class into folders.
    if (folder := _groups("folder", "folder", [_folder(image) for image in images])) is not None:
        columns.append(folder)
    sources = tuple("" if source is None else str(source) for source in values.get("source", ()))
    # `raw[2:]` is width and height; images without a size count as 0 × 0.
    sizes = np.stack([np.nan_to_num(values.get(name, np.zeros(0))).astype(np.int32) for name in raw[2:]], axis=1)
    photographs = tables.photographs()
    return Numbers(rows, of, images, sources, sizes, tuple(columns), None if photographs is None else photographs[rows])


def _folder(image: str) -> str:
    # An image without a folder gets a dot, because a group needs a word.
    return image.rpartition("/")[0] or "."


def _column_names(tables: Tables) -> Iterator[str]:
    """Every name that `Tables.find` can find in one place and that holds numbers or words, originals left out."""
    seen = set()
    # The model's own measures first: what thumbnails of as many bits reach is there to compare with.
    measures = sorted(tables.measures(), key=lambda name: bare(name).startswith("thumb"))
    stems = {bare(name) for name in measures}
    # A measure that has another name in a score table is shown once, by the name that the list has.
    stems |= {SAME_MEASURE[stem] for stem in stems & SAME_MEASURE.keys()}
    per_budget = {f"{stem}_{end}" for stem in stems for end in (*tables.budgets, ORIGINAL)}
    per_image = [name for name in tables.schema.names if name not in per_budget]
    for source in tables.sources:
        shared = [name for other in tables.sources if other is not source for name in other.columns]
        for name in source.columns:
            if name not in per_budget:
                # A name that several score tables have is only clear with its model behind it.
                per_image.append(f"{name}@{source.model}" if name in shared and not tables.has(name) else name)
    for name in [*measures, *per_image]:
        if name in seen or bare(name) in NOT_SHOWN or not tables.has(name):
            continue
        seen.add(name)
        kind = tables.kind(name)
        # A dictionary of words is only a smaller way to store them.
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        if plain or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            yield name
            own, at, model = name.partition("@")
            original = f"{own}_{ORIGINAL}{at}{model}"
            # The originals are read with their measure; `_column` puts both into one column.
            if name in measures and tables.has(original):
                yield original


def _column(tables: Tables, name: str, values: dict[str, NDArray[Any]]) -> Column | None:
    """The column of this name; None for those of originals, which belong to their measure, and for empty ones."""
    own, at, model = name.partition("@")
    if own.endswith(f"_{ORIGINAL}"):
        return None
    array, info = values[name], measure_info(name)
    label = LABELS.get(own, info.label) + (f" · {model}" if at else "")
    original = values.get(f"{own}_{ORIGINAL}{at}{model}")
    # True and false become words too, because a group of two is more use on the page than the numbers 0 and 1.
    words = array.dtype == object or array.dtype.kind in "bUS"
    if not tables.find(name).per_budget:
        if words:
            return _groups(name, label, array.tolist())
        # Such as the JPEG bytes at 256 pixels of images that were fitted to 128.
        if not np.isfinite(array.astype(np.float32)).any():
            return None
        return Column(name, "number", label, info.operator, array.astype(np.float32))
    if words:
        return _guesses(name, label, array, original)
    return Column(
        name,
        "measure",
        label,
        info.operator,
        array.astype(np.float32),
        None if original is None else original.astype(np.float32),
    )


def _groups(key: str, label: str, words: Sequence[Any]) -> Column | None:
    """A group of every word; None where there is only one, or too many to tell apart."""
    names = sorted({str(word) for word in words if word is not None})
    if not 2 <= len(names) <= MOST_GROUPS:
        return None
    places = {name: place for place, name in enumerate(names)}
    # int16 is enough, because there are at most MOST_GROUPS words.
    codes = np.array([-1 if word is None else places[str(word)] for word in words], np.int16)
    return Column(key, "group", label, "=", codes, words=tuple(names))


def _guesses(key: str, label: str, words: NDArray[Any], originals: NDArray[Any] | None) -> Column | None:
    """Words at every budget, n T, and those of the originals."""
    # Both get their places in one list of words, so that the page can compare a guess with that on the original.
    whole = words if originals is None else np.concatenate([words, originals[:, None]], axis=1)
    names = sorted({str(word) for word in whole.flat if word is not None})
    # More words than int16 can count could not be stored.
    if not names or len(names) > np.iinfo(np.int16).max:
        return None
    places = {name: place for place, name in enumerate(names)} | {None: -1}
    codes = np.array([[places[word] for word in row] for row in whole], np.int16).reshape(whole.shape)
    steps = words.shape[1]
    of_originals = None if originals is None else codes[:, -1]
    return Column(key, "guess", label, "=", codes[:, :steps], of_originals, tuple(names))


def start_of(numbers: Numbers, threshold: float | None, stop: float | None) -> float | None:
    """The L1 that a page starts with: as told, else about the median at the middle budget, so that needs spread."""
    column = numbers.column("l1")
    if column is None or not np.isfinite(column.values).any():
        return None
    if threshold is not None:
        # A run with --stop has no L1 after the stop, so a smaller threshold than the stop's could not be answered.
        return max(threshold, stop or 0)
    # Two digits are a number that a person would choose.
    middle = float(np.nanmedian(column.values[:, column.values.shape[1] // 2]))
    return max(float(f"{middle:.2g}"), stop or 0)
