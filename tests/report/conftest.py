"""One page of a small folder with hard names, made once for all tests of the report."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.report.view import Viewed, ViewJob, make_view
from tests.model import tiny
from tests.training.photos import write_photos

HARMFUL = ("<img src=x onerror=window.hurt=1>.png", "</script><script>window.hurt=2", "a'b&amp;\u2028 😀.png")
"""Names that a careless page would run or break on; the one with a slash is a folder and a file."""


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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Nine images (three with harmful names), one that cannot be read, and analyses beside the table."""
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
    (folder / "complexity.csv").write_text("group,measure,pearson\n<b>Art</b>,l1_2,0.123456\n")
    Image.new("RGB", (40, 30), "white").save(folder / "complexity.png")
    return make(ViewJob(table, folder / "report.html", checkpoint=checkpoint, device="cpu"))
