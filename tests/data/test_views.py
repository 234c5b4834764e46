"""Views of an image are what their names say, each a row of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alit_cli.data.pictures.fitting import CORNER, Fit, fit, fit_view
from alit_cli.data.pictures.views import CORNERS, VIEWS
from alit_cli.data.tables.originals import find_originals
from alit_cli.errors import InputError
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from tests.model import tiny
from tests.training.photos import write_photos


def test_there_are_ten_and_half_of_them_are_mirrored() -> None:
    assert len(set(VIEWS["ten-crop"])) == 10
    assert VIEWS["ten-crop"][:2] == VIEWS["flip"] == ("", "flip")
    assert sum(view.endswith("flip") for view in VIEWS["ten-crop"]) == 5


@pytest.mark.parametrize("how", ["crop", "squash"])
def test_each_view_shows_its_part(photo: Image.Image, how: Fit) -> None:
    side = 40  # a tenth of it is whole pixels
    large = fit(photo, round(CORNER * side), how).astype(int)
    gap = len(large) - side
    for corner in CORNERS:
        rows, columns = (gap if "bottom" in corner else 0), (gap if "right" in corner else 0)
        expected = large[rows : rows + side, columns : columns + side]
        found = fit_view(photo, side, how, corner)
        assert np.abs(found - expected).mean() < 3, corner
        assert np.abs(found - large[gap - rows :][:side, columns : columns + side]).mean() > 10, corner
        assert np.array_equal(fit_view(photo, side, how, f"{corner}-flip"), found[:, ::-1])
    assert np.array_equal(fit_view(photo, side, how, ""), fit(photo, side, how))
    assert np.array_equal(fit_view(photo, side, how, "flip"), fit(photo, side, how)[:, ::-1])


def test_views_are_rows_that_say_which_they_are(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    for name in ("img_1.png", "img_2.png"):
        (tmp_path / "photos" / name).unlink()
    mirrored = Image.open(tmp_path / "photos" / "img_0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(tmp_path / "photos" / "img_1.png")
    model = str(tiny.checkpoint(tmp_path))
    job = TokenizeJob([str(tmp_path / "photos")], tmp_path / "t.parquet", model, "cpu", batch_size=2, views="flip")
    for _ in tokenize(job):
        pass
    table = pq.read_table(job.out)
    assert table["image"].to_pylist() == ["img_0.png", "img_0.png#flip", "img_1.png", "img_1.png#flip"]
    assert table["tokens_6"].null_count == 0
    l1 = table["l1_6"].to_pylist()
    assert l1[0] == l1[3] != l1[1] == l1[2]
    for images in ((), (str(tmp_path / "photos"),)):
        originals = find_originals(job.out, images)
        assert [item.image for item in originals] == table["image"].to_pylist()
        assert [(Path(item.path).name, item.view) for item in originals][1] == ("img_0.png", "flip")
    with pytest.raises(InputError, match="cuts corners"):
        list(tokenize(TokenizeJob(job.paths, tmp_path / "u.parquet", model, "cpu", fit="pad", views="ten-crop")))
    with pytest.raises(InputError, match="as it is"):
        list(tokenize(TokenizeJob(job.paths, tmp_path / "u.parquet", model, "cpu", fit="centre", views="ten-crop")))
