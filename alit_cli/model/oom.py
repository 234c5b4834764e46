"""What happens when a batch does not fit into memory: from then on it is done in two halves, and the run reports it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from alit_cli.errors import AlitError

Work = Callable[..., tuple[Tensor, ...]]


class SplitOnOOM:
    """Runs work on batches; when memory runs out for the first time, batches are halved for good.

    Attributes:
        halved: whether that has happened.
    """

    def __init__(self) -> None:
        self.halved = False

    def __call__(self, work: Work, *batch: Tensor) -> tuple[Tensor, ...]:
        """`work` on tensors of b rows each, giving tensors of b rows each.

        Raises:
            AlitError: half a batch does not fit either.
        """
        if not self.halved:
            try:
                return work(*batch)
            except Exception as problem:
                if not out_of_memory(problem):
                    raise
            self.halved = True  # outside `except`: the traceback held on to the tensors
            if batch[0].is_cuda:
                torch.cuda.empty_cache()
        return self._in_halves(work, *batch)

    def _in_halves(self, work: Work, *batch: Tensor) -> tuple[Tensor, ...]:
        rows = len(batch[0])
        half = (rows + 1) // 2
        # Both halves have one shape, so a batch of an odd number of rows is filled up with zeros.
        padded = [torch.cat([part, part.new_zeros(2 * half - rows, *part.shape[1:])]) for part in batch]
        try:
            pieces = [work(*[part[start : start + half] for part in padded]) for start in (0, half)]
        except Exception as problem:
            if not out_of_memory(problem):
                raise
            raise AlitError(
                f"There is not enough memory for {half} images at a time; give a --batch-size below {half}."
            ) from problem
        return tuple(torch.cat(parts)[:rows] for parts in zip(*pieces, strict=True))


def out_of_memory(problem: Exception) -> bool:
    """Whether an error of torch, on any device, means that memory has run out."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    # On a CPU torch raises a plain RuntimeError, whose words depend on the allocator.
    return isinstance(problem, RuntimeError) and any(
        words in str(problem) for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
