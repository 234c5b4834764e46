"""Pictures with their problems: full batches, in order, every image exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from alit_cli.data.pictures.fitting import Picture
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.jobs.reading.batches import ImageRecord, pixels_of, through_model
from tests.training.photos import write_photos

PROBLEMS = {
    "img_1.png": "img_1.png: The file is empty.",
    "img_4.png": "img_4.png: The file is not an image, or is damaged from its beginning.",
}
GOOD = ["img_0.png", "img_2.png", "img_3.png", "img_5.png", "img_6.png"]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Seven images, of which one is empty and one is no image."""
    write_photos(tmp_path, 7)
    (tmp_path / "img_1.png").write_bytes(b"")
    (tmp_path / "img_4.png").write_bytes(b"no picture")
    return list(list_items([tmp_path]))


class Model:
    """Says each picture's name, and remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], int]] = []

    def __call__(self, pictures: Sequence[Picture], before: int) -> list[str]:
        self.batches.append(([picture.image for picture in pictures], before))
        assert [pixels.shape for pixels in pixels_of(pictures)] == [(16, 16, 3)] * len(pictures)
        return [picture.image for picture in pictures]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_every_image_is_a_value_or_a_problem(items: list[Item], batch_size: int) -> None:
    model = Model()
    records = list(through_model(items, 16, batch_size, model))
    assert [found.value for found in records if found.value] == GOOD
    assert [found.problem for found in records if found.problem] == list(PROBLEMS.values())
    assert all((found.value is None) != (found.problem is None) for found in records[1:])
    assert (records[0].value, records[0].problem) == (None, None)
    assert [found.progress.done for found in records] == [*range(8)]
    assert (records[-1].progress.total, records[-1].progress.failed) == (7, 2)
    names = [name for batch, _ in model.batches for name in batch]
    assert names == GOOD
    assert [before for _, before in model.batches] == [*range(0, 5, batch_size)]
    assert {len(batch) for batch, _ in model.batches[:-1]} <= {batch_size}


def test_a_problem_does_not_wait_for_a_batch_and_the_model_not_for_all_images(items: list[Item]) -> None:
    model = Model()
    records: list[ImageRecord[str]] = []
    for found in through_model(items, 16, 2, model):
        records.append(found)
        if found.value:
            break
    assert [found.problem for found in records] == [None, PROBLEMS["img_1.png"], None]
    assert model.batches == [(["img_0.png", "img_2.png"], 0)]


def test_the_last_images_may_all_be_bad(items: list[Item]) -> None:
    bad = [items[0], items[1], items[4]]
    records = list(through_model(bad, 16, 2, Model()))  # the batch is still waiting when the last one fails
    assert [found.value for found in records if found.value] == ["img_0.png"]
    assert records[-1].progress.done == 3
    assert [found.progress.failed for found in through_model(bad[1:], 16, 2, Model())] == [0, 1, 2]
