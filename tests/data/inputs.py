"""Files, tars and Parquet files that the tests of sources write."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def make(folder: Path, *names: str) -> Path:
    """Files whose content is their name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    return folder


def make_tar(path: Path, *names: str, mode: str = "w") -> Path:
    """A tar of such files; the content of each is its name a hundred times."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name) * 100
            archive.addfile(member, io.BytesIO(name.encode() * 100))
    return path


def png_bytes(value: int) -> bytes:
    """A small PNG of one grey."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(
    path: Path, images: list[dict[str, object] | bytes | None], name: str = "image", group: int = 3
) -> Path:
    """A Parquet file with a column of images, as Hugging Face writes it, and labels."""
    table = pa.table({"label": list(range(len(images))), name: images})
    pq.write_table(table, path, row_group_size=group)
    return path
