"""Batch normalization over the rows of all processes, so that it does not matter how many share a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from alit_cli.training.distributed import Distributed


class SyncBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose mean and variance, in training, are those of the whole batch.

    torch's own SyncBatchNorm runs on CUDA alone. This one needs only an all-reduce, so every device and every test on a
    CPU takes the same steps. Its weights have the names of nn.BatchNorm2d. Each process must hold at least one row, and
    a loss must be weighted by the process's part of the batch before its gradient is taken: gradients that cross from
    the rows of one process to those of another are sums over processes.

    Args:
        channels: of the maps it normalizes.
        distributed: who shares a batch.
    """

    def __init__(self, channels: int, distributed: Distributed) -> None:
        super().__init__(channels)
        self.distributed = distributed

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c h w."""
        if not self.training or self.distributed.world_size == 1:
            return super().forward(x)
        statistics: tuple[Tensor, Tensor, Tensor, Tensor]
        statistics = _Normalize.apply(x.float(), self.eps, self.distributed)  # type: ignore[no-untyped-call]
        normalized, mean, variance, count = statistics
        self._follow(mean, variance, count)
        out: Tensor = normalized * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics, as nn.BatchNorm2d does: that of the variance is the unbiased one."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        self.num_batches_tracked += 1


class _Normalize(torch.autograd.Function):
    """(x − mean) / deviation over b, h, w of all processes; also mean and variance (c) and how many values they are of.

    The backward pass is that of BatchNorm (Ioffe & Szegedy, 2015), with its two sums taken over all processes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, distributed: Distributed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x: b c h w in float32."""
        here = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums = distributed.all_reduce(torch.cat([x.sum(dim=(0, 2, 3)), here]))
        count = sums[-1]
        mean = sums[:-1] / count
        # A second all-reduce and not E[x²] − mean², which cancels where the mean is large.
        centred = x - mean[:, None, None]
        variance = distributed.all_reduce(centred.square().sum(dim=(0, 2, 3))) / count
        inverse = (variance + eps).rsqrt()
        normalized = centred * inverse[:, None, None]
        ctx.save_for_backward(normalized, inverse, count)
        ctx.distributed = distributed
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of x; those of mean, variance and count do not exist."""
        normalized, inverse, count = ctx.saved_tensors
        gradient = gradients[0]
        sums = torch.cat([gradient.sum(dim=(0, 2, 3)), (gradient * normalized).sum(dim=(0, 2, 3))])
        shift, slope = (ctx.distributed.all_reduce(sums) / count).chunk(2)
        along = shift[:, None, None] + normalized * slope[:, None, None]
        return inverse[:, None, None] * (gradient - along), None, None
