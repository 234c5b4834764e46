"""Every ordinary image decodes to the pixels a viewer shows; everything else has a status and a sentence."""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alit_cli.data.pictures.decoding import decode
from alit_cli.errors import ImageProblem

Encode = Callable[..., bytes]
ORIENTATIONS = [
    (1, None),
    (2, Image.Transpose.FLIP_LEFT_RIGHT),
    (3, Image.Transpose.ROTATE_180),
    (4, Image.Transpose.FLIP_TOP_BOTTOM),
    (5, Image.Transpose.TRANSPOSE),
    (6, Image.Transpose.ROTATE_270),
    (7, Image.Transpose.TRANSVERSE),
    (8, Image.Transpose.ROTATE_90),
]
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def status(data: bytes) -> str:
    """The status of what must not decode; the sentence must be one."""
    with pytest.raises(ImageProblem) as caught:
        decode(data)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return caught.value.status


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_are_exact(photo: Image.Image, encode: Encode, form: str) -> None:
    decoded = decode(encode(photo, form))
    assert decoded.mode == "RGB"
    assert (array(decoded) == array(photo)).all()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF", "MPO"])
def test_lossy_formats_are_close(photo: Image.Image, encode: Encode, form: str) -> None:
    assert np.abs(array(decode(encode(photo, form))) - array(photo)).mean() < 8


@pytest.mark.parametrize(("orientation", "turn"), ORIENTATIONS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(
    photo: Image.Image, encode: Encode, form: str, orientation: int, turn: Image.Transpose | None
) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    upright = photo if turn is None else photo.transpose(turn)
    decoded = decode(encode(photo, form, exif=exif))
    assert decoded.size == upright.size
    assert np.abs(array(decoded) - array(upright)).mean() < 8


def test_unreadable_exif_does_not_cost_the_image(photo: Image.Image, encode: Encode) -> None:
    data = encode(photo, "JPEG", exif=b"Exif\0\0MM\0*garbage that is no directory")
    assert decode(data).size == photo.size


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_lies_on_white(photo: Image.Image, encode: Encode, form: str, mode: str) -> None:
    layer = photo.convert(mode)
    opacity = np.repeat(np.array([[0, 128, 255]], dtype=np.uint8), 64, axis=0).repeat(32, axis=1)
    layer.putalpha(Image.fromarray(opacity))
    decoded = array(decode(encode(layer, form, **({"lossless": True} if form == "WEBP" else {}))))
    colours = array(layer.convert("RGB"))
    assert (decoded[:, :32] == 255).all()
    assert np.abs(decoded[:, 32:64] - (colours[:, 32:64] * 128 + 255 * 127) / 255).max() <= 1
    assert (decoded[:, 64:] == colours[:, 64:]).all()


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(photo: Image.Image, encode: Encode, form: str) -> None:
    indexed = photo.quantize(16)
    clear = np.asarray(indexed) == 3
    decoded = array(decode(encode(indexed, form, transparency=3)))
    assert (decoded[clear] == 255).all()
    assert (decoded[~clear] == array(indexed.convert("RGB"))[~clear]).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_the_transparent_colour_of_a_png_is_white(photo: Image.Image, encode: Encode, mode: str) -> None:
    image = photo.convert(mode, dither=Image.Dither.NONE)
    colour = image.getpixel((0, 0))
    assert array(decode(encode(image, "PNG", transparency=colour)))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(photo: Image.Image, encode: Encode, form: str) -> None:
    """Pillow writes CMYK JPEGs inverted, as Adobe does."""
    options = {"quality": 100} if form == "JPEG" else {}
    assert np.abs(array(decode(encode(photo.convert("CMYK"), form, **options))) - array(photo)).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_are_scaled_not_clipped(encode: Encode, form: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = array(decode(encode(Image.fromarray(values), form)))
    assert (decoded == np.rint(values / 257)[..., None]).all()


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_few_colours_become_rgb(photo: Image.Image, encode: Encode, mode: str) -> None:
    image = photo.convert(mode)
    assert (array(decode(encode(image, "PNG"))) == array(image.convert("RGB"))).all()


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(photo: Image.Image, encode: Encode, form: str) -> None:
    red, blue = (Image.new("RGB", photo.size, colour) for colour in ("#ff0000", "#0000ff"))
    data = encode(red, form, save_all=True, append_images=[blue, photo])
    assert np.abs(array(decode(data)) - array(red)).max() <= 2


def test_what_is_no_image_says_so(encode: Encode) -> None:
    floats = Image.fromarray(np.ones((4, 4), dtype=np.float32))
    integers = Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32))
    for data, expected in (
        (b"", "empty"),
        (b"Dear reader, this is not a picture.", "unreadable"),
        (b"<html><body>404</body></html>", "unreadable"),
        (bytes(1000), "unreadable"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
        (b"%PDF-1.7", "unsupported"),
        (encode(floats, "TIFF"), "unsupported"),
        (encode(integers, "TIFF"), "unsupported"),
        (encode(Image.new("LAB", (4, 4)), "TIFF"), "unsupported"),
    ):
        assert status(data) == expected, data[:20]


@pytest.mark.parametrize("side", [10_000, 60_000, 2**31 - 1])
def test_a_bomb_is_too_large_and_nothing_is_printed(side: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert status(png_header(side, side)) == "too_large"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_a_file_cut_anywhere_is_truncated(
    photo: Image.Image, encode: Encode, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(photo, form)
    end = len(data) - 24  # a PNG has all its pixels before its last chunks
    assert {status(data[:length]) for length in range(1, end, max(1, end // 40))} <= {"truncated", "unreadable"}
    assert {status(data[:length]) for length in range(end // 4, end, max(1, end // 40))} == {"truncated"}
    assert capfd.readouterr() == ("", "")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_raises_anything_but_image_problem(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "AVIF", "JPEG2000"]))
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(buffer, form)
    damaged = bytearray(buffer.getvalue())
    spots = st.integers(0, min(len(damaged), 300) - 1)
    for spot, value in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), min_size=1, max_size=6)):
        damaged[spot] = value
    with contextlib.suppress(ImageProblem):
        assert decode(bytes(damaged)).mode == "RGB"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_image_problem(data: bytes) -> None:
    assert status(data) in {"empty", "unreadable", "truncated", "unsupported"}


def test_threads_leave_the_warning_filters_as_they_were(photo: Image.Image, encode: Encode) -> None:
    good, bomb = encode(photo, "JPEG"), png_header(10_000, 10_000)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [good] * 100))
        assert set(pool.map(status, [bomb] * 100)) == {"too_large"}
    assert list(warnings.filters) == before
