"""Make sample_data/report.png and sample_data/quality.png: what view and analyze quality say of the samples.

Usage: python tests/tools/make_view_picture.py [CHROMIUM]
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from alit_cli.cli import main as alit

SAMPLES = Path(__file__).parents[2] / "sample_data"
LINES = (
    "tokenize sample_data/images --out tokens.parquet",
    "score tokens.parquet --task recon,baselines",
    "analyze quality tokens.parquet --out quality",
    "view tokens.parquet --out report.html",
)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Run the commands in a folder of their own, then take the pictures."""
    chromium = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SAMPLES, Path(folder) / "sample_data")
        os.chdir(folder)
        for line in LINES:
            alit([*line.split(), "--quiet"], standalone_mode=False)
        _small(Path("quality/quality.png"), SAMPLES / "quality.png", 1400)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1240, "height": 900})
            page.goto((Path(folder) / "report.html").as_uri())
            page.wait_for_selector("html[data-ready]")
            page.keyboard.press("n")  # each picture at its own need
            last = page.locator("#grid").bounding_box()
            assert last is not None
            height = last["y"] + last["height"] + 30
            page.screenshot(path="report.png", full_page=True, clip={"x": 0, "y": 0, "width": 1240, "height": height})
            browser.close()
        _small(Path("report.png"), SAMPLES / "report.png", 1240)
        os.chdir(SAMPLES)


def _small(source: Path, target: Path, width: int) -> None:
    """A copy at most so wide, and below 400 kB: with 256 colours where it must be."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
    picture.save(target, optimize=True)
    if target.stat().st_size > 400_000:
        picture.quantize(256, kmeans=2).save(target, optimize=True)
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
