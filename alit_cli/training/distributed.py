"""The processes of one training run: one alone, or many started by `accelerate launch`, `torchrun` or Slurm."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from alit_cli.model.device import choose_device


class Processes:
    """Who we are among them, and what has to be agreed on.

    Every process holds the same weights and works on its own rows of each batch; gradients are averaged in one
    message a step, so that n processes take the steps that one would take.

    Attributes:
        rank: our number, from 0; process 0 writes files and speaks.
        count: how many there are.
        device: where this one computes.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.count = 0, 1
        self.device = choose_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState  # starts the process group that the launcher's variables describe

            state = PartialState(cpu=self.device.type == "cpu")
            self.rank, self.count = state.process_index, state.num_processes
            if self.device.type != "cpu":  # accelerate numbers CPUs too, and torch.load does not know cpu:0
                self.device = state.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of a batch's rows."""
        return rows[self.rank :: self.count]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Sequence[nn.Parameter], extra: Tensor) -> Tensor:
        """Sum gradients over all processes, in place, and `extra` (a few scalars) with them; gives its sum."""
        if self.count == 1:
            return extra
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        message = torch.cat([extra.float(), *(g.flatten().float() for g in gradients)])
        dist.all_reduce(message)
        parts: list[Tensor] = list(message.split([len(extra), *(g.numel() for g in gradients)]))
        head = parts.pop(0)
        for parameter, gradient, part in zip(parameters, gradients, parts, strict=True):
            parameter.grad = part.view_as(gradient).to(gradient.dtype)
        return head

    def same(self, module: nn.Module) -> None:
        """Give every process the main one's weights, after a change outside the optimizer."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)
