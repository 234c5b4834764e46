"""`alit analyze probe` as one types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Alit, Refused
from tests.model import tiny


@pytest.fixture
def here(here: Path) -> Path:
    """Bright and dark pictures in a folder each, and a tiny model."""
    rng = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        Path("photos", name).mkdir(parents=True)
        for index in range(8):
            pixels = rng.integers(low, low + 100, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{name}{index}.png")
    tiny.checkpoint(here).rename("tiny.safetensors")
    return here


def test_probes_are_printed_and_written(here: Path, alit: Alit) -> None:
    words = "analyze probe photos -c tiny.safetensors --pool latents,both --iterations 0,2 --folds 2 --format pdf"
    result = alit(*words.split())
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["tokens", "2", "6"]
    assert lines[2].split()[0] == "latents"
    assert lines[3].strip().startswith("latents and image tokens")
    assert lines[4] == "raw pixels: 1.000 (0.806 … 1.000); chance: 0.500"
    assert lines[5].startswith("latents at 6 tokens: ")
    assert lines[-3:] == [f"study/probe/probe.{suffix}" for suffix in ("csv", "parquet", "pdf")]
    assert "16 of 16 images have a label, 2 classes, from the folders' names." in result.stderr


def test_labels_from_a_file_and_json(here: Path, alit: Alit) -> None:
    rows = [f"{path.name},{path.stem[:-1]}" for path in sorted(here.glob("photos/*/*"))][1:]
    Path("l.csv").write_text("\n".join(["image,label", *rows, "gone.png,dark"]))
    words = "analyze probe photos -c tiny.safetensors --labels l.csv --pool image --iterations 0 --folds 2 --json"
    result = alit(*words.split())
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["images"], found["classes"]) == (15, ["bright", "dark"])
    assert [probe["pool"] for probe in found["probes"]] == ["pixels", "image"]
    assert "1 labels have found no image." in result.stderr


def test_probes_are_tested_on_images_of_a_validation_set(here: Path, alit: Alit) -> None:
    (here / "held").mkdir()
    for name in ("bright", "dark"):
        (here / "held" / name).mkdir()
        for index in range(3):  # the same names as in the training set
            (here / f"photos/{name}/{name}{index}.png").rename(here / f"held/{name}/{name}{index}.png")
    words = "analyze probe photos --validation held -c tiny.safetensors --pool latents,all --iterations 2 --json"
    result = alit(*words.split())
    assert result.exit_code == 0, result.stderr
    probes = json.loads(result.stdout)["probes"]
    assert [(probe["pool"], probe["images"]) for probe in probes] == [("pixels", 6), ("latents", 6), ("all", 6)]
    assert all(len(probe["penalties"]) == 1 for probe in probes)
    assert probes[0]["accuracy"] == 1
    assert probes[0]["chance"] == 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("photos/dark", "lies in no folder"),
        ("photos --labels none.csv", "There is no file none.csv with the labels"),
        ("photos --pool tokens", "'tokens' is none of latents, first, image, both, all"),
        ("photos --validation other", "The class 'grey' is among the validation images but not"),
        ("photos --folds 9", "has 8 images, fewer than the 9 folds"),
        ("photos --iterations 3", "iterations 0 … 2, not 3"),
        ("photos --first 5", "There are 2 latent tokens at iteration 0, not 5"),
        ("photos --out tiny.safetensors", "cannot be written"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(words: str, sentence: str, here: Path, refused: Refused) -> None:
    Path("other/grey").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save("other/grey/1.png")
    refused(sentence, "analyze", "probe", *words.split(), "-c", "tiny.safetensors", "-q")
