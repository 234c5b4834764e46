"""Bytes to an upright RGB image, faithfully for every ordinary format, and a name for what went wrong."""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alit_cli.data.pictures import fast_jpeg
from alit_cli.errors import ImageProblem

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is read (JPEG includes MPO); some of Pillow's other formats start programs (EPS) or hold no photographs."""

FOREIGN = {
    "HEIC": (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")),
    "JPEG XL": (0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    "PDF": (0, (b"%PDF",)),
    "PostScript": (0, (b"%!PS",)),
    "Photoshop": (0, (b"8BPS",)),
    "SVG": (0, (b"<svg",)),
    "OpenEXR": (0, (b"v/1\x01",)),
    "ICO": (0, (b"\0\0\1\0",)),
    "QOI": (0, (b"qoif",)),
    "DDS": (0, (b"DDS ",)),
}
"""Formats recognised (by any of these marks at this offset) only to say that they are not read."""

WHITE = (255, 255, 255)
MOST_SCANS = 500
"""Scans of a progressive JPEG. Encoders write about 10; a small file of thousands takes minutes to decode."""


def decode(data: bytes) -> Image.Image:
    """The upright RGB image in these bytes, at its own size.

    EXIF orientation is applied, transparency lies on white, an animation gives its first frame, 16-bit
    greyscale is scaled to 8 bits. Colour profiles are not applied, and no JPEG is decoded at a reduced scale,
    as its pixels would differ. Safe in threads. Raises nothing but ImageProblem; its `status` says what is wrong.
    """
    if not data:
        raise ImageProblem("empty", "The file is empty.")
    # Inside a scan the byte FF is always followed by 00 or a restart marker, so this counts the starts of scans.
    if data.startswith(b"\xff\xd8\xff") and (scans := data.count(b"\xff\xda")) > MOST_SCANS:
        raise ImageProblem("unsupported", f"The JPEG has {scans:,} scans; at most {MOST_SCANS} are decoded.")
    try:
        with _quiet_pillow():
            return _decode(data)
    except ImageProblem:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        # Pillow raises above twice this limit and only warns above the limit itself; `_QuietPillow` makes an error of
        # the warning.
        most = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise ImageProblem("too_large", f"The image has more than {most} pixels, the most that is read.") from problem
    except MemoryError as problem:
        raise ImageProblem("too_large", "There is not enough memory to decode the image.") from problem
    except Exception as problem:  # a damaged file can raise nearly anything in Pillow: struct.error, SyntaxError, …
        raise _diagnosis(data, problem) from problem


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        image = fast_jpeg.decoded(data, opened)
        if image is None:
            # Pillow reads only the header when it opens a file, so the pixels come now.
            image = opened
            image.load()
        with contextlib.suppress(Exception):  # EXIF that cannot be read must not cost the image
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to RGB; raises ImageProblem where that would need a guess."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode in ("F", "LAB", "HSV"):
        what = "floating-point values" if image.mode == "F" else f"{image.mode} colours"
        raise ImageProblem("unsupported", f"The image has {what}, which are not supported; save it as 8-bit RGB.")
    if image.has_transparency_data:
        # Pillow turns premultiplied grey into nothing but LA.
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """16-bit greyscale to RGB, scaled by 1/257 and rounded."""
    # Wide enough that neither the check nor the rounding below can overflow.
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageProblem(
            "unsupported", "The image has 32-bit integers, which are not supported; save it as 8-bit RGB."
        )
    # 257 = 65535 / 255, so that white stays white; adding half of it rounds.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _diagnosis(data: bytes, problem: Exception) -> ImageProblem:
    """The status and sentence for an exception of Pillow."""
    if isinstance(problem, UnidentifiedImageError):
        for name, (offset, marks) in FOREIGN.items():
            if data[offset:].startswith(marks):
                return ImageProblem("unsupported", f"The file is {name}, which is not supported; convert it to PNG.")
        if data.startswith((b"II*\0", b"MM\0*")) and not _breaks_off(data):
            return ImageProblem("unsupported", "The TIFF has a layout that is not supported; save it as 8-bit RGB.")
    if isinstance(problem, EOFError) or "truncated" in str(problem).lower() or _breaks_off(data):
        return ImageProblem("truncated", "The file breaks off before the image is complete.")
    if isinstance(problem, UnidentifiedImageError):
        return ImageProblem("unreadable", "The file is not an image, or is damaged from its beginning.")
    return ImageProblem("unreadable", f"The image is damaged ({type(problem).__name__}: {_short(problem)}).")


def _breaks_off(data: bytes) -> bool:
    """Whether a known format lacks its end."""
    if data.startswith(b"\xff\xd8\xff"):
        # Cameras and editors may write something behind the end, so a whole window is searched.
        return b"\xff\xd9" not in data[-4096:]
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-4096:]
    if data.startswith(b"RIFF"):
        # The header of RIFF says how many bytes follow its first 8.
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith((b"II*\0", b"MM\0*")):
        order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
        directory = int.from_bytes(data[4:8], order)
        entries = int.from_bytes(data[directory : directory + 2], order)
        # A TIFF's directory is often at its end: 2 bytes of count, and 12 for each entry.
        return len(data) < directory + 2 + 12 * entries
    if data.startswith(b"GIF8"):
        return not data.rstrip(b"\0").endswith(b";")
    # A file may break off within its first few bytes.
    return any(mark.startswith(data) for mark in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"BM"))


def _short(problem: Exception) -> str:
    return " ".join(str(problem).split())[:120]


class _QuietPillow:
    """Silences Pillow's warnings while any thread decodes, and turns the one about bombs into an error.

    `warnings.catch_warnings` alone is not safe in threads: one could restore what another had set.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.saved = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            # The first thread in silences the warnings, and the last one out restores them.
            if self.inside == 1:
                self.saved.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self.saved.close()


_quiet_pillow = _QuietPillow()
