"""Draw sample_data/attention.png and probe.png with `alit analyze attention` and `alit analyze probe`.

Usage: python tests/tools/make_attention_picture.py
"""

import tempfile
from pathlib import Path

from PIL import Image

from alit_cli import load
from alit_cli.cli import main as alit

SAMPLES = Path(__file__).parents[2] / "sample_data"
PICTURE = "astronaut"
WIDTH = 1000


def main() -> None:
    """A contact sheet of four iterations, and a probe of photographs against synthetic pictures."""
    last = len(load(device="cpu").budgets) - 1
    iterations = ",".join(str(round(share * last / 3)) for share in range(4))
    with tempfile.TemporaryDirectory() as folder:
        image = SAMPLES / "images" / f"{PICTURE}.jpg"
        _alit(f"analyze attention {image} --iterations {iterations} --out {folder} -q")
        _shrink(Path(folder) / "sheets" / f"{PICTURE}.png", SAMPLES / "attention.png", WIDTH)
        labels = SAMPLES / "complexity.csv"
        _alit(f"analyze probe {SAMPLES / 'images'} --labels {labels} --folds 3 --pool latents,image --out {folder} -q")
        _shrink(Path(folder) / "probe.png", SAMPLES / "probe.png", WIDTH * 3 // 4)


def _alit(line: str) -> None:
    alit(line.split(), standalone_mode=False)


def _shrink(source: Path, target: Path, width: int) -> None:
    """A picture at another width, in 256 colours."""
    with Image.open(source) as image:
        size = (width, round(image.height * width / image.width))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        palette = small.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2)
        small.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)


if __name__ == "__main__":
    main()
