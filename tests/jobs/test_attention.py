"""Attention of whole images: the recorded numbers, any batch, what a model does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.token_maps import TokenMaps
from alit_cli.errors import InputError
from alit_cli.jobs.attention import AttentionJob, attend
from alit_cli.model.checkpoint import Record
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer import Tokenizer
from tests.model import golden, tiny
from tests.training.photos import write_photos


def tokenizer_of(model: Alit) -> Tokenizer:
    return Tokenizer(model, Record(model.config, ("base",)), "0" * 64, torch.device("cpu"), "float32")


def maps_of(tokenizer: Tokenizer, job: AttentionJob) -> list[TokenMaps]:
    return [found.value for found in attend(tokenizer, job) if found.value]


@pytest.mark.slow
def test_files_give_the_attention_that_the_authors_code_gave(tmp_path: Path) -> None:
    pixels = np.load(golden.FOLDER / "images_uint8.npy")[0]
    Image.fromarray(pixels).save(tmp_path / "astronaut.png")
    tokenizer = tokenizer_of(golden.model("vae_quantized"))
    (found,) = maps_of(tokenizer, AttentionJob(list_items([tmp_path]), layer=-1, iterations=(2,)))
    assert (found.pixels == pixels).all()
    assert found.iterations == (2,)
    recorded = golden.recorded("vae_quantized")["attention_iter2_last_layer"]  # positions × tokens
    (maps,) = found.maps
    assert maps.shape == (96, 16, 16)
    np.testing.assert_allclose(maps.reshape(96, 256).T, recorded, atol=1e-5)


def test_any_batch_size_and_layer_name_gives_the_same_maps(tmp_path: Path) -> None:
    write_photos(tmp_path, 5)
    items, tokenizer = list_items([tmp_path]), tokenizer_of(tiny.model())
    one, five = (maps_of(tokenizer, AttentionJob(items, batch_size=size)) for size in (1, 5))
    other_name = maps_of(tokenizer, AttentionJob(items, layer=0, decoded=2))
    for a, b, c in zip(one, five, other_name, strict=True):
        assert a.tokens == (2, 4, 6)
        assert a.first == 2
        for first, second, third in zip(a.maps, b.maps, c.maps, strict=True):
            np.testing.assert_allclose(first, second, atol=1e-6)
            np.testing.assert_allclose(first, third, atol=1e-6)  # layer 0 of 2 is layer -2
            assert 0 < first.sum(axis=0).max() < 1
    assert [len(maps.decoded) for maps in other_name] == [3, 3, 0, 0, 0]


@pytest.mark.parametrize(("options", "sentence"), [({"layer": 2}, "-2 … 1"), ({"iterations": (1, 3)}, "0 … 2, not 3")])
def test_what_the_model_does_not_have_is_named(tmp_path: Path, options: dict[str, object], sentence: str) -> None:
    write_photos(tmp_path, 1)
    job = AttentionJob(list_items([tmp_path]), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=sentence):
        next(attend(tokenizer_of(tiny.model()), job))
