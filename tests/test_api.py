"""alit in Python: a model encodes paths and single images, tables and selections are data frames."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos

# An installed alit has this package as `alit`; in a checkout it is `alit_cli.api`.
api: Any = importlib.import_module("alit" if importlib.util.find_spec("alit") else "alit_cli.api")


def test_a_path_an_image_and_a_list_of_them_have_the_same_tokens(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    first, second = sorted((tmp_path / "photos").iterdir())
    tokenizer = api.load(tiny.checkpoint(tmp_path), device="cpu")
    (expected, other) = tokenizer.encode([Image.open(first), Image.open(second)])
    for images in (first, str(first), Image.open(first), [first]):
        (tokens,) = tokenizer.encode(images)
        assert torch.equal(tokens, expected)
    assert torch.equal(tokenizer.encode([first, second])[1], other)
    pixels = tokenizer.as_pixels(first)
    (tokens,) = tokenizer.encode((pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    assert torch.equal(tokens, expected)
    assert torch.equal(tokenizer.encode(pixels[0])[0], expected)
    assert "\n" not in repr(tokenizer)
    assert len(repr(tokenizer)) < 120


def test_tables_and_selections_are_data_frames(tmp_path: Path, alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "bad.jpg").write_text("no picture")
    words = ("--checkpoint", tiny.checkpoint(tmp_path), "--device", "cpu", "--max-error-rate", 1)
    assert alit("tokenize", "photos", *words).exit_code == 0
    table = api.read_table("tokens.parquet", ["image", "status"])
    assert (table.status == "ok").sum() == 3
    threshold = float(np.nanmin(api.read_table("tokens.parquet").filter(like="l1_").to_numpy(np.float64))) * 1.2
    assert alit("select", "--thr", threshold).exit_code == 0
    expected = api.read_table("selection.parquet", ["image", "n_tokens", "satisfied"])
    assert api.select("tokens.parquet", "recon", thr=threshold).astype(object).equals(expected.astype(object))
