"""A codebook that stays alive: filled from real latents, its unused codes moved to where latents are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alit_cli.progress import Progress
from alit_cli.training.distributed import Processes

KMEANS_POINTS = 40_000
KMEANS_ROUNDS = 10
NOTE = "k-means of the codebook"
REVIVE_EVERY = 100
"""Steps between two revivals."""


class CodebookKeeper:
    """Fills a codebook by k-means, counts which codes are used, and moves unused ones to vectors that occur.

    Args:
        codes: size of the codebook.
        unit: whether codes and vectors are compared on the unit sphere (the 1D codebook) or as they are (a VQGAN's).
        processes: whose counts are added up.
    """

    def __init__(self, codes: int, unit: bool, processes: Processes) -> None:
        self.unit, self.processes = unit, processes
        self.counts = torch.zeros(codes, dtype=torch.int64)

    def see(self, ids: Tensor) -> None:
        """Count used ids (any shape)."""
        self.counts += torch.bincount(ids.flatten().cpu(), minlength=len(self.counts))

    def usage(self) -> Tensor:
        """Share of codes that this process used since the last revival."""
        return (self.counts > 0).float().mean()

    def due(self, step: int, begin: int, steps: int) -> bool:
        """Whether to revive now: regularly after `begin`, but not in the last tenth, so that the codes can settle."""
        return step > begin and (step - begin) % REVIVE_EVERY == 0 and step < 0.9 * steps

    @torch.no_grad()
    def fill(self, chunks: Iterable[Tensor], tables: Sequence[Tensor]) -> Iterator[Progress]:
        """Put every code (v c, in each of `tables`) on a k-means centre of the points in chunks (s c each).

        Yields after every chunk and every round of k-means; the tables change after the last.
        """
        from scipy.cluster.vq import kmeans2

        found: list[Tensor] = []
        for chunk in chunks:
            found.append(self._placed(chunk).cpu())
            yield Progress(sum(map(len, found)), 0, "latents", note="for the codebook")
        places = torch.cat(found).numpy()
        v = len(self.counts)
        if len(places) < v:
            places = np.concatenate([places] * (1 + v // len(places)))
        start: dict[str, Any] = {"k": v, "minit": "points", "rng": 0}
        for done in range(KMEANS_ROUNDS):
            yield Progress(done, KMEANS_ROUNDS, "rounds", note=NOTE)
            with warnings.catch_warnings():  # an empty cluster keeps its centre; unused codes are revived later
                warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
                centres, _ = kmeans2(places, **start, iter=1)
            start = {"k": centres, "minit": "matrix"}
        yield Progress(KMEANS_ROUNDS, KMEANS_ROUNDS, "rounds", note=NOTE)
        for table in tables:
            table.copy_(self._placed(torch.from_numpy(centres)))

    @torch.no_grad()
    def revive(self, points: Tensor, tables: Sequence[Tensor]) -> None:
        """Put every code unused since the last call on a random one of points (s c)."""
        used = self.processes.add(self.counts.to(self.processes.device)).cpu()
        dead = (used == 0).nonzero().squeeze(1)
        fresh = self._placed(points[torch.randint(len(points), (len(dead),))])
        for table in tables:
            table[dead] = fresh.to(table)
        self.counts.zero_()

    def _placed(self, points: Tensor) -> Tensor:
        return F.normalize(points.float(), dim=-1) if self.unit else points.float()
