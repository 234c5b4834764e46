"""Early stop per image that saves the compute: images leave a rollout as they are done, and others take their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from alit_cli.model.losses import l1_per_image
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.tokenizer_model import State

if TYPE_CHECKING:  # Tokenizer.encode stops early by this module, so at run time it imports it
    from alit_cli.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Finished:
    """An image that has left.

    Attributes:
        index: its number in the order in which images came.
        tokens: k ids (or k c latents) of every wanted budget it reached, smallest first, on the CPU.
        l1: the reconstruction errors beside them.
    """

    index: int
    tokens: tuple[Tensor, ...]
    l1: tuple[float, ...]


@dataclass(frozen=True)
class _Waiting:
    """An image between two iterations: its number, its pixels, and its row of the state."""

    index: int
    pixels: Tensor
    x: Tensor


@dataclass
class _Result:
    """What is known of an image so far: tokens and errors, one of each per wanted budget."""

    tokens: list[Tensor] = field(default_factory=list)
    l1: list[float] = field(default_factory=list)


class RolloutScheduler:
    """Rollouts of many images, each up to the first budget whose L1 is below a threshold.

    As language models are served by continuous batching, the unit of work is one iteration of one full batch: there
    is a queue for every iteration, the deepest full one goes first, and new images are taken in only when none is
    full. At the end the shallowest goes first, so that its survivors fill up the next.

    Args:
        tokenizer: the model.
        budgets: the budgets that are read out and tested; an image that is never below gets the largest.
        threshold: an image is done at the first budget whose L1 (float32) is strictly below.
        batch_size: images per batch.
        halving: how batches are run that do not fit into memory.
        padded: every batch is filled up to one shape, so that no bit of an image's result depends on any other image.
            Otherwise a batch is as small as the images that are left for it.

    Attributes:
        advanced: iterations of single images that were run so far.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        budgets: Sequence[int],
        threshold: float,
        batch_size: int,
        halving: SplitOnOOM | None = None,
        padded: bool = True,
    ) -> None:
        self.halving = halving or SplitOnOOM()
        self.padded = padded
        # The L1 is float32 and so is the threshold, so that an L1 equal to the threshold never counts as below it.
        self.tokenizer, self.threshold, self.batch_size = tokenizer, np.float32(threshold), batch_size
        self.budgets = set(budgets)
        self.iterations = tokenizer.budgets.index(max(budgets)) + 1
        self.advanced = 0
        # One queue for every iteration that an image can wait for.
        self._queues: list[list[_Waiting]] = [[] for _ in range(self.iterations)]
        self._results: dict[int, _Result] = {}

    def run_batch(self, pixels: Tensor) -> Iterator[list[Finished]]:
        """The same as run for one batch of at most batch_size images that as_pixels has made, b 3 S S."""
        self._enter(range(len(pixels)), pixels)
        yield from self.run(())

    def run(self, pixels: Iterable[np.ndarray]) -> Iterator[list[Finished]]:
        """h w 3 uint8 images of the model's size → those done after each iteration of a batch (may be none)."""
        incoming = enumerate(pixels)
        more = True
        while True:
            full = [t for t, queue in enumerate(self._queues) if len(queue) >= self.batch_size]
            if full:
                # The deepest full queue goes first, which keeps the number of images in memory small.
                yield self._advance(full[-1])
            elif more:
                # No queue is full here, so the first one has room for one image at least.
                more = self._admit(list(islice(incoming, self.batch_size - len(self._queues[0]))))
            elif waiting := [t for t, queue in enumerate(self._queues) if queue]:
                yield self._advance(waiting[0])
            else:
                return

    def _admit(self, images: list[tuple[int, np.ndarray]]) -> bool:
        """Queue new images for the first iteration; returns whether there were any."""
        if images:
            raw = self._padded(np.stack([image for _, image in images]))
            self._enter([index for index, _ in images], self.tokenizer.as_pixels(raw))
        return bool(images)

    def _enter(self, indices: Sequence[int], pixels: Tensor) -> None:
        """Start a batch, whose first rows are the images of these numbers, and queue them for the first iteration."""
        with self._stance(len(pixels)):
            (x,) = self.halving(lambda part: (self.tokenizer.start(part).x,), pixels)
        for row, index in enumerate(indices):
            self._results[index] = _Result()
            self._push(0, index, pixels[row].clone(), x[row])

    def _advance(self, t: int) -> list[Finished]:
        """One iteration of the images at the head of a queue; those that are done leave."""
        queue = self._queues[t]
        batch, self._queues[t] = queue[: self.batch_size], queue[self.batch_size :]
        count = len(batch)
        self.advanced += count
        rows = self._rows(count)
        before = _stack([image.x for image in batch], rows)
        with self._stance(rows):
            x, tokens, vectors = self.halving(lambda part: self._iteration(t, part), before)
        last = t + 1 == self.iterations
        done = [last] * count
        # Between two wanted budgets there is nothing to store and nothing to decide, so nothing is decoded.
        if self.tokenizer.budgets[t] in self.budgets:
            pixels = _stack([image.pixels for image in batch], rows)
            with self._stance(rows):
                (errors,) = self.halving(self._errors, vectors, pixels)
            l1 = errors.cpu().numpy()[:count]
            for image, own_tokens, error in zip(batch, tokens.cpu()[:count], l1, strict=True):
                self._results[image.index].tokens.append(own_tokens)
                self._results[image.index].l1.append(float(error))
            done = [last or bool(below) for below in l1 < self.threshold]
        for row, image in enumerate(batch):
            if not done[row]:
                self._push(t + 1, image.index, image.pixels, x[row])
        return [self._finish(image.index) for row, image in enumerate(batch) if done[row]]

    def _iteration(self, t: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One iteration of a batch: its next state, its tokens, and what the decoder is fed."""
        state, latents = self.tokenizer.advance(State(x, t))
        return state.x, latents.tokens, latents.vectors

    def _errors(self, vectors: Tensor, pixels: Tensor) -> tuple[Tensor]:
        return (l1_per_image(self.tokenizer.reconstruct(vectors), pixels),)

    def _push(self, t: int, index: int, pixels: Tensor, x: Tensor) -> None:
        # A row is a view that keeps its whole batch in memory; a copy lets the batch go as its other images leave.
        self._queues[t].append(_Waiting(index, pixels, x.clone()))

    def _finish(self, index: int) -> Finished:
        # An image that has left is forgotten, so that memory holds only those on their way.
        result = self._results.pop(index)
        return Finished(index, tuple(result.tokens), tuple(result.l1))

    def _rows(self, count: int) -> int:
        """The least rows of a batch of so many images."""
        return padded_rows(count, self.batch_size, self.tokenizer.device) if self.padded else 0

    def _stance(self, rows: int) -> AbstractContextManager[object]:
        return eager_if_smaller(rows, self.batch_size, self.tokenizer.device)

    def _padded(self, pixels: np.ndarray) -> np.ndarray:
        missing = max(0, self._rows(len(pixels)) - len(pixels))
        return np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))


def padded_rows(count: int, batch_size: int, device: torch.device) -> int:
    """Rows that a batch of `count` images is filled up to with zeros.

    On a CPU all batches have one shape, of two rows at least, because a product of one row is rounded otherwise. So no
    bit of a row depends on its neighbours. It is cheap, because batches are small there.

    On a GPU a batch is large, and the last one of a shard may hold a few images: it has the next power of two. Which
    images it holds is fixed by the plan, so that a resumed run makes the same rows, whoever computes them.
    """
    if device.type == "cpu":
        return max(batch_size, 2)
    return min(batch_size, 1 << (count - 1).bit_length())


def eager_if_smaller(rows: int, batch_size: int, device: torch.device) -> AbstractContextManager[object]:
    """The context of a batch that was filled up to so many rows.

    Compiled blocks take their shape from full batches. Compiling them again for every smaller one would take longer
    than they do, so those run eagerly.
    """
    smaller = device.type == "cuda" and rows < batch_size
    return torch.compiler.set_stance("force_eager") if smaller else contextlib.nullcontext()


def to_storage(tokens: Tensor, discrete: bool) -> np.ndarray:
    """Latents.tokens as tables keep them: b k uint16 ids (discrete), or b k c float16 latents."""
    if discrete:
        # Few operations of torch know uint16, so NumPy makes the last step.
        return tokens.to("cpu", torch.int32).numpy().astype(np.uint16)
    return tokens.to("cpu", torch.float16).numpy()


def _stack(rows: list[Tensor], least: int) -> Tensor:
    """Rows as one batch, filled up with zeros to the least size that it may have."""
    batch = rows[0].new_zeros(max(least, len(rows)), *rows[0].shape)
    # The rows are written in place; stacking and padding one after the other would hold the batch twice.
    torch.stack(rows, out=batch[: len(rows)])
    return batch
