"""Token tables in the formats that other programs read: JSON lines, one npz, or a WebDataset tar."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq

from alit_cli.data.atomic import atomic_file
from alit_cli.data.parts import parts
from alit_cli.data.sources import readable
from alit_cli.data.table import TableInfo, column_names, count_rows, read_info
from alit_cli.errors import InputError
from alit_cli.progress import Progress

ROWS = 1000
"""Rows held in memory at a time (an npz is held whole)."""


@dataclass(frozen=True)
class Exported:
    """One image that has tokens: its key, what goes beside them, and uint16 ids k or float16 latents k c."""

    image: str
    kept: dict[str, Any]
    tokens: np.ndarray


def export(table: Path, out: Path, form: str, budget: int | None = None) -> Iterator[Progress]:
    """Write every image of a selection, or of a token table at one budget, that has tokens.

    Args:
        table: a selection, or a token table with `budget`.
        out: the file to write, whole or not at all.
        form: jsonl (a line an image: `image`, kept values, `tokens`); npz (`images`, `offsets`, and `tokens` end to
            end: image i has tokens[offsets[i]:offsets[i + 1]]); or webdataset (`KEY.tokens.npy` and `KEY.json` in a
            tar, suffixes and dots of keys replaced, slashes kept).
        budget: of a token table.

    Yields: Progress, after every chunk of rows.

    Raises:
        InputError: no such table, format or budget.
    """
    if form not in WRITERS:
        raise InputError(f"There is no format '{form}'; there is: {', '.join(WRITERS)}.")
    info = read_info(table)
    column = _column(table, info, budget)
    total = count_rows(table)
    with atomic_file(out) as stream:
        writer = WRITERS[form](stream)
        done = 0
        yield Progress(0, total, "rows")
        for images, rows in _images(table, info, column):
            for image in images:
                writer.add(image)
            done += rows
            yield Progress(done, total, "rows")
        writer.close()


class JsonLines:
    """A JSON object a line."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def add(self, image: Exported) -> None:
        """Write one line."""
        line = {"image": image.image, **image.kept, "tokens": image.tokens.tolist()}
        self.stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


class Npz:
    """Three arrays, written at the end."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.images: list[str] = []
        self.tokens: list[np.ndarray] = []

    def add(self, image: Exported) -> None:
        """Keep one image."""
        self.images.append(image.image)
        self.tokens.append(image.tokens)

    def close(self) -> None:
        """Write the archive."""
        offsets = np.cumsum([0, *map(len, self.tokens)], dtype=np.int64)
        tokens = np.concatenate(self.tokens) if self.tokens else np.zeros(0, np.uint16)
        np.savez(self.stream, images=np.array(self.images, dtype=np.str_), offsets=offsets, tokens=tokens)


class WebDataset:
    """A tar with two members an image."""

    def __init__(self, stream: BinaryIO) -> None:
        self.tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed below)
        self.keys: set[str] = set()

    def add(self, image: Exported) -> None:
        """Write `KEY.tokens.npy` and `KEY.json`; WebDataset ends a key at the first dot of its last part."""
        folder, _, name = image.image.rpartition("/")
        key = "/".join(filter(None, [folder, os.path.splitext(name)[0].replace(".", "_")]))
        if key in self.keys:  # a.jpg and a.png
            key = "/".join(filter(None, [folder, name.replace(".", "_")]))
        self.keys.add(key)
        buffer = io.BytesIO()
        np.save(buffer, image.tokens)
        self._member(f"{key}.tokens.npy", buffer.getvalue())
        self._member(f"{key}.json", json.dumps({"image": image.image, **image.kept}, ensure_ascii=False).encode())

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


def _column(table: Path, info: TableInfo, budget: int | None) -> str:
    name = readable(str(table))
    if info.tokens in column_names(table):
        if budget is not None:
            raise InputError(f"'{name}' is a selection, each image has its budget: leave --budget out.")
        return info.tokens
    known = ", ".join(map(str, info.budgets))
    if budget is None or budget not in info.budgets:
        raise InputError(f"'{name}' holds the budgets {known}: choose one with --budget, or export a selection.")
    return f"{info.tokens}_{budget}"


def _images(table: Path, info: TableInfo, column: str) -> Iterator[tuple[list[Exported], int]]:
    """The images of each chunk of rows that have tokens, and how many rows it had."""
    names = ("n_tokens", "satisfied", "l1", "width", "height", *info.keep)
    kept: list[str] = [name for name in names if name in column_names(table)]
    for part in parts(table):
        for batch in pq.ParquetFile(part).iter_batches(ROWS, columns=["image", *kept, column]):
            found = []
            for row in range(batch.num_rows):
                tokens = batch[column][row]
                if tokens.is_valid:
                    values = tokens.values.to_numpy(zero_copy_only=False)
                    values = values if info.codes else values.reshape(-1, info.token_dim)
                    beside: dict[str, Any] = {name: batch[name][row].as_py() for name in kept}
                    found.append(Exported(batch["image"][row].as_py(), beside, values))
            yield found, batch.num_rows
