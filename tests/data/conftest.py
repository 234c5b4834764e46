"""Small pictures and encoders that the tests of the data room share."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture
def photo() -> Image.Image:
    """A colourful picture of 96 × 64 flat tiles, so that a lossy format keeps its colours."""
    tiles = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(tiles, np.ones((16, 16, 1), dtype=np.uint8)))


@pytest.fixture
def encode() -> Encode:
    """The bytes of an image in a format of Pillow."""

    def encoded(image: Image.Image, form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    return encoded
