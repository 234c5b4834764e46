"""Token tables in the formats that other programs read: JSON lines, one npz, or a WebDataset tar."""

import io
import json
import math
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alit_cli.data.files import check_output, open_output, readable
from alit_cli.data.marks import mark_archive, mark_text
from alit_cli.data.tables.parquet import count_rows
from alit_cli.errors import InputError
from alit_cli.jobs.export_rows import Exported, choose, exported
from alit_cli.progress import Progress


def export(
    table: Path, out: Path, form: str | None = None, budget: int | None = None, selection: Path | None = None
) -> Iterator[Progress]:
    """Write every image that has tokens: of a selection, or of a token table at one budget or as a selection chooses.

    Args:
        table: a selection, or a token table with `budget` or `selection`.
        out: the file to write, whole or not at all.
        form: jsonl (one line per image: `image`, what stands beside it, `tokens`); npz (`images`, `offsets`, and
            `tokens` end to end: image i has tokens[offsets[i]:offsets[i + 1]]; an array for each of the rest); or
            webdataset (`KEY.tokens.npy` and `KEY.json` in a tar, suffixes and dots of keys replaced, slashes kept).
            None lets the ending of `out` say it.
        budget: of a token table.
        selection: what alit select made of the token table; with or without tokens of its own.

    Beside the tokens stand the columns that tokenize kept, width, height, the L1 at the image's budget, and whatever
    the selection says.

    Yields: Progress, after every chunk of rows.

    Raises:
        InputError: no such table, format or budget, or a selection of another table.
    """
    form = form or next((name for name, ending in ENDINGS.items() if out.suffix.lower() == ending), "")
    if form and form not in WRITERS:
        raise InputError(f"There is no format '{form}'; there is: {', '.join(WRITERS)}.")
    choice = choose(table, budget, selection)
    if not form or out.suffix.lower() != ENDINGS[form]:
        endings = [ENDINGS[form]] if form else ENDINGS.values()
        raise InputError(f"'{readable(str(out))}' has the wrong ending; let its name end in {' or '.join(endings)}.")
    check_output(out, "export")
    total = count_rows(table)
    with open_output(out, "export", tidy=True) as stream:
        writer = WRITERS[form](stream)
        done = 0
        yield Progress(0, total, "rows")
        for images, rows in exported(table, choice):
            for image in images:
                writer.add(image)
            done += rows
            yield Progress(done, total, "rows")
        writer.close()


class JsonLines:
    """A JSON object per line."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def add(self, image: Exported) -> None:
        """Write one line."""
        self.stream.write(_json({"image": image.image, **image.beside, "tokens": image.tokens.tolist()}) + b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


class Npz:
    """Tokens end to end and an array for everything else, written at the end."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.images: list[str] = []
        self.tokens: list[np.ndarray] = []
        self.beside: dict[str, list[Any]] = {}

    def add(self, image: Exported) -> None:
        """Keep one image."""
        self.images.append(image.image)
        self.tokens.append(image.tokens)
        for name, value in image.beside.items():
            self.beside.setdefault(name, []).append(value)

    def close(self) -> None:
        """Write the archive."""
        offsets = np.cumsum([0, *map(len, self.tokens)], dtype=np.int64)
        tokens = np.concatenate(self.tokens) if self.tokens else np.zeros(0, np.uint16)
        own: dict[str, Any] = {"images": np.array(self.images, dtype=np.str_), "offsets": offsets, "tokens": tokens}
        # A kept column may be called `tokens` or the like, and must not replace the array of that name.
        beside = {f"{name}_" if name in own else name: _array(values) for name, values in self.beside.items()}
        arrays: dict[str, Any] = {**own, **beside}
        np.savez(self.stream, **arrays)
        mark_archive(self.stream, "export")


class WebDataset:
    """A tar with two members per image."""

    def __init__(self, stream: BinaryIO) -> None:
        mark = {"comment": mark_text("export")}  # in the tar's global header, which readers of members pass over
        self.tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers=mark)  # noqa: SIM115 (closed below)
        self.keys: set[str] = set()

    def add(self, image: Exported) -> None:
        """Write `KEY.tokens.npy` and `KEY.json`; WebDataset ends a key at the first dot of its last part."""
        folder, _, name = image.image.rpartition("/")
        # A table of somebody else may name `/etc/x` or `../x`: whoever unpacks the tar must not write there.
        folder = "/".join("_" * len(part) if part in (".", "..") else part for part in folder.split("/") if part)
        stem, suffix = os.path.splitext(name)
        # The name of a view follows a `#` and lands in the suffix, which is dropped; the view must stay.
        view = "".join(suffix.partition("#")[1:])
        key = "/".join(filter(None, [folder, f"{stem}{view}".replace(".", "_")]))
        if key in self.keys:  # a.jpg and a.png
            key = "/".join(filter(None, [folder, name.replace(".", "_")]))
        while key in self.keys:  # /a.jpg and a.jpg
            key += "_"
        self.keys.add(key)
        buffer = io.BytesIO()
        np.save(buffer, image.tokens)
        self._member(f"{key}.tokens.npy", buffer.getvalue())
        self._member(f"{key}.json", _json({"image": image.image, **image.beside}))

    def close(self) -> None:
        """End the tar."""
        self.tar.close()

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))


WRITERS: dict[str, type[JsonLines] | type[Npz] | type[WebDataset]] = {
    "jsonl": JsonLines,
    "npz": Npz,
    "webdataset": WebDataset,
}

ENDINGS = {"jsonl": ".jsonl", "npz": ".npz", "webdataset": ".tar"}
"""How the file of each format ends, which says the format where nobody does."""


def _json(values: dict[str, Any]) -> bytes:
    """A JSON object; what JSON does not know (times, bytes) becomes text, NaN null."""
    clean = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
    return json.dumps(clean, ensure_ascii=False, default=str).encode()


def _array(values: list[Any]) -> np.ndarray:
    """Values of one column as an array that needs no pickle: numbers with NaN for null, else text."""
    kinds = {type(value) for value in values if value is not None}
    # NumPy has no null for bool and int, so a column with nulls becomes one of floats with NaN.
    if kinds <= {bool} and kinds and None not in values:
        return np.array(values, np.bool_)
    if kinds <= {int, float, bool}:
        return np.array(values, np.int64 if kinds == {int} and None not in values else np.float64)
    # _json takes objects only, so a value is wrapped in one, whose key and braces the slice cuts off again.
    texts = [
        "" if value is None else value if isinstance(value, str) else _json({"": value})[5:-1].decode()
        for value in values
    ]
    return np.array(texts, np.str_)
