"""The fast path for JPEG gives Pillow's pixels to the bit, and leaves every doubtful file to Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alit_cli.data.pictures import fast_jpeg
from alit_cli.data.pictures.decoding import decode
from alit_cli.errors import ImageProblem
from tests.data.conftest import Encode

pytest.importorskip("simplejpeg")


def _verdict(data: bytes) -> tuple[str, bytes]:
    """Status and pixels."""
    try:
        image = decode(data)
    except ImageProblem as problem:
        return f"{problem.status}: {problem}", b""
    return f"ok {image.size}", image.tobytes()


def _both(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    fast = _verdict(data)
    with monkeypatch.context() as patch:
        patch.setattr(fast_jpeg, "_decoder", lambda: None)
        return fast, _verdict(data)


def _jpegs(photo: Image.Image, encode: Encode) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[274] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (67, 93, 3), dtype=np.uint8))
    found = {f"subsampling {s}": encode(noise, "JPEG", quality=71, subsampling=s) for s in (0, 1, 2)}
    return found | {
        "progressive": encode(noise, "JPEG", progressive=True),
        "grey": encode(noise.convert("L"), "JPEG"),
        "grey progressive": encode(noise.convert("L"), "JPEG", progressive=True),
        "cmyk": encode(noise.convert("CMYK"), "JPEG"),
        "rgb inside": encode(noise, "JPEG", keep_rgb=True),
        "turned": encode(photo, "JPEG", exif=exif.tobytes()),
        "restarts": encode(noise, "JPEG", restart_marker_rows=1),
        "one pixel": encode(noise.resize((1, 1)), "JPEG"),
        "worst": encode(noise, "JPEG", quality=1, subsampling=2),
    }


def test_every_kind_of_jpeg_is_the_same_to_the_bit(
    photo: Image.Image, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, data in _jpegs(photo, encode).items():
        fast, pillow = _both(data, monkeypatch)
        assert fast[0].startswith("ok"), kind
        assert fast == pillow, kind
    used = {kind: fast_jpeg.decoded(data, Image.open(io.BytesIO(data))) for kind, data in _jpegs(photo, encode).items()}
    assert [kind for kind, image in used.items() if image is None] == ["cmyk"]


def test_broken_files_are_what_pillow_says(photo: Image.Image, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for kind, whole in _jpegs(photo, encode).items():
        for _ in range(25):
            data = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.4 else whole)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] ^= 1 << rng.integers(8)
            fast, pillow = _both(bytes(data), monkeypatch)
            assert fast == pillow, kind


def test_real_photographs(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for path in photographs:
        fast, pillow = _both(path.read_bytes(), monkeypatch)
        assert fast == pillow, path.name
