"""The paper's Figure 7 on labelled photographs with a classifier that is trained on one half and asked on the other.

Usage: python tests/tools/make_capacity_picture.py IMAGES LABELS.csv FOLDER [--steps 800] [--model FILE]

IMAGES is a folder, LABELS.csv has the columns image and label. FOLDER gets the classifier (`photos`), the tokens and
scores of the held-out half, the tables of `alit analyze capacity` and `capacity.png`; what has been made is kept.
"""

import argparse
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent


def main() -> None:
    """Train, tokenize, score, analyse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", default="800")
    parser.add_argument("--model", help="A tokenizer; without, the one inside the package.")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = ["--checkpoint", asked.model] if asked.model else []
    if not (asked.folder / "photos").exists():
        script = str(TOOLS / "train_classifier.py")
        sets = [str(path.resolve()) for path in (asked.images, asked.labels)]
        _run([sys.executable, script, *sets, "photos", "--steps", asked.steps], asked.folder)
    if not (asked.folder / "tokens.parquet").exists():
        _alit(["tokenize", "@photos/held_out.txt", *checkpoint], asked.folder)
    if not (asked.folder / "scores" / "classify@photos.parquet").exists():
        words = ["--task", "recon,classify", "--model", "photos", "--labels", "photos/held_out.csv", *checkpoint]
        _alit(["score", *words], asked.folder)
    _alit(["analyze", "capacity", "--tsc", "recon,classify", "--toi", "classify,psnr", "--by", "label"], asked.folder)


def _alit(words: list[str], folder: Path) -> None:
    _run([sys.executable, "-m", "alit_cli", *words], folder)


def _run(words: list[str], folder: Path) -> None:
    subprocess.run(words, cwd=folder, check=True)


if __name__ == "__main__":
    main()
