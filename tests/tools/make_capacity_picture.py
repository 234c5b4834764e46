"""The paper's Figures 7 and 10 on labelled photographs, with several networks: sample_data/capacity.png, strength.png.

Usage: python tests/tools/make_capacity_picture.py IMAGES LABELS.csv FOLDER NETWORK NETWORK… [--checkpoint FILE]

IMAGES is a folder or a list (@FILE), LABELS.csv has the columns image and label, and every NETWORK is a folder of
transformers. The last network judges the budgets that the one before it picks. FOLDER gets the tokens, the scores and
the tables of `alit analyze`; what has been made there is resumed.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.tools.common import alit, small_copy  # noqa: E402

SAMPLES = ROOT / "sample_data"


def main() -> None:
    """Tokenize, score, analyse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("labels", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--checkpoint", type=Path, help="A tokenizer; without it, the one inside the package.")
    asked = parser.parse_args()
    listed = asked.images.startswith("@")
    images = "@" * listed + str(Path(asked.images[listed:]).resolve())
    labels, networks = asked.labels.resolve(), [path.resolve() for path in asked.networks]
    model = ["-c", str(asked.checkpoint.resolve())] if asked.checkpoint else []
    asked.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.folder)
    chooser, judge = (path.name for path in networks[-2:])
    named = [word for path in networks for word in ("--model", f"classify={path}")]
    alit("tokenize", images, *model)
    alit("score", *model, "--task", "recon,classify", *named, "--labels", labels)
    outcomes = f"top1@{chooser},top1@{judge},psnr"
    alit("analyze", "capacity", "--tsc", f"recon,classify@{chooser}", "--toi", outcomes, "--optimum", "psnr")
    alit("analyze", "strength", "--task", "classify")
    for name in ("capacity", "strength"):
        small_copy(Path("study") / f"{name}.png", SAMPLES / f"{name}.png", 1400)


if __name__ == "__main__":
    main()
