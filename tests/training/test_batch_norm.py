"""Batch normalization across processes is that of one process with all rows: outputs, gradients, running statistics."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from alit_cli.training.distributed import Distributed
from alit_cli.training.stages.batch_norm import SyncBatchNorm


@dataclass(frozen=True)
class Threads(Distributed):
    """Two processes, played by two threads that add up through a list."""

    barrier_of_both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    given: list[Tensor] = field(default_factory=list)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of what both threads give."""
        self.given.append(tensor.clone())
        self.barrier_of_both.wait(timeout=60)
        total = torch.stack(self.given).sum(dim=0)
        if self.barrier_of_both.wait(timeout=60) == 0:
            self.given.clear()
        self.barrier_of_both.wait(timeout=60)
        return tensor.copy_(total)


def test_two_processes_normalize_like_one() -> None:
    rng = torch.Generator().manual_seed(0)
    # Far from 0, where E[x²] − mean² would lose all digits, and in unequal parts.
    images, target = 100 + torch.randn(5, 3, 4, 4, generator=rng), torch.randn(5, 3, 4, 4, generator=rng)
    alone = nn.BatchNorm2d(3)
    nn.init.normal_(alone.weight, generator=rng)
    together = Threads(world_size=2)

    def work(rows: slice) -> tuple[SyncBatchNorm, Tensor, Tensor]:
        layer = SyncBatchNorm(3, together)
        layer.load_state_dict(alone.state_dict())
        x = images[rows].clone().requires_grad_(True)
        for _ in range(2):  # running statistics of more than one batch
            out = layer(x)
        loss = (out - target[rows]).square().mean() * len(x) / len(images)
        loss.backward()
        assert x.grad is not None
        return layer, out.detach(), x.grad

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(work, [slice(0, 3), slice(3, 5)]))
    whole = images.clone().requires_grad_(True)
    for _ in range(2):
        out = alone(whole)
    (out - target).square().mean().backward()
    torch.testing.assert_close(torch.cat([made for _, made, _ in parts]), out.detach(), rtol=1e-4, atol=1e-4)
    assert whole.grad is not None
    torch.testing.assert_close(torch.cat([gradient for _, _, gradient in parts]), whole.grad, rtol=1e-4, atol=1e-6)
    for layer, _, _ in parts:
        torch.testing.assert_close(layer.state_dict(), alone.state_dict())
    weights = [layer.weight.grad for layer, _, _ in parts]
    assert weights[0] is not None and weights[1] is not None
    torch.testing.assert_close(weights[0] + weights[1], alone.weight.grad, rtol=1e-4, atol=1e-5)
