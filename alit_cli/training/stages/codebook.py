"""A codebook that stays in use: filled from real latents, its unused codes moved to where latents are.

The authors' codebook starts uniform and is left to itself. With small batches, most of its codes would never be used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alit_cli.progress import Progress
from alit_cli.training.distributed import Distributed

KMEANS_POINTS = 40_000
"""About ten points per code of the 1D codebook; more make k-means slower and no better."""
KMEANS_ROUNDS = 10
NOTE = "k-means of the codebook"
REVIVE_EVERY = 100
"""Steps between two revivals: long enough that a code in use is seen."""
SETTLED_FROM = 0.9
"""Share of the steps after which no code is moved any more, so that the decoder can settle on them."""


class CodebookKeeper:
    """Fills a codebook by k-means, counts which codes are used, and moves unused ones to vectors that occur.

    Args:
        codes: size of the codebook.
        unit: whether codes and vectors are compared on the unit sphere (the 1D codebook) or as they are (a VQGAN's).
        distributed: whose counts are added up.
    """

    def __init__(self, codes: int, unit: bool, distributed: Distributed) -> None:
        self.unit, self.distributed = unit, distributed
        self.counts = torch.zeros(codes, dtype=torch.int64, device=distributed.device)

    def count(self, ids: Tensor) -> None:
        """Count used ids (any shape), on their device: a step waits for no GPU."""
        used = ids.flatten()
        self.counts = self.counts.to(used.device)
        self.counts.index_add_(0, used, torch.ones_like(used))

    def usage(self) -> Tensor:
        """Share of codes that this process used since the last revival."""
        return (self.counts > 0).float().mean()

    def due(self, step: int, begin: int, steps: int) -> bool:
        """Whether to revive before a step; `begin` is the step from which the codebook is in use."""
        return step > begin and (step - begin) % REVIVE_EVERY == 0 and step < SETTLED_FROM * steps

    @torch.no_grad()
    def fill(self, chunks: Iterable[Tensor], tables: Sequence[Tensor]) -> Iterator[Progress]:
        """Put every code (v c, in each of `tables`) on a k-means centre of the points in chunks (s c each).

        Yields: a report after every chunk and every round of k-means. The tables change after the last.
        """
        from scipy.cluster.vq import kmeans2

        collected: list[Tensor] = []
        for chunk in chunks:
            collected.append(self._placed(chunk).cpu())
            yield Progress(sum(map(len, collected)), 0, "latents", note="for the codebook")
        points = torch.cat(collected).numpy()
        v = len(self.counts)
        if len(points) < v:  # k-means needs a point per code, and a few photographs may have fewer
            points = np.concatenate([points] * (1 + v // len(points)))
        start: dict[str, Any] = {"k": v, "minit": "points", "rng": 0}
        for done in range(KMEANS_ROUNDS):
            yield Progress(done, KMEANS_ROUNDS, "rounds", note=NOTE)
            with warnings.catch_warnings():  # an empty cluster keeps its centre; unused codes are revived later
                warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
                centres, _ = kmeans2(points, **start, iter=1)
            start = {"k": centres, "minit": "matrix"}
        yield Progress(KMEANS_ROUNDS, KMEANS_ROUNDS, "rounds", note=NOTE)
        for table in tables:
            table.copy_(self._placed(torch.from_numpy(centres)))
        self.distributed.broadcast(*(table.detach() for table in tables))

    @torch.no_grad()
    def revive(self, chunks: Iterable[Tensor], tables: Sequence[Tensor]) -> None:
        """Put every code that no process used since the last call on a random one of the points in chunks (s c each).

        The main process alone reads the chunks; the others get its codes.
        """
        used = self.distributed.all_reduce(self.counts.clone()).cpu()
        unused = (used == 0).nonzero().squeeze(1)
        self.counts.zero_()
        if self.distributed.is_main and len(unused):
            points = torch.cat(list(chunks))
            # From torch's generator, which the loop has seeded for this step.
            chosen = self._placed(points[torch.randint(len(points), (len(unused),))])
            for table in tables:
                table[unused] = chosen.to(table)
        self.distributed.broadcast(*(table.detach() for table in tables))

    def _placed(self, points: Tensor) -> Tensor:
        return F.normalize(points.float(), dim=-1) if self.unit else points.float()
