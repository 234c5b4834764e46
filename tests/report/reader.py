"""A real browser that reads pages, and what the tests ask of a page in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHOTOS = 24


class Reader:
    """Opens pages, and remembers whatever went wrong in them or went out of them."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.troubles: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def open(self, path: Path, address: str = "") -> Page:
        """The page of a file, once it is ready; `address` is what stands behind the #."""
        self.page.goto("about:blank")  # otherwise another # would not load the page again
        self.page.goto(f"{path.as_uri()}#{address}" if address else path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)
        return self.page

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:", "about:")):
            self.troubles.append(f"asked for {url}")


def column_counts(page: Page) -> list[int]:
    return [int(text) for text in page.locator(".column-count").all_inner_texts()]


def shown(page: Page) -> list[str]:
    """The names of the tiles, in their order."""
    titles: list[str] = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.title)")
    return titles


def place(page: Page, tile: int = 0) -> float:
    """How far the sprite of a tile is moved, in frames."""
    return float(
        page.evaluate(
            """tile => {
                const frame = document.querySelectorAll('.tile .frame')[tile];
                const [a, b] = [frame, frame.firstChild].map(one => one.getBoundingClientRect());
                return (a.left - b.left) / a.width / 1.016;
            }""",
            tile,
        )
    )
