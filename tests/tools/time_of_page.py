"""Print how soon a page of alit view is ready in Chromium: the fastest of four times, in seconds.

Usage: python tests/tools/time_of_page.py PAGE.html

The aim is a second on an idle machine, for 200 images of 256 pixels.
"""

import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.append(str(Path(__file__).parents[2]))  # the tests lie there

from tests.report.reader import ARGUMENTS, CHROMIUM, Reader


def main(page: Path) -> None:
    """Open the page four times in one browser."""
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        reader = Reader(browser.new_context())
        for _ in range(4):
            begun = time.perf_counter()
            reader.open(page.absolute())
            seconds.append(time.perf_counter() - begun)
        browser.close()
    print(f"{min(seconds):.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
