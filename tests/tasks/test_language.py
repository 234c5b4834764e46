"""Answers and captions through a real BLIP with random weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request
from alit_cli.tasks.language import build, plain
from tests.tasks import networks
from tests.tasks.networks import smooth_images

BATCH = Batch(smooth_images(), np.arange(3))


@pytest.fixture(scope="module")
def blips(asked: Request, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Its model is a folder of two models."""
    root = tmp_path_factory.mktemp("blip")
    networks.blip(root / "answers", answers=True)
    networks.blip(root / "captions", answers=False)
    return dataclasses.replace(asked, model=str(root))


def _with(request: Request, kind: str, questions: Path | None) -> Request:
    return dataclasses.replace(request, model=f"{request.model}/{kind}", questions=questions)


def test_the_original_answers_as_it_answers(blips: Request, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("image,question\na.jpg,what is this ?\na.jpg,is this a cat ?\nb.jpg,a red dog ?\n")
    task = build(_with(blips, "answers", tmp_path / "q.csv"))
    assert not task.measures[0].original
    seen, originals = task.look(BATCH)
    assert originals == {}
    assert task.score(seen, BATCH.images, 2)["answer_agreement"] == [1, 1, None]
    assert all(line.answer for some in seen for line in some)
    changed = [[dataclasses.replace(line, answer="something else") for line in some[:1]] + some[1:] for some in seen]
    assert task.score(changed, BATCH.images, 2)["answer_agreement"] == [0.5, 0, None]


def test_given_answers_are_blips_of_the_original_too_and_of_every_image(blips: Request, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer\nwhat is this ?,no such answer\n")
    task = build(_with(blips, "answers", tmp_path / "q.csv"))
    assert task.look(BATCH)[1]["answer_agreement_original"] == [0, 0, 0]


def test_a_captions_likelihood_is_the_models(blips: Request, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("image,caption\na.jpg,a photo of the cat\na.jpg,a red dog\nc.jpg,a dog\n")
    task = build(_with(blips, "captions", tmp_path / "c.csv"))
    seen, originals = task.look(BATCH)
    found = originals["caption_loglik_original"]
    assert found[1] is None
    assert task.score(seen, BATCH.images, 2)["caption_loglik"] == found
    words = {word: number for number, word in enumerate(networks.WORDS)}
    ids = torch.tensor([[words["[DEC]"], words["a"], words["dog"], words["[SEP]"]]])
    with torch.no_grad():
        logits = task.network.model(pixel_values=(BATCH.images[2:] - 0.5) / 0.5, input_ids=ids).logits[0]
    each = logits[:-1].log_softmax(dim=1)[range(3), ids[0, 1:]]
    assert found[2] == pytest.approx(float(each.mean()), rel=1e-4)


def test_without_a_file_the_model_writes_the_caption_itself(blips: Request) -> None:
    task = build(_with(blips, "captions", None))
    seen, originals = task.look(BATCH)
    assert all(len(some) == 1 for some in seen)
    assert all(value < 0 for value in originals["caption_loglik_original"])
    assert task.score(seen, BATCH.images, 2)["caption_loglik"] == originals["caption_loglik_original"]


def test_what_is_missing_is_said(blips: Request, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--questions"):
        build(_with(blips, "answers", None))
    (tmp_path / "q.csv").write_text("image,question\nz.jpg,what ?\n")
    with pytest.raises(InputError, match=r"None of the questions .*z\.jpg"):
        build(_with(blips, "answers", tmp_path / "q.csv"))
    (tmp_path / "q.csv").write_text("image,taste\na.jpg,sweet\n")
    with pytest.raises(InputError, match="'question'"):
        build(_with(blips, "answers", tmp_path / "q.csv"))
    networks.classifier(tmp_path / "c", ["a", "b"])
    with pytest.raises(InputError, match="ResNetForImageClassification"):
        build(dataclasses.replace(blips, model=str(tmp_path / "c")))


def test_capitals_articles_and_signs_do_not_count() -> None:
    assert plain(" The red-Dog. ") == plain("red dog") == "red dog"
