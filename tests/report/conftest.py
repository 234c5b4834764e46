"""One page of a small folder with hard names and scores of every kind, made once for all tests of the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alit_cli.analysis.query.tables import Tables
from alit_cli.data.tables.token_table import read_info
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.report.view import Viewed, ViewJob, make_view
from tests.analysis.score_tables import write_scores
from tests.model import tiny
from tests.report.reader import ARGUMENTS, CHROMIUM, PHOTOS, Reader
from tests.training.photos import write_photos

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

HARMFUL = ("<img src=x onerror=window.hurt=1>.png", "</script><script>window.hurt=2", "a'b&amp;\u2028 😀.png")
"""Names that a careless page would run or break on; the one with a slash is a folder and a file."""
BUDGETS = (2, 4, 6)
CLASSES = ("cat", "dog, hound", "=1+1", "<b>bird</b>")


@dataclass(frozen=True)
class Made:
    """A page, the job that made it, and what it says."""

    job: ViewJob
    html: str
    viewed: Viewed

    @property
    def data(self) -> Any:
        """The JSON inside."""
        return data_of(self.html)

    @property
    def table(self) -> Any:
        """The first table of the page."""
        return self.data["tables"][0]


def data_of(html: str) -> Any:
    """The data of a page, as its browser finds it: up to the first end of a script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script', html, re.S)
    assert found
    return json.loads(found[1])


def make(job: ViewJob) -> Made:
    """Write a page."""
    *_, viewed = make_view(job)
    assert isinstance(viewed, Viewed)
    return Made(job, job.out.read_text(encoding="utf-8"), viewed)


def tokenized(folder: Path, photos: int) -> Path:
    """A token table of random photographs in two folders, made by the tiny random model."""
    write_photos(folder / "photos" / "land", photos - photos // 3)
    write_photos(folder / "photos" / "sea", photos // 3, seed=5)
    checkpoint = str(tiny.checkpoint(folder))
    table = folder / "tokens.parquet"
    for _ in tokenize(TokenizeJob([str(folder / "photos")], table, checkpoint, "cpu")):
        pass
    return table


def score(table: Path) -> None:
    """Scores of every kind beside a token table, random but for the images' order: two networks, PSNR, depth, words."""
    images = pq.read_table(table, columns=["image"])["image"].to_pylist()
    model_id = read_info(table).model_id
    n, generator = len(images), np.random.default_rng(0)
    folder = table.parent / "scores"
    labels = [CLASSES[row % len(CLASSES)] for row in range(n)]
    for network, hardness in (("small", 4.0), ("large", 1.5)):
        rank = np.floor(1 + generator.exponential(1, (n, 4)) * hardness * np.array([3, 2, 1, 0.3]))
        guesses = {f"class_guess_{end}": generator.choice(CLASSES, n).tolist() for end in (*BUDGETS, "original")}
        write_scores(
            folder / f"classify@{network}.parquet",
            images,
            {"class_rank": rank, "class_prob": 1 / rank},
            {"label": labels, "label_source": ["given"] * n, **guesses},
            BUDGETS,
            model_id=model_id,
        )
    psnr = generator.uniform(15, 20, (n, 1)) + np.array([0, 2, 3]) + generator.uniform(0, 1, (n, 3))
    write_scores(folder / "recon.parquet", images, {"psnr": psnr}, budgets=BUDGETS, model_id=model_id)
    depth = np.where(generator.uniform(size=(n, 4)) < 0.1, np.nan, generator.uniform(0, 0.5, (n, 4)))
    write_scores(folder / "depth@small.parquet", images, {"depth_error": depth}, budgets=BUDGETS, model_id=model_id)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Nine images (three with harmful names), one that cannot be read, scores and analyses beside the table."""
    folder = tmp_path_factory.mktemp("report")
    photos = write_photos(folder / "photos", 9)
    for path, name in zip(photos[-3:], HARMFUL, strict=True):
        target = folder / "photos" / (name if name.endswith(".png") else f"{name}.png")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    (folder / "photos" / "broken.jpg").write_bytes(b"not a photograph")
    checkpoint = str(tiny.checkpoint(folder))
    table = folder / "tokens.parquet"
    for _ in tokenize(TokenizeJob([str(folder / "photos")], table, checkpoint, "cpu")):
        pass
    score(table)
    own = folder / "mine.csv"
    names = [image for image in pq.read_table(table)["image"].to_pylist() if image != "broken.jpg"]
    own.write_text("image,stars\n" + "".join(f'"{name}",{row}\n' for row, name in enumerate(names)), "utf-8")
    (folder / "complexity.csv").write_text("group,measure,pearson\n<b>Art</b>,l1_2,0.123456\n")
    Image.new("RGB", (40, 30), "white").save(folder / "complexity.png")
    return make(ViewJob((table,), folder / "report.html", own=(own,), checkpoints=(checkpoint,), device="cpu"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Playwright]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        yield playwright


def opened(browser: Playwright, profile: Path, scheme: Any) -> Iterator[Reader]:
    """A browser with a fresh profile; every test ends with nothing to complain about."""
    context = browser.chromium.launch_persistent_context(
        profile,
        executable_path=CHROMIUM,
        args=ARGUMENTS,
        viewport={"width": 1280, "height": 900},
        color_scheme=scheme,
        accept_downloads=True,
    )
    context.set_default_timeout(20_000)
    reader = Reader(context)
    yield reader
    context.close()
    assert reader.troubles == []


@pytest.fixture
def reader(browser: Playwright, tmp_path: Path) -> Iterator[Reader]:
    yield from opened(browser, tmp_path / "profile", "light")


@pytest.fixture(params=["light", "dark"])
def themed(request: pytest.FixtureRequest, browser: Playwright, tmp_path: Path) -> Iterator[Reader]:
    yield from opened(browser, tmp_path / "profile", request.param)


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A page of 24 images in two folders with every kind of score, and a csv of one's own."""
    folder = tmp_path_factory.mktemp("scored")
    table = tokenized(folder, PHOTOS)
    score(table)
    rows = [f"land/img_{row}.png,{row},{'ab'[row % 2]}" for row in range(12)]
    (folder / "mine.csv").write_text("\n".join(["image,stars,letter", *rows]))
    own = (folder / "mine.csv",)
    checkpoint = str(tiny.checkpoint(folder))
    return make(ViewJob((table,), folder / "scored.html", own=own, checkpoints=(checkpoint,), device="cpu"))


def tables_of(made: Made) -> Tables:
    return Tables(made.job.tables[0], made.job.tables[0].parent / "scores", made.job.own)
