"""Whether a classifier still knows what is in the picture: rank and probability of the true class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alit_cli.data.annotations.labels import labels_of_file
from alit_cli.data.tables.score_table import Kind, Measure
from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request, Task, Values, digest_of
from alit_cli.tasks.network import Network, load_network

FOLDERS = "folders"
NO_CLASS = -1
"""Stands for the class of an image whose label is not known."""


class Classify(Task[Tensor]):
    """The rank of the true class among all (1 is the first guess), its probability, and which class is the first guess.

    Without labels the classifier's first guess on the original image stands for the truth, and the column
    `label_source` says so. An image whose label is not known has no numbers.
    """

    measures = (
        Measure("class_rank", "int32", original=True),
        Measure("class_prob", original=True),
        Measure("class_guess", "string", original=True),
    )
    extras: Mapping[str, Kind] = {"label": "string", "label_source": "string"}

    def __init__(self, network: Network, classes: NDArray[np.int64] | None, label_source: str) -> None:
        self.network, self.classes, self.label_source = network, classes, label_source
        self.names: Mapping[int, str] = network.model.config.id2label
        digest = None if classes is None else digest_of(classes.tolist())
        self.options = {"network": network.digest, "labels": label_source, "labels_digest": digest}

    def look(self, batch: Batch) -> tuple[Tensor, Values]:
        """The true class of each image, b, NO_CLASS where there is none; its rank and probability on the original."""
        logits = self._logits(batch.images)
        if self.classes is None:
            truth = logits.argmax(dim=1)
        else:
            truth = torch.from_numpy(self.classes[batch.rows]).to(logits.device)
        numbers = [int(number) for number in truth]
        values: dict[str, list[Any]] = {f"{name}_original": value for name, value in self._judge(logits, truth).items()}
        values["label"] = [None if number == NO_CLASS else self.names[number] for number in numbers]
        values["label_source"] = [None if number == NO_CLASS else self.label_source for number in numbers]
        return truth, values

    def score(self, seen: Tensor, pictures: Tensor, budget: int) -> Values:
        """Rank and probability of the true class, and the first guess."""
        return self._judge(self._logits(pictures), seen)

    def _judge(self, logits: Tensor, truth: Tensor) -> dict[str, list[Any]]:
        """The measures of b images. The first guess is known also where the true class is not."""
        # argmax would take a NaN for the largest value. An image with such a logit gets None below, as in `_judge`.
        guesses = [self.names[int(guess)] for guess in logits.nan_to_num(-torch.inf).argmax(dim=1)]
        finite = logits.isfinite().all(dim=1).tolist()
        named = [guess if fine else None for guess, fine in zip(guesses, finite, strict=True)]
        return {**_judge(logits, truth), "class_guess": named}

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network.model(pixel_values=self.network.pixels(images)).logits
        return logits.float()


def build(request: Request) -> Classify:
    """The task, every label found among the classes of the network."""
    network = load_network(request, "AutoModelForImageClassification")
    if request.labels is None:
        return Classify(network, None, "predicted")
    if request.labels == FOLDERS:
        labels = folder_labels(request.images)
    else:
        # A file may say nothing about some images; they have no class and no numbers, which is no error.
        label_of = labels_of_file(Path(request.labels), request.images).of
        labels = [label_of.get(image) for image in request.images]
    if not any(labels):
        raise InputError("No image of the table lies in a folder that could name its class: give a file with --labels.")
    classes = find_classes(labels, network.model.config.id2label)
    return Classify(network, classes, "folder" if request.labels == FOLDERS else "given")


def folder_labels(images: Sequence[str]) -> list[str | None]:
    """The name of the folder that each image lies in; None for one that lies in none."""
    return [PurePosixPath(image).parent.name or None for image in images]


def find_classes(labels: Sequence[str | None], names: Mapping[int, str]) -> NDArray[np.int64]:
    """The class of each label in a classifier's table of names; NO_CLASS for None.

    A label is the number of a class, its name, or one of the names that commas part ('tench, Tinca tinca'), without
    regard to case, underscores and signs; a WordNet id before it ('n01440764_tench') may be there or not.

    Raises:
        InputError: a label is no class of the network, or could be several.
    """
    written = {label for label in labels if label is not None}
    numbers = {str(number): int(number) for number in names}
    # Labels are class numbers only where all of them are: otherwise a number among names is a name too.
    if written and all(label in numbers for label in written):
        class_of = {label: numbers[label] for label in written}
    else:
        spellings = _spellings(names)
        candidates = {label: _lookup(label, spellings) for label in written}
        shared = sorted(label for label, classes in candidates.items() if len(classes) > 1)
        if shared:
            classes = " and ".join(str(number) for number in sorted(candidates[shared[0]]))
            raise InputError(
                f"'{shared[0]}' is the name of several classes of the model ({classes}): write their numbers or full "
                "names as labels."
            )
        # Every set has one class now, or none; labels without a class are reported below, all at once.
        class_of = {label: next(iter(classes)) for label, classes in candidates.items() if classes}
    strangers = sorted(written - class_of.keys())
    if strangers:
        more = f" and {len(strangers) - 3} more labels" if len(strangers) > 3 else ""
        shown = ", ".join(f"'{name}'" for name in strangers[:3])
        raise InputError(
            f"{shown}{more} name no class of the model; its {len(names)} classes are called like "
            f"{', '.join(repr(str(name)) for name in list(names.values())[:3])}."
        )
    return np.array([NO_CLASS if label is None else class_of[label] for label in labels], np.int64)


def _spellings(names: Mapping[int, str]) -> dict[str, set[int]]:
    """Every plain spelling and the classes that it may mean.

    A whole name means the classes that are called so, and no others that have it between their commas: 'crane' is the
    class 'crane' where there also is one called 'crane, bird'.
    """
    whole: dict[str, set[int]] = {}
    parts: dict[str, set[int]] = {}
    for number, name in names.items():
        whole.setdefault(_plain(name), set()).add(int(number))
        for part in str(name).split(","):
            parts.setdefault(_plain(part), set()).add(int(number))
    # The right side of | wins: a whole name hides the classes that only have it between their commas.
    return parts | whole


def _lookup(label: str, spellings: Mapping[str, set[int]]) -> set[int]:
    """The classes that a label may mean; a WordNet id before it is tried, then left out."""
    plain = _plain(label)
    wordnet = re.fullmatch(r"(n\d{8})\s*(.*)", plain)
    first_name = _plain(label.partition(",")[0])
    # The order matters: a spelling that is exactly a class wins over a WordNet id or a part of a longer name.
    tries = [plain, *(wordnet.groups() if wordnet else ()), first_name]
    return next((spellings[spelling] for spelling in tries if spelling in spellings), set())


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", str(name)).strip().casefold()


def _judge(logits: Tensor, truth: Tensor) -> dict[str, list[int | float | None]]:
    """Rank (1 + classes that are likelier, or as likely and before it) and probability of the true class."""
    # NO_CLASS is negative and no index for gather: it reads class 0 instead, and `known` drops the result.
    known = ((truth != NO_CLASS) & logits.isfinite().all(dim=1)).tolist()
    index = truth.clamp(min=0)[:, None]
    ours, number = logits.gather(1, index), torch.arange(logits.shape[1], device=logits.device)
    # Of equal logits the first class comes first, as in argmax, so that rank 1 always is the first guess.
    rank = ((logits > ours) | ((logits == ours) & (number < index))).sum(dim=1) + 1
    probability = logits.softmax(dim=1).gather(1, index)[:, 0]
    return {
        "class_rank": [value if there else None for value, there in zip(rank.tolist(), known, strict=True)],
        "class_prob": [value if there else None for value, there in zip(probability.tolist(), known, strict=True)],
    }
