"""`alit decode`: stored tokens back to pictures.

This is a loop in one process and no job of `runs/`. A run commits shards of rows and joins them into one table; here
the result is one file per picture, so each picture is its own unit of work and its own mark of completion. It is
written whole or not at all and says what it was made from. The same command run again, after an interruption or after
the table has changed, decodes only what is missing or was made from something else. A large table is shared among
machines by selections of its rows (`alit select --where`), each decoded by a command of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image

from alit_cli.data.files import LONGEST_NAME, check_output_folder, open_output, protected, remove_orphans_below
from alit_cli.data.marks import MADE_FROM, png_metadata
from alit_cli.data.tables.parquet import column_names, open_columns
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError
from alit_cli.model.memory import reuse_memory
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.progress import Progress

CHUNK_ROWS = 1024
DIGEST_DIGITS = 32
"""Hex digits of the checksum in a picture: 128 bits, so that no two of any number of pictures agree by chance."""


@dataclass(frozen=True)
class DecodeJob:
    """Which tokens to decode.

    Attributes:
        table: a selection (each image has its own budget) or a token table (then `budget` names the column).
        out: a folder; pictures keep their relative paths and become PNG files.
        budget: tokens per image, for a token table.
        checkpoint: the model that made the tokens; None is the embedded one.
        device, batch_size: as the options; None takes the batch size of the table.
    """

    table: Path
    out: Path
    budget: int | None = None
    checkpoint: str | None = None
    device: str = "auto"
    batch_size: int | None = None


def decode(job: DecodeJob) -> Iterator[Progress]:
    """Write one PNG per row that has tokens; rows that failed at tokenization count as failed.

    A picture that an earlier run has made from the same tokens in the same way is left as it is.

    Yields: Progress, first where the work starts: `done` are pictures that were there and rows that failed.

    Raises:
        InputError: no such table or column, or the tokens were made by another model.
    """
    info = read_info(job.table)
    column = _column(job, info)
    with protected(_sources(job.table)):
        check_output_folder(job.out)
        remove_orphans_below(job.out)
        yield from _decode(job, info, column)


def _sources(table: Path) -> list[str]:
    """Where the table's images came from; a selection does not say."""
    if "source" not in column_names(table):
        return []
    return [source for source in pc.unique(open_columns(table, ["source"])["source"]).to_pylist() if source]


def _decode(job: DecodeJob, info: TableInfo, column: str) -> Iterator[Progress]:
    """Decode the rows of a column, some at a time."""
    tokenizer = load(job.checkpoint, job.device, info.precision)
    if tokenizer.sha256 != info.model_sha256:
        raise InputError(
            f"The tokens of {job.table} were made by the model {info.model} ({info.model_sha256[:16]}), "
            f"not by this one ({tokenizer.model_id}): give its file with --checkpoint."
        )
    reuse_memory(tokenizer.device)
    rows = open_columns(job.table, ["image", column])
    paths = [job.out / name for name in file_names(rows["image"].to_pylist())]
    batch_size = job.batch_size or info.batch_size
    # Everything that the pixels depend on to the bit, apart from the tokens.
    recipe = f"{tokenizer.sha256} {tokenizer.precision} {tokenizer.device.type} {batch_size}".encode()
    due = np.array(
        [
            value.is_valid and not _is_there(path, recipe, value)
            for path, value in zip(paths, rows[column], strict=True)
        ],
        dtype=bool,
    )
    failed = rows[column].null_count
    done = len(rows) - int(due.sum())
    yield Progress(done, len(rows), failed=failed)
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[column].slice(start, CHUNK_ROWS)
        for index, pixels in decoded_pictures(tokenizer, chunk, batch_size, due[start : start + CHUNK_ROWS]):
            _write(paths[start + index], pixels, _made_from(recipe, chunk[index]))
            done += 1
            yield Progress(done, len(rows), failed=failed)


def _made_from(recipe: bytes, tokens: pa.ListScalar) -> str:
    """The checksum of a picture's tokens and of how they are decoded; the picture carries it."""
    values = tokens.values.to_numpy(zero_copy_only=False)
    return hashlib.sha256(recipe + b" " + values.tobytes()).hexdigest()[:DIGEST_DIGITS]


def _is_there(path: Path, recipe: bytes, tokens: pa.ListScalar) -> bool:
    """Whether an earlier run has made this picture from these tokens, and all of it is on disk."""
    if not os.path.exists(path):  # most pictures of a first run; this is faster than the checksum and an error
        return False
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.info.get(MADE_FROM) != _made_from(recipe, tokens):
                return False
            # Pictures are not synced to disk one by one, so a power cut may leave a name with half of its bytes. This
            # compares the checksum of every chunk and misses the last one where the file is cut off.
            picture.verify()
    except Exception:  # Pillow raises errors of many kinds for damaged files; the picture is made again, if it is ours
        return False
    return True


def file_names(images: list[str]) -> list[str]:
    """A relative PNG path for every key: the suffix is replaced, or kept where two keys differ only by it.

    What no file's name can be is changed: a part of more than 255 bytes is cut and gets a checksum, a NUL is spelled
    out.

    Raises:
        InputError: a key would leave the folder, or names no file.
    """
    images = [_possible(image) for image in images]
    paths = [PurePosixPath(image) for image in images]
    for image, path in zip(images, paths, strict=True):
        if not path.name:
            raise InputError(f"The image name {image!r} is no name of a file: decode it from another table.")
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"The image name {image!r} points out of the output folder: decode it from another table.")
    names = [f"{path.with_suffix('')}.png" for path in paths]
    while True:  # a longer name may be that of yet another image
        count = Counter(names)
        apart = [f"{image}.png" if count[name] > 1 else name for image, name in zip(images, names, strict=True)]
        if apart == names:
            return names
        names = apart


def _possible(image: str) -> str:
    """A key as a path that a file can have."""
    # 200 bytes leave room for the checksum and a suffix; `ignore` drops a character that is cut in half.
    cut = [
        part
        # Room is left for a second suffix.
        if len(os.fsencode(part)) <= LONGEST_NAME - len(".png")
        else f"{os.fsencode(part)[:200].decode('utf-8', 'ignore')}~{hashlib.sha256(part.encode()).hexdigest()[:12]}"
        for part in image.replace("\0", "\\x00").split("/")
    ]
    return "/".join(cut)


def _column(job: DecodeJob, info: TableInfo) -> str:
    columns = column_names(job.table)
    if info.tokens in columns:
        if job.budget is not None:
            raise InputError(f"{job.table} is a selection, each image has its budget: leave --budget out.")
        return info.tokens
    if f"{info.tokens}_{info.budgets[0]}" not in columns:
        raise InputError(
            f"{job.table} is a selection without tokens; make it without --no-tokens, or decode the token table with "
            "--budget."
        )
    if info.stop is not None:
        raise InputError(
            f"Each image of {job.table} stopped at a budget of its own: `alit select --thr {info.stop:g}` makes the "
            "selection to decode."
        )
    known = ", ".join(map(str, info.budgets))
    if job.budget is None:
        raise InputError(f"{job.table} holds every budget: choose one with --budget ({known}).")
    if job.budget not in info.budgets:
        raise InputError(f"{job.table} has no budget {job.budget}; it has {known}.")
    return f"{info.tokens}_{job.budget}"


def decoded_pictures(
    tokenizer: Tokenizer, column: pa.ChunkedArray, batch_size: int, due: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Row number and S S 3 uint8 pixels of every row that has tokens; batches are of one budget and one shape.

    `due` is true for the rows that are wanted; None wants all of them.
    """
    rows = {
        i: value.values.to_numpy(zero_copy_only=False)
        for i, value in enumerate(column)
        if value.is_valid and (due is None or due[i])
    }
    width = 1 if tokenizer.config.codes else tokenizer.config.token_dim
    for length in sorted({len(row) for row in rows.values()}):
        same = [i for i, row in rows.items() if len(row) == length]
        for start in range(0, len(same), batch_size):
            chosen = same[start : start + batch_size]
            # Every batch has one shape, so that a picture does not depend on its neighbours.
            batch = np.zeros((batch_size, length), rows[chosen[0]].dtype)
            batch[: len(chosen)] = [rows[i] for i in chosen]
            shape = (batch_size, length) if width == 1 else (batch_size, length // width, width)
            tokens = torch.from_numpy(batch.astype(np.int64 if tokenizer.config.codes else np.float32)).reshape(shape)
            images = tokenizer.decode_batch(tokens).clamp(0, 1).mul(255).round().byte()
            # The last pictures are those of the zeros that fill up the batch, hence no strict zip.
            yield from zip(chosen, images.permute(0, 2, 3, 1).cpu().numpy(), strict=False)


def _write(path: Path, pixels: np.ndarray, made_from: str) -> None:
    with open_output(path, "picture") as file:
        Image.fromarray(pixels).save(file, "PNG", pnginfo=png_metadata("picture", made_from))
