"""Make sample_data/report.png and sample_data/quality.png: what view and analyze quality say of the samples.

Usage: python tests/tools/make_view_picture.py [CHROMIUM]
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.tools.common import alit, small_copy  # noqa: E402

SAMPLES = ROOT / "sample_data"
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
            alit(*line.split(), "--quiet")
        small_copy(Path("quality/quality.png"), SAMPLES / "quality.png", 1400)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1240, "height": 900})
            page.goto((Path(folder) / "report.html").as_uri())
            page.wait_for_selector("html[data-ready]")
            page.keyboard.press("n")  # each picture at its own need
            page.locator('input[type="radio"][value="split"]').check(force=True)  # half of each original is beside it
            last = page.locator("#grid").bounding_box()
            assert last is not None
            height = last["y"] + last["height"] + 30
            page.screenshot(path="report.png", full_page=True, clip={"x": 0, "y": 0, "width": 1240, "height": height})
            browser.close()
        small_copy(Path("report.png"), SAMPLES / "report.png", 1240)
        os.chdir(SAMPLES)


if __name__ == "__main__":
    main()
