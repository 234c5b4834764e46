"""`alit analyze attention` as one types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Alit, Refused
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture
def here(here: Path) -> Path:
    """Three photographs, masks of two of them, and a tiny model."""
    Path("masks").mkdir()
    for index, photo in enumerate(write_photos(Path("images"), 3)[:2]):
        mask = np.zeros((40, 40 + index), np.uint8)
        mask[: 10 * (index + 1), :20], mask[-3:] = 255, 1
        Image.fromarray(mask).save(f"masks/{photo.stem}.png")
    tiny.checkpoint(here).rename("tiny.safetensors")
    return here


def test_maps_and_binding_are_printed_and_written(here: Path, alit: Alit) -> None:
    words = "analyze attention images --masks masks -c tiny.safetensors --ignore 9 --sheets 1 --npz --format svg"
    result = alit(*words.split())
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Maps of the tokens, means over 3 images"
    assert lines[1].split() == ["tokens", "2", "4", "6"]
    assert "mIoU of the best token per segment, all tokens (2 images, 4 segments)" in lines
    assert "mIoU of the best token per segment, the first 2 tokens (2 images, 4 segments)" in lines
    assert sum(line.strip().startswith("chance") for line in lines) == 8
    assert sum("chance." in line for line in lines) == 2
    names = ["attention.csv", "attention.parquet", "attention.svg", "sheets/img_0.svg", "maps", "first_tokens.svg"]
    assert lines[-len(names) :] == [f"study/attention/{name}" for name in names]
    assert "2 of 3 images have one of the 2 masks" in result.stderr
    assert "img_2.png" in result.stderr
    figure = Path("study/attention/attention.svg").read_text()
    assert figure.startswith("<?xml")
    for region in ("40 % of positions", "60 % of positions", "80 % of positions", "best for each image"):
        assert f"<!-- Region: {region} -->" in figure
    assert "<!-- 3 images, 2 of them with masks of 4 segments" in figure


def test_json_and_chosen_iterations(here: Path, alit: Alit) -> None:
    Path("a.toml").write_text('iterations = [0, 2]\nkeep = [50]\nsheets = 0\nmasks = "masks"')
    words = "analyze attention images -c tiny.safetensors --config a.toml --json -q --out new"
    result = alit(*words.split())
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["images"] == 3
    assert {row["tokens"] for row in found["rows"]} == {2, 6}
    assert {row["measure"] for row in found["rows"]} >= {"iou_all_50", "chance_first_50", "gain_all_best"}
    assert found["files"] == [f"new/attention.{suffix}" for suffix in ("csv", "parquet", "png")]
    assert result.stderr == ""


def test_colour_masks_of_imagenet_s_are_read(here: Path, alit: Alit) -> None:
    """They hold R + 256·G, and 1000 is to be ignored: one image has two classes, the other nothing but void."""
    ids = np.zeros((40, 41), np.int64)
    ids[:, :20], ids[:10, 20:], ids[10:20, 20:] = 919, 255, 1000
    for number, values in enumerate((ids[:, :40], np.full_like(ids, 1000))):
        colours = np.stack([values % 256, values // 256, np.zeros_like(values)], axis=2)
        Image.fromarray(colours.astype(np.uint8)).save(f"masks/img_{number}.png")
    words = ["analyze", "attention", "images", "--masks", "masks", "-c", "tiny.safetensors", "--sheets", "0"]
    result = alit(*words)
    assert result.exit_code == 0, result.stderr
    assert "(1 images, 2 segments)" in result.stdout
    assert "cannot be used" not in result.stderr


def test_masks_that_cannot_be_used_are_counted_and_one_is_named(here: Path, alit: Alit) -> None:
    Path("masks/img_1.png").write_bytes(b"no picture")
    words = ["analyze", "attention", "images", "--masks", "masks", "-c", "tiny.safetensors", "--sheets", "0"]
    result = alit(*words)
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "1 of 3 images have a mask that cannot be used, and count only for the maps: The mask 'img_1.png'" in said
    assert "1 images have no mask" in said
    assert "(1 images, 1 segments)" in result.stdout
    found = json.loads(alit(*words, "--json").stdout)
    assert (list(found["unreadable_masks"]), found["without_mask"]) == (["img_1.png"], ["img_2.png"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("images --layer 9", "--layer is one of -2 … 1"),
        ("images --iterations 7", "iterations 0 … 2, not 7"),
        ("images --iterations some", "'some' is not a whole number"),
        ("images --keep 40,120", "between 0 and 100"),
        ("images --keep much", "'much' is not a number"),
        ("images --masks nowhere", "'nowhere' does not exist"),
        ("images --masks images/img_2.png", "holds colours"),
        ("images --masks strangers", "None of the 1 masks belongs to an image"),
        ("nothing", "'nothing' does not exist"),
        ("images --out tiny.safetensors", "cannot be written"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(words: str, sentence: str, here: Path, refused: Refused) -> None:
    Path("strangers").mkdir()
    Image.new("L", (4, 4)).save("strangers/x.png")
    refused(sentence, "analyze", "attention", *words.split(), "-c", "tiny.safetensors", "-q", "--sheets", "0")


def test_a_folder_of_bad_files_is_said(here: Path, alit: Alit) -> None:
    Path("bad").mkdir()
    Path("bad/a.png").write_bytes(b"no")
    result = alit(*["analyze", "attention", "bad", "-c", "tiny.safetensors"])
    assert result.exit_code == 2
    assert "a.png: The file is not an image" in result.stderr
    assert "None of the images could be read" in result.stderr
