"""Pooled vectors of whole images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.pooled import raw_pixels
from alit_cli.errors import InputError
from alit_cli.jobs.probe import ProbeJob, encode_pooled
from alit_cli.model.checkpoint import Record
from alit_cli.model.tokenizer import Tokenizer
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture
def tokenizer() -> Tokenizer:
    model = tiny.model()
    return Tokenizer(model, Record(model.config, ("base",)), "0" * 64, torch.device("cpu"), "float32")


def test_pools_are_means_of_the_encoders_output(tmp_path: Path, tokenizer: Tokenizer) -> None:
    photos = write_photos(tmp_path, 3)
    (tmp_path / "bad.png").write_bytes(b"")
    job = ProbeJob(list_items([tmp_path]), iterations=(2, 1), first=3, batch_size=2)
    records = list(encode_pooled(tokenizer, job))
    found = [record.value for record in records if record.value]
    assert [record.problem for record in records if record.problem] == ["bad.png: The file is empty."]
    assert [pooled.image for pooled in found] == [photo.name for photo in photos]
    with Image.open(photos[1]) as image:
        pixels = tokenizer.as_pixels([image])
    state = tokenizer.start(pixels)
    for index in range(3):
        state, _ = tokenizer.advance(state)
        if index == 0:
            continue
        x = state.x[0].numpy()
        for values, part in ((found[1].latents, x[17:]), (found[1].first, x[17:20]), (found[1].grid, x[1:17])):
            np.testing.assert_allclose(values[index - 1], part.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(found[1].together(index - 1), x[1:].mean(axis=0), atol=1e-5)
    assert (found[1].iterations, found[1].tokens) == ((1, 2), (4, 6))
    shown = (pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    np.testing.assert_allclose(found[1].pixels, raw_pixels(shown))


def test_more_first_latents_than_there_are_is_an_error(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_photos(tmp_path, 1)
    with pytest.raises(InputError, match="There are 2 latent tokens at iteration 0, not 3"):
        next(encode_pooled(tokenizer, ProbeJob(list_items([tmp_path]), first=3)))
