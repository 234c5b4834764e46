"""The processes of one training run: one alone, or many started by torchrun, `accelerate launch` or Slurm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from alit_cli.model.device import choose_device

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: the main one may decode all photographs before the first step."""


@dataclass(frozen=True)
class Distributed:
    """Who we are among the processes, and what has to be agreed on.

    Every process holds the same weights and works on its own rows of each batch. Together they take the steps that one
    process would take, up to the rounding of float sums: what is drawn belongs to the row (plan.py), and what a critic
    needs of the whole batch is summed (stages/batch_norm.py, stages/pixel_loss.py).

    Attributes:
        rank: our number, from 0; process 0 writes files and prints.
        world_size: how many processes there are.
        device: where this one computes.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @staticmethod
    def join(device: str = "auto") -> Distributed:
        """Join the process group that the launcher's variables describe (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR).

        Raises:
            InputError: the device is not on this machine.
        """
        chosen = choose_device(device)
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return Distributed(device=chosen)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(chosen)  # NCCL takes the current device
        if not dist.is_initialized():
            # Of a GPU's processes, tensors on the CPU go through gloo: who waits for another process then waits without
            # NCCL, whose kernels and watchdogs expect answers soon, and without draining its own GPU.
            dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
        return Distributed(dist.get_rank(), world_size, chosen)

    def leave(self) -> None:
        """Close the process group at the end of a run."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def shard(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of a batch's rows."""
        return rows[self.rank :: self.world_size]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.all_reduce(torch.zeros(1))

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, *tensors: Tensor) -> None:
        """Give every process the main one's values, after a change outside the optimizer."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], scalars: Tensor) -> Tensor:
        """Sum gradients over all processes, in place, and `scalars` with them; returns the sums of the scalars.

        This is ours and not DistributedDataParallel for three reasons. DDP divides by the number of processes and so
        assumes equal parts, while a batch of 14 on 4 processes has parts of 4 and 3: here each loss is weighted by its
        part, and n processes take the steps that one would take. All goes in one message, in float32 and in one order,
        so that a resumed run repeats it to the bit. And the losses travel along for nothing. The price is that
        communication does not overlap with the backward pass.
        """
        if self.world_size == 1:
            return scalars
        # A parameter that the step does not use has no gradient, in any process, since the plan decides what is used.
        # It keeps none: with zeros, weight decay would move it here and nowhere else.
        parameters = [p for p in parameters if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        message = torch.cat([scalars.float(), *(g.flatten().float() for g in gradients)])
        dist.all_reduce(message)
        parts: list[Tensor] = list(message.split([len(scalars), *(g.numel() for g in gradients)]))
        sums = parts.pop(0)
        for parameter, part in zip(parameters, parts, strict=True):
            # In the layout of its parameter (channels-last convolutions): fused optimizers read both alike, and a
            # contiguous gradient would be refused on a GPU and applied to the wrong weights on a CPU.
            parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))
        return sums
