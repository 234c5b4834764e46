"""Files that real folders hold and that programs die of: damaged, mislabelled, gigantic, odd, oddly named."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ANY = frozenset({"ok", "unreadable", "truncated", "too_large", "empty", "unsupported"})
"""What a damaged file may turn out to be."""
NAMES: tuple[str, ...] = (
    "plain",
    "with space",
    "emoji 😀🌍",
    "new\nline",
    "tab\there",
    "ünïcödé",
    "e\u0301",
    "quote'\"",
    "100%d",
    "a" * 180,
)
NAMES += ("semi;colon", "-dash", "dots.in.it", "back\\slash", "#hash", "{0..9}", "[1]", "*star", "日本語", "عربى")
if sys.platform == "linux":
    NAMES += (os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe"))

Rng = np.random.Generator

READ = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "DIB": ".bmp",
    "GIF": ".gif",
    "PPM": ".ppm",
    "AVIF": ".avif",
    "JPEG2000": ".jp2",
    "MPO": ".jpeg",
}
"""The formats that are read, and how their files are called."""
NOT_READ = ("ICO", "DDS", "QOI", "PDF", "EPS")
"""Formats that are recognised by their first bytes, whatever the files are called."""


def write_fuzzed(folder: Path, count: int, seed: int = 0) -> dict[Path, frozenset[str]]:
    """Write `count` files; by file, the statuses that it may have."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    expected = {}
    for i in range(count):
        suffix, data, statuses = KINDS[i % len(KINDS)](rng)
        path = folder / f"{NAMES[(i // len(KINDS)) % len(NAMES)]}_{i}{suffix}"
        path.write_bytes(data)
        expected[path] = statuses
    return expected


def _image(rng: Rng, mode: str = "RGB") -> Image.Image:
    width, height = (int(side) for side in rng.integers(1, 120, 2))
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _good(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    form = list(READ)[rng.integers(len(READ))]
    return READ[form], _saved(_image(rng), form), frozenset({"ok"})


def _flipped(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    suffix, data, _ = _good(rng)
    damaged = bytearray(data)
    for place in rng.integers(0, len(damaged), rng.integers(1, 20)):
        damaged[place] ^= 1 << int(rng.integers(8))
    return suffix, bytes(damaged), ANY


def _cut(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    image = _image(rng).resize((60, 60))
    form, suffix = [("JPEG", ".jpg"), ("PNG", ".png")][rng.integers(2)]
    data = _saved(image, form)
    return suffix, data[: int(len(data) * rng.uniform(0.2, 0.9))], frozenset({"truncated"})


def _broken_off(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    suffix, data, _ = _good(rng)
    return suffix, data[: int(rng.integers(1, len(data)))], ANY - {"empty"}


def _spliced(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    (suffix, first, _), (_, second, _) = _good(rng), _good(rng)
    return suffix, first[: int(rng.integers(1, len(first)))] + second[int(rng.integers(len(second))) :], ANY - {"empty"}


def _empty(_rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".jpg", b"", frozenset({"empty"})


def _text(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".jpeg", b"<html>404 not found</html>" * int(rng.integers(1, 50)), frozenset({"unreadable"})


def _noise(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".png", b"\x7f" + rng.bytes(int(rng.integers(1, 3000))), ANY - {"ok", "empty"}


def _mislabelled(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".jpg", _saved(_image(rng), "PNG"), frozenset({"ok"})


def _bomb(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", int(rng.integers(30_000, 2**31)), 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    return ".png", b"\x89PNG\r\n\x1a\n" + body, frozenset({"too_large"})


def _deep(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    image = Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16))
    return ".png", _saved(image, "PNG"), frozenset({"ok"})


def _cmyk(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".jpg", _saved(_image(rng, "CMYK"), "JPEG"), frozenset({"ok"})


def _modes(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".png", _saved(_image(rng, ["L", "LA", "P", "1", "RGBA"][rng.integers(5)]), "PNG"), frozenset({"ok"})


def _animation(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    frames = [_image(rng).resize((20, 30)) for _ in range(3)]
    form, suffix = [("GIF", ".gif"), ("WEBP", ".webp"), ("PNG", ".png")][rng.integers(3)]
    return suffix, _saved(frames[0], form, save_all=True, append_images=frames[1:]), frozenset({"ok"})


def _floating(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    image = Image.fromarray(rng.random((8, 8), dtype=np.float32))
    return ".tiff", _saved(image, "TIFF"), frozenset({"unsupported"})


def _foreign(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    beginnings = {".heic": b"\0\0\0\x18ftypheic", ".jxl": b"\xff\x0a", ".heif": b"\0\0\0\x18ftypmif1"}
    suffix = list(beginnings)[rng.integers(len(beginnings))]
    return suffix, beginnings[suffix] + bytes(200), frozenset({"unsupported"})


def _not_read(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    return ".png", _saved(_image(rng), NOT_READ[rng.integers(len(NOT_READ))]), frozenset({"unsupported"})


def _turned(rng: Rng) -> tuple[str, bytes, frozenset[str]]:
    exif = Image.Exif()
    exif[274] = int(rng.integers(0, 12))  # 9 … 11 mean nothing
    data = _saved(_image(rng), "JPEG", exif=exif.tobytes(), progressive=bool(rng.integers(2)))
    return ".jpg", data, frozenset({"ok"})


KINDS: tuple[Callable[[Rng], tuple[str, bytes, frozenset[str]]], ...] = (
    *(_good, _flipped, _flipped, _flipped, _cut, _broken_off, _spliced, _empty, _text, _noise, _mislabelled, _bomb),
    *(_deep, _cmyk, _modes, _animation, _floating, _foreign, _not_read, _turned),
)
