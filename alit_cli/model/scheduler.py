"""Early stop per image that saves the compute: images leave a rollout as they are done, and others take their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from alit_cli.model.losses import l1_per_image
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.model.tokenizer_model import State


@dataclass(frozen=True)
class Finished:
    """An image that has left.

    Attributes:
        index: its number in the order in which images came.
        tokens: stored tokens of every wanted budget it reached, smallest first (uint16 ids, or float16 latents).
        l1: the reconstruction errors beside them.
    """

    index: int
    tokens: tuple[np.ndarray, ...]
    l1: tuple[float, ...]


@dataclass
class _Queue:
    """Images that wait for one iteration: their numbers, pixels and states, row by row."""

    indices: list[int] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)
    x: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, count: int) -> tuple[list[int], list[Tensor], list[Tensor]]:
        """Remove and give the first rows."""
        taken = self.indices[:count], self.pixels[:count], self.x[:count]
        self.indices, self.pixels, self.x = self.indices[count:], self.pixels[count:], self.x[count:]
        return taken


class RolloutScheduler:
    """Rollouts of many images, each up to the first budget whose L1 is below a threshold.

    As language models are served by continuous batching, the unit of work is one iteration of one full batch: there
    is a queue for every iteration, the deepest full one goes first, and new images are taken in only when none is
    full. At the end the shallowest goes first, so that its survivors fill up the next. Every batch has one shape, so
    the result of an image depends on no other.

    Args:
        tokenizer: the model.
        budgets: the budgets that are read out and tested; an image that is never below gets the largest.
        threshold: an image is done at the first budget whose L1 (float32) is strictly below.
        batch_size: images a batch.
        halving: how batches are run that do not fit into memory.

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
    ) -> None:
        self.halving = halving or SplitOnOOM()
        self.rows = padded_batch_size(batch_size, tokenizer.device)
        self.tokenizer, self.threshold, self.batch_size = tokenizer, np.float32(threshold), batch_size
        self.budgets = set(budgets)
        self.iterations = tokenizer.config.budgets.index(max(budgets)) + 1
        self.advanced = 0
        self._queues = [_Queue() for _ in range(self.iterations)]
        self._results: dict[int, tuple[list[np.ndarray], list[float]]] = {}

    def run(self, pixels: Iterable[np.ndarray]) -> Iterator[list[Finished]]:
        """h w 3 uint8 images of the model's size → those done after each iteration of a batch (may be none)."""
        incoming = enumerate(pixels)
        more = True
        while True:
            full = [t for t, queue in enumerate(self._queues) if len(queue) >= self.batch_size]
            if full:
                yield self._advance(full[-1])
            elif more:
                more = self._admit(list(islice(incoming, self.batch_size - len(self._queues[0]))))
            elif waiting := [t for t, queue in enumerate(self._queues) if queue]:
                yield self._advance(waiting[0])
            else:
                return

    def _admit(self, images: list[tuple[int, np.ndarray]]) -> bool:
        """Queue new images for the first iteration; whether there were any."""
        if images:
            pixels = self.tokenizer.as_pixels(self._padded(np.stack([image for _, image in images])))
            (x,) = self.halving(lambda part: (self.tokenizer.start(part).x,), pixels)
            for row, (index, _) in enumerate(images):
                self._results[index] = ([], [])
                self._push(0, index, pixels[row], x[row])
        return bool(images)

    def _advance(self, t: int) -> list[Finished]:
        indices, pixels, x = self._queues[t].take(self.batch_size)
        count = len(indices)
        self.advanced += count
        both = _stack(x, self.rows), _stack(pixels, self.rows)
        advanced, *read = self.halving(lambda x, pixels: self._iteration(t, x, pixels), *both)
        last = t + 1 == self.iterations
        done = [last] * count
        if read:
            tokens = to_storage(read[0], self.tokenizer.config.codes > 0)[:count]
            l1 = read[1].cpu().numpy()[:count]
            for index, row, error in zip(indices, tokens, l1, strict=True):
                self._results[index][0].append(row)
                self._results[index][1].append(float(error))
            done = [last or bool(below) for below in l1 < self.threshold]
        for row, index in enumerate(indices):
            if not done[row]:
                self._push(t + 1, index, pixels[row], advanced[row])
        return [self._finish(index) for row, index in enumerate(indices) if done[row]]

    def _iteration(self, t: int, x: Tensor, pixels: Tensor) -> tuple[Tensor, ...]:
        """One iteration of a batch: its next state, and at a wanted budget its tokens and errors."""
        state, latents = self.tokenizer.advance(State(x, t))
        if latents.budget not in self.budgets:
            return (state.x,)
        return state.x, latents.tokens, l1_per_image(self.tokenizer.reconstruct(latents.vectors), pixels)

    def _push(self, t: int, index: int, pixels: Tensor, x: Tensor) -> None:
        queue = self._queues[t]
        queue.indices.append(index)
        queue.pixels.append(pixels)
        queue.x.append(x)

    def _finish(self, index: int) -> Finished:
        tokens, l1 = self._results.pop(index)
        return Finished(index, tuple(tokens), tuple(l1))

    def _padded(self, pixels: np.ndarray) -> np.ndarray:
        missing = self.rows - len(pixels)
        return np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))


def padded_batch_size(batch_size: int, device: torch.device) -> int:
    """Rows of every batch, filled up with zeros; two at least on a CPU, which rounds a product of one row otherwise."""
    return max(batch_size, 2) if device.type == "cpu" else batch_size


def to_storage(tokens: Tensor, discrete: bool) -> np.ndarray:
    """Latents.tokens as tables keep them: b k uint16 ids (discrete), or b k c float16 latents."""
    if discrete:
        return tokens.to("cpu", torch.int32).numpy().astype(np.uint16)
    return tokens.to("cpu", torch.float16).numpy()


def _stack(rows: list[Tensor], size: int) -> Tensor:
    """Rows as one batch, filled up with zeros to its fixed size."""
    batch = rows[0].new_zeros(size, *rows[0].shape)
    torch.stack(rows, out=batch[: len(rows)])
    return batch
