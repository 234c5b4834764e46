"""Labels find their class however they are written; rank and probability are the classifier's."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request
from alit_cli.tasks.classify import Classify, _judge, build, find_classes, folder_labels
from tests.tasks import networks
from tests.tasks.networks import smooth_images

NAMES = [
    "tench, Tinca tinca",
    "Persian cat",
    "crane",
    "crane, bird",
    "maillot",
    "maillot, tank suit",
    "West_Highland terrier",
]


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("tench", 0),
        ("Tinca_Tinca", 0),
        ("tench, Tinca tinca", 0),
        ("persian-cat", 1),
        ("n02123394_Persian_cat", 1),
        ("n02123394", None),
        ("crane, bird", 3),
        ("bird", 3),
        ("west highland Terrier", 6),
        ("dog", None),
    ],
)
def test_a_label_finds_its_class(label: str, number: int | None) -> None:
    names = dict(enumerate(NAMES))
    if number is None:
        with pytest.raises(InputError, match=f"'{label}' name no class"):
            find_classes([label], names)
    else:
        assert find_classes([label, None], names).tolist() == [number, -1]


def test_numbers_are_classes_only_where_all_labels_are_numbers() -> None:
    assert find_classes(["2", None, "0"], dict(enumerate("abc"))).tolist() == [2, -1, 0]
    assert find_classes(["1", "x"], {0: "1", 1: "x"}).tolist() == [0, 1]
    with pytest.raises(InputError, match="'7' name no class"):
        find_classes(["7", "1"], dict(enumerate("abc")))


def test_a_name_that_two_classes_share_is_refused_as_a_label_but_their_numbers_are_not() -> None:
    names = {134: "crane", 517: "crane", 0: "tench, Tinca tinca"}
    with pytest.raises(InputError, match=r"'crane' is the name of several classes of the model \(134 and 517\)"):
        find_classes(["crane", "tench"], names)
    assert find_classes(["134", "517"], names).tolist() == [134, 517]
    assert find_classes(["tench"], names).tolist() == [0]


NETWORKS = Path(__file__).parents[3] / "shared" / "networks"


@pytest.mark.skipif(not NETWORKS.is_dir(), reason="the MobileNets are not here")
def test_ranks_by_number_by_full_name_and_by_first_name_are_the_same(asked: Request, tmp_path: Path) -> None:
    folder = NETWORKS / "mobilenet_v1_0.25_128"
    names = {int(number): name for number, name in json.loads((folder / "config.json").read_text())["id2label"].items()}
    unique = [number for number, name in names.items() if list(names.values()).count(name) == 1][:3]
    written = ([str(number) for number in unique], [names[number] for number in unique])
    ranks = []
    for labels in (*written, [name.partition(",")[0] for name in written[1]]):
        lines = [f'{row},"{label}"' for row, label in enumerate(labels)]
        (tmp_path / "labels.csv").write_text("\n".join(["image,label", *lines]))
        request = dataclasses.replace(
            asked, images=["0", "1", "2"], model=str(folder), labels=str(tmp_path / "labels.csv")
        )
        ranks.append(_score(build(request))[1]["class_rank"])
    assert ranks[0] == ranks[1] == ranks[2]
    (tmp_path / "labels.csv").write_text("image,label\n0,crane\n")
    with pytest.raises(InputError, match=r"'crane' is the name of several classes of the model \(134 and 517\)"):
        build(dataclasses.replace(request, labels=str(tmp_path / "labels.csv")))


def test_a_network_stored_in_half_precision_is_computed_with_in_single_precision(
    made: tuple[Any, Request], tmp_path: Path
) -> None:
    model, request = made
    model.half().save_pretrained(tmp_path)
    model.float()
    networks.processor(tmp_path)
    _, expected = _score(build(dataclasses.replace(request, labels="folders")))
    _, found = _score(build(dataclasses.replace(request, labels="folders", model=str(tmp_path))))
    np.testing.assert_allclose(found["class_prob"][:2], expected["class_prob"][:2], rtol=0.02)


def test_labels_of_folders() -> None:
    assert folder_labels(["dog/1.jpg", "a/cat/2.jpg", "3.jpg"]) == ["dog", "cat", None]


@pytest.fixture(scope="module")
def made(asked: Request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Request]:
    folder = tmp_path_factory.mktemp("classifier")
    model = networks.classifier(folder, NAMES)
    return model, dataclasses.replace(asked, images=["tench/1", "Persian_cat/2", "3"], model=str(folder))


def _score(task: Classify) -> tuple[dict[str, Any], dict[str, Any]]:
    images = smooth_images()
    seen, originals = task.look(Batch(images, np.arange(3)))
    return dict(originals), dict(task.score(seen, 1 - images, 2))


def test_rank_and_probability_of_the_true_class(made: tuple[Any, Request]) -> None:
    model, request = made
    with pytest.raises(InputError, match="folder"):
        build(dataclasses.replace(request, labels="folders", images=["1", "2", "3"]))
    originals, found = _score(build(dataclasses.replace(request, labels="folders")))
    images = smooth_images()
    inputs = torch.from_numpy(np.stack([(255 * (1 - one)).round().numpy() / 255 for one in images]).astype(np.float32))
    with torch.no_grad():
        logits = model(pixel_values=(inputs - 0.5) / 0.5).logits
    for row, truth in enumerate((0, 1)):
        order = logits[row].argsort(descending=True).tolist()
        assert found["class_rank"][row] == order.index(truth) + 1
        assert found["class_guess"][row] == NAMES[order[0]]
        assert found["class_prob"][row] == pytest.approx(float(logits[row].softmax(0)[truth]), rel=1e-4)
    for value in (found["class_rank"], found["class_prob"], originals["class_rank_original"], originals["label"]):
        assert value[2] is None
    assert found["class_guess"][2] in NAMES  # what it sees is known without a label too
    assert originals["label"][:2] == ["tench, Tinca tinca", "Persian cat"]
    assert originals["label_source"] == ["folder", "folder", None]


def test_without_labels_the_first_guess_on_the_original_is_the_truth(made: tuple[Any, Request]) -> None:
    originals, found = _score(build(made[1]))
    assert originals["class_rank_original"] == [1, 1, 1]
    assert originals["label_source"] == ["predicted"] * 3
    assert set(originals["label"]) <= set(NAMES)
    assert all(1 <= rank <= len(NAMES) for rank in found["class_rank"])


def test_ties_and_broken_logits_flatter_no_classifier() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [math.nan, 0.0, 0.0]])
    assert _judge(logits, torch.tensor([2, 1, 0]))["class_rank"] == [3, 1, None]


def test_a_backbone_without_a_trained_head_is_refused(made: tuple[Any, Request], tmp_path: Path) -> None:
    networks.vit(tmp_path)
    with pytest.raises(InputError, match="no trained weights for 'classifier"):
        build(dataclasses.replace(made[1], model=str(tmp_path)))
