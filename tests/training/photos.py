"""Small synthetic photographs for the tests of long work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, count: int, side: int = 40, seed: int = 0) -> list[Path]:
    """`count` PNG files of smooth colour with some noise, img_0.png … ."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        corners = Image.fromarray(rng.integers(0, 255, (2, 2, 3), dtype=np.uint8))
        smooth = np.asarray(corners.resize((side + i, side), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + rng.integers(-20, 20, smooth.shape)
        paths.append(folder / f"img_{i}.png")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths
