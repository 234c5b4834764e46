"""Draw sample_data/attention.png and probe.png with `alit analyze attention` and `alit analyze probe`.

Usage: python tests/tools/make_attention_picture.py
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from alit_cli import load  # noqa: E402
from tests.tools.common import alit, small_copy  # noqa: E402

SAMPLES = ROOT / "sample_data"
PICTURE = "astronaut"
WIDTH = 1000


def main() -> None:
    """A contact sheet of four iterations, and a probe of photographs against synthetic pictures."""
    last = len(load(device="cpu").budgets) - 1
    iterations = ",".join(str(round(share * last / 3)) for share in range(4))
    with tempfile.TemporaryDirectory() as folder:
        image = SAMPLES / "images" / f"{PICTURE}.jpg"
        alit("analyze", "attention", image, "--iterations", iterations, "--out", folder, "--quiet")
        small_copy(Path(folder) / "sheets" / f"{PICTURE}.png", SAMPLES / "attention.png", WIDTH)
        asked = ("--labels", SAMPLES / "complexity.csv", "--folds", 3, "--pool", "latents,image")
        alit("analyze", "probe", SAMPLES / "images", *asked, "--out", folder, "--quiet")
        small_copy(Path(folder) / "probe.png", SAMPLES / "probe.png", WIDTH * 3 // 4)


if __name__ == "__main__":
    main()
