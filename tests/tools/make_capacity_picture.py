"""The paper's Figure 7 on labelled photographs: one network chooses budgets, it and a second one judge them.

Usage: python tests/tools/make_capacity_picture.py IMAGES LABELS.csv FOLDER [--steps 500] [--model FILE]

IMAGES is a folder, LABELS.csv has the columns image and label. One half trains both classifiers, `photos` and `judge`;
FOLDER gets them, the tokens and scores of the other half, the tables of `alit analyze capacity` and `capacity.png`.
What has been made is kept. README shows what it prints on 420 photographs of seven classes.
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
    parser.add_argument("--steps", default="500")
    parser.add_argument("--model", help="A tokenizer; without, the one inside the package.")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = ["--checkpoint", asked.model] if asked.model else []
    for seed, name in enumerate(("photos", "judge")):
        if not (asked.folder / name).exists():
            script = str(TOOLS / "train_classifier.py")
            sets = [str(path.resolve()) for path in (asked.images, asked.labels)]
            how = ["--steps", asked.steps, "--blur", "0.5", "--seed", str(seed)]
            _run([sys.executable, script, *sets, name, *how], asked.folder)
    if not (asked.folder / "tokens.parquet").exists():
        _alit(["tokenize", "@photos/held_out.txt", *checkpoint], asked.folder)
    for task, name in (("recon,classify", "photos"), ("classify", "judge")):
        if not (asked.folder / "scores" / f"classify@{name}.parquet").exists():
            words = ["--task", task, "--model", name, "--labels", "photos/held_out.csv", *checkpoint]
            _alit(["score", *words], asked.folder)
    sweep = ["--tsc", "recon,classify@photos", "--toi", "top1@photos,top1@judge,psnr"]
    _alit(["analyze", "capacity", *sweep], asked.folder)


def _alit(words: list[str], folder: Path) -> None:
    _run([sys.executable, "-m", "alit_cli", *words], folder)


def _run(words: list[str], folder: Path) -> None:
    subprocess.run(words, cwd=folder, check=True)


if __name__ == "__main__":
    main()
