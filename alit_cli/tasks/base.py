"""What a task is: it looks at a batch of originals once, then gives numbers for each reconstruction of them."""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alit_cli.data.tables.score_table import Kind, Measure
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.model.tokenizer import Tokenizer

Seen = TypeVar("Seen")
Values = Mapping[str, Sequence[Any] | NDArray[Any]]
"""One value for every image of a batch, by the name of its measure or column; None and NaN mean unknown."""


# There is no generated comparison (eq=False), because == of tensors and arrays gives no single True or False.
@dataclass(frozen=True, eq=False)
class Batch:
    """Originals as the tokenizer saw them.

    Attributes:
        images: b 3 h w in [0, 1], on the tokenizer's device.
        rows: where each stands in the token table, b.
    """

    images: Tensor
    rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Everything that a task may want to know; each takes what it needs.

    Attributes:
        tokenizer, info: the model that made the tokens, and what the token table says of itself.
        images: the keys of the token table, in its order.
        model: a hub id, a folder or a file of the task's network; '' for a task without one.
        threads: does the work outside torch. All tasks share it, and whoever made the request ends it.
        workers: how many threads that are.
        labels: a file of labels, or 'folders'; None takes what the network says of the original.
        depth_maps, depth_unit: a folder of maps, and what a number in them means.
        questions: a file of questions or captions.
        lpips: weight files.
        codec: the name of another codec whose pictures are scored; '' for the tokens' own reconstructions.
    """

    tokenizer: Tokenizer
    info: TableInfo
    images: Sequence[str]
    threads: Executor
    model: str = ""
    workers: int = 1
    labels: str | None = None
    depth_maps: Path | None = None
    depth_unit: str | None = None
    questions: Path | None = None
    lpips: Sequence[Path] = ()
    codec: str = ""


class Task(ABC, Generic[Seen]):
    """Numbers about reconstructions.

    Attributes:
        measures: what `score` gives, one column per budget; those with `original` are given by `look` too.
        extras: what `look` gives besides, one column each.
        options: what else decides the numbers, as JSON knows it.
        reconstructions: whether the task looks at them at all; where none does, nothing is decoded.
    """

    measures: tuple[Measure, ...]
    extras: Mapping[str, Kind] = {}
    options: Mapping[str, Any] = {}
    reconstructions = True

    @abstractmethod
    def look(self, batch: Batch) -> tuple[Seen, Values]:
        """What the reconstructions will be compared with, and the values of `<measure>_original` and of the extras."""

    @abstractmethod
    def score(self, seen: Seen, pictures: Tensor, budget: int) -> Values:
        """The measures of a batch's reconstructions from so many tokens.

        Args:
            seen: what `look` made of the originals.
            pictures: b 3 h w, clamped to [0, 1]; the originals themselves where `reconstructions` is False.
            budget: tokens per image; 0 for the pictures of another codec.
        """


def digest_of(content: Any) -> str | None:
    """What tells labels, maps or questions apart in a table's description: 16 hex of their sha256; None for None."""
    # repr says everything about the lists, strings and dataclasses of labels, maps and questions, and 64 bits of the
    # hash are enough to tell two files apart; nobody needs it to be safe against an attacker.
    return None if content is None else hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def build_task(name: str, request: Request) -> Task[Any]:
    """The task of this name. Raises InputError for a network or a file that cannot be used."""
    # Only the module of the wanted task is imported: some need optional packages, and some are slow to import.
    task: Task[Any] = importlib.import_module(f"alit_cli.tasks.{name}").build(request)
    return task
