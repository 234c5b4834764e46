"""The sample pictures are small, all listed, and all accounted for."""

from pathlib import Path

import pytest
from PIL import Image

from alit_cli.analysis.studies.complexity_scores import read_scores

FOLDER = Path(__file__).parents[2] / "sample_data"
PICTURES = sorted((FOLDER / "images").iterdir())


def test_scores_and_pictures_are_the_same_set() -> None:
    scores = read_scores(FOLDER / "complexity.csv")
    assert sorted(scores.images) == [path.name for path in PICTURES]
    assert scores.columns == ("image", "score", "category")


def test_there_are_a_dozen_or_two_and_they_are_small() -> None:
    sizes = [path.stat().st_size for path in PICTURES]
    assert 12 <= len(sizes) <= 24
    assert max(sizes) <= 40 * 1024
    assert sum(sizes) <= 600 * 1024


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_each_picture_opens_and_has_a_source(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()
        assert min(picture.size) == 256
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text()
