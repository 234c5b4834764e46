"""Makes sample_data/images and sample_data/complexity.csv (run: python tests/tools/make_sample_data.py).

Half of the pictures are drawn here, half are photographs that come with the scikit-image wheel and that anyone
may pass on (sample_data/README.md lists their sources and licences).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 256
FOLDER = Path(__file__).parents[2] / "sample_data"
WORDS = "many pictures need few tokens and a few pictures need very many of them so count before you spend"


@dataclass(frozen=True)
class Sample:
    """A file of the sample set."""

    name: str
    category: str
    picture: Image.Image
    quality: int = 85


def coordinates() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of every pixel, 0–1, SIDE×SIDE each."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    return rows, columns


def to_image(pixels: NDArray[np.float64]) -> Image.Image:
    """Pixels in [0, 1], h×w or h×w×3, as a picture."""
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)).convert("RGB")


def flat() -> Image.Image:
    """One colour."""
    return Image.new("RGB", (SIDE, SIDE), (64, 118, 158))


def gradient() -> Image.Image:
    """A sky: two colours that run into each other."""
    rows, columns = coordinates()
    mix = (0.75 * rows + 0.25 * columns)[..., None]
    return to_image((1 - mix) * np.array([0.16, 0.33, 0.62]) + mix * np.array([0.98, 0.76, 0.52]))


def checker() -> Image.Image:
    """Eight by eight squares, slightly turned so that no edge falls on a patch's."""
    rows, columns = coordinates()
    u, v = 8.3 * (columns + 0.06 * rows), 8.3 * (rows - 0.06 * columns)
    dark = (np.floor(u) + np.floor(v)) % 2
    return to_image(0.12 + 0.76 * dark)


def disks() -> Image.Image:
    """A few round shapes on paper."""
    picture = Image.new("RGB", (4 * SIDE, 4 * SIDE), (244, 240, 228))
    draw = ImageDraw.Draw(picture)
    generator = np.random.default_rng(3)
    for colour in ("#c8553d", "#2d6a7a", "#e3a857", "#3b3b58", "#8aa29e", "#c8553d", "#2d6a7a"):
        x, y = generator.uniform(120, 900, 2)
        radius = generator.uniform(60, 200)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def blobs() -> Image.Image:
    """Soft lights that overlap."""
    rows, columns = coordinates()
    generator = np.random.default_rng(5)
    light = np.full((SIDE, SIDE, 3), 0.08)
    for _ in range(14):
        y, x, width = generator.uniform(0, 1), generator.uniform(0, 1), generator.uniform(0.05, 0.16)
        bump = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
        light += bump[..., None] * generator.uniform(0, 0.6, 3)
    return to_image(light)


def mondrian() -> Image.Image:
    """Rectangles between black bars."""
    picture = Image.new("RGB", (SIDE, SIDE), "black")
    draw = ImageDraw.Draw(picture)
    generator = np.random.default_rng(11)
    colours = ["#f4f1e6"] * 5 + ["#c62828", "#1a4f9c", "#f2c500", "#dcd7c6"]
    rectangles = [(0, 0, SIDE, SIDE)]
    while len(rectangles) < 22:
        largest = max(range(len(rectangles)), key=lambda i: _area(rectangles[i]))
        left, top, right, bottom = rectangles.pop(largest)
        share = generator.uniform(0.3, 0.7)
        if right - left > bottom - top:
            cut = round(left + share * (right - left))
            rectangles += [(left, top, cut, bottom), (cut, top, right, bottom)]
        else:
            cut = round(top + share * (bottom - top))
            rectangles += [(left, top, right, cut), (left, cut, right, bottom)]
    for left, top, right, bottom in rectangles:
        draw.rectangle((left + 2, top + 2, right - 3, bottom - 3), fill=str(generator.choice(colours)))
    return picture


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def page() -> Image.Image:
    """A page of small print."""
    picture = Image.new("L", (SIDE, SIDE), 250)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11)
    generator = np.random.default_rng(17)
    words = WORDS.split()
    for top in range(10, SIDE - 16, 14):
        line = " ".join(generator.choice(words) for _ in range(12))
        draw.text((12, top), line, fill=25, font=font)
    return picture.convert("RGB")


def noise(slope: float, seed: int) -> Image.Image:
    """Noise with amplitudes of one over frequency^slope: 1 looks like clouds, 0 like static."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1
    channels = []
    for _ in range(3):
        spectrum = np.fft.rfft2(generator.normal(size=(SIDE, SIDE))) / frequency**slope
        spectrum[0, 0] = 0
        values = np.fft.irfft2(spectrum, (SIDE, SIDE))
        channels.append(0.5 + 0.2 * values / values.std())
    return to_image(np.stack(channels, axis=-1))


def photograph(name: str, box: tuple[int, int, int, int] | None = None) -> Image.Image:
    """A photograph of scikit-image, or `box` (left, top, right, bottom) of it, its short side made SIDE."""
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB").crop(box)
    scale = SIDE / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def samples() -> list[Sample]:
    """Every picture, each category in its order from simple to complex, by eye."""
    drawn = [
        Sample("flat.png", "synthetic", flat()),
        Sample("gradient.png", "synthetic", gradient()),
        Sample("blobs.jpg", "synthetic", blobs()),
        Sample("disks.png", "synthetic", disks()),
        Sample("checker.png", "synthetic", checker()),
        Sample("mondrian.png", "synthetic", mondrian()),
        Sample("clouds.jpg", "synthetic", noise(1.6, 23)),
        Sample("page.png", "synthetic", page()),
        Sample("static.jpg", "synthetic", noise(0.0, 29), quality=50),
    ]
    photographs = [
        Sample("clock.jpg", "photograph", photograph("clock")),
        Sample("rocket.jpg", "photograph", photograph("rocket")),
        Sample("camera.jpg", "photograph", photograph("camera")),
        Sample("chelsea.jpg", "photograph", photograph("chelsea")),
        Sample("coffee.jpg", "photograph", photograph("coffee")),
        Sample("brick.jpg", "photograph", photograph("brick")),
        Sample("astronaut.jpg", "photograph", photograph("astronaut")),
        Sample("hubble.jpg", "photograph", photograph("hubble_deep_field", (100, 100, 612, 612))),
        Sample("gravel.jpg", "photograph", photograph("gravel"), quality=75),
    ]
    return drawn + photographs


def main() -> None:
    """Write the pictures and their order."""
    images = FOLDER / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "complexity.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "score", "category"])
        place: dict[str, int] = {}
        for sample in samples():
            place[sample.category] = place.get(sample.category, 0) + 1
            options = {"quality": sample.quality} if sample.name.endswith(".jpg") else {"optimize": True}
            sample.picture.save(images / sample.name, **options)
            table.writerow([sample.name, place[sample.category], sample.category])


if __name__ == "__main__":
    main()
