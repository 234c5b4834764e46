"""Tars, Parquet files, lists and checkpoints that are damaged in every way that disks, networks and people find."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Rng = np.random.Generator


def damaged(content: bytes, rng: Rng) -> bytes:
    """Some bits flipped, a piece cut off, left out, zeroed, doubled or replaced by noise; sometimes as it was."""
    data = bytearray(content)
    start, stop = sorted(int(place) for place in rng.integers(0, len(data), 2))
    stop = min(stop, start + 2000)
    way = int(rng.integers(7))
    if way == 0:
        for place in rng.integers(0, len(data), int(rng.integers(1, 30))):
            data[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del data[start:]
    elif way == 2:
        del data[start:stop]
    elif way == 3:
        data[start:stop] = bytes(stop - start)
    elif way == 4:
        data[start:start] = data[start:stop]
    elif way == 5:
        data[start:stop] = rng.bytes(stop - start)
    return bytes(data)


def picture(rng: Rng, form: str = "PNG") -> bytes:
    """A small image."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(buffer, form)
    return buffer.getvalue()


def tars(count: int, seed: int = 0) -> Iterator[bytes]:
    """Tars of three formats with images, sidecars, links and long names, damaged above all in their headers."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        buffer = io.BytesIO()
        form = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[int(rng.integers(3))]
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for index in range(int(rng.integers(1, 6))):
                _add(tar, f"{'d/' * int(rng.integers(3))}{index}.png", picture(rng))
                _add(tar, f"{index}.json", json.dumps({"label": index}).encode())
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = (tarfile.LNKTYPE, tarfile.SYMTYPE)[int(rng.integers(2))], "0.png"
            tar.addfile(link)
            if form != tarfile.USTAR_FORMAT:
                _add(tar, "n" * 180 + ".png", picture(rng))
        content = bytearray(buffer.getvalue())
        if rng.random() < 0.6:  # a field of a header, with a checksum that is right
            header = 512 * int(rng.integers(len(content) // 512))
            field = ((124, 12), (156, 1), (0, 100), (157, 100), (257, 8))[int(rng.integers(5))]
            content[header + field[0] : header + field[0] + field[1]] = _field(rng, field[1])
            total = sum(content[header : header + 512]) - sum(content[header + 148 : header + 156]) + 8 * 32
            content[header + 148 : header + 156] = f"{total & 0o777777:06o}\0 ".encode()
            yield bytes(content)
        else:
            yield damaged(bytes(content), rng)


def _field(rng: Rng, length: int) -> bytes:
    """A header's field: noise, a negative or gigantic number, octal digits, or a member's kind."""
    choices = (
        rng.bytes(length),
        (b"\xff" * 12)[:length].ljust(length, b"\0"),
        (b"\x80" + rng.bytes(11))[:length].ljust(length, b"\0"),
        b"7" * (length - 1) + b"\0",
        b"LKxgS12506"[int(rng.integers(10)) :][:1] * length,
    )
    return choices[int(rng.integers(len(choices)))]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def parquets(count: int, seed: int = 0) -> Iterator[bytes]:
    """Parquet files with images as Hugging Face stores them or as plain bytes, with checksums or without."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        images = [picture(rng) for _ in range(int(rng.integers(1, 8)))]
        values: Any = images
        if rng.random() < 0.5:
            values = [{"bytes": image, "path": f"{index}.png"} for index, image in enumerate(images)]
        buffer = io.BytesIO()
        pq.write_table(
            pa.table({"label": list(range(len(images))), "image": values}),
            buffer,
            row_group_size=3,
            compression=("none", "snappy", "zstd")[int(rng.integers(3))],
            write_page_checksum=bool(rng.integers(2)),
        )
        yield damaged(buffer.getvalue(), rng)


def lists(count: int, names: list[str], seed: int = 0) -> Iterator[bytes]:
    """Lists of names in several encodings and with several ends of lines, damaged."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        end = ("\n", "\r\n", "\0", "\r")[int(rng.integers(4))]
        strange = ("/dev/null", "..", "x" * 5000, "nul\0l", "s3://no/where", "@list", "é" * 200)
        chosen = [*rng.choice(names, 3).tolist(), strange[int(rng.integers(len(strange)))]]
        content = end.join(chosen).encode(("utf-8", "utf-8-sig", "utf-16", "latin-1")[int(rng.integers(4))])
        yield damaged(content, rng) if rng.random() < 0.5 else content


def checkpoints(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """A safetensors file with values of its description exchanged, or damaged anywhere."""
    rng = np.random.default_rng(seed)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    for _ in range(count):
        if rng.random() < 0.3:
            yield damaged(content, rng)
            continue
        about = json.loads(header["__metadata__"]["alit"])
        place = about[("config", "config", "training")[int(rng.integers(3))]] if "config" in about else about
        if isinstance(place, dict) and place:
            key = sorted(place)[int(rng.integers(len(place)))]
            wrong: tuple[Any, ...] = (-1, 0, 10**9, 2.5, "x", None, [], {}, [10**8], True, "\x1b[2J", float("nan"))
            place[key] = wrong[int(rng.integers(len(wrong)))]
        text = json.dumps({**header, "__metadata__": {"alit": json.dumps(about)}}).encode()
        yield struct.pack("<Q", len(text)) + text + content[8 + length :]


def tables(table: pa.Table, count: int, folder: Path, seed: int = 0) -> Iterator[Path]:
    """A table of alit with a column left out, of another type, null, strange or doubled; or its file damaged."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    texts: tuple[Any, ...] = ("x", "../x", "/", "", "nul\0l", "=1+1", "é" * 150, "s3://a/b", "a\x1b[2J")
    strange = (*texts, 5, 2.5, [1], None)
    for index in range(count):
        path = folder / f"damaged_{index}.parquet"
        if rng.random() < 0.35:
            path.write_bytes(damaged(buffer.getvalue(), rng))
            yield path
            continue
        changed = table
        column = int(rng.integers(len(table.column_names)))
        name, way = table.column_names[column], int(rng.integers(5))
        if way == 0:
            changed = table.drop_columns([name])
        elif way == 1:
            value = strange[int(rng.integers(len(strange)))]
            changed = table.set_column(column, name, pa.array([value] * len(table)))
        elif way == 2:
            changed = table.slice(0, int(rng.integers(len(table))))
        elif way == 3:
            changed = table.append_column(name, table[name])
        else:
            about = json.loads(table.schema.metadata[b"alit"])
            key = sorted(about)[int(rng.integers(len(about)))]
            about[key] = strange[int(rng.integers(len(strange)))]
            changed = table.replace_schema_metadata({b"alit": json.dumps(about).encode()})
        pq.write_table(changed, path, write_page_checksum=True)
        yield path
