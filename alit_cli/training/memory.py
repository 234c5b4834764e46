"""How much memory a training step takes, found before the first one: a step of tensors that have sizes but no values.

The real stage takes a step with a model of fake tensors (torch's FakeTensorMode), forward and backward, in a second or
two and without memory. A tracker adds up the buffers that are alive. What no counting sees: the space of convolution
algorithms, fragmentation, and a GPU's context of about half a GiB.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alit_cli.config import ModelConfig, StageName
from alit_cli.model.device import Precision, autocast
from alit_cli.model.layers import Attention
from alit_cli.model.lpips import Lpips
from alit_cli.model.rollout import Alit
from alit_cli.model.tiles import apart_everywhere
from alit_cli.progress import counted
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.optimizers import Optimizers
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.base import BaseStage
from alit_cli.training.stages.critic import PatchCritic
from alit_cli.training.stages.finetune import FinetuneStage
from alit_cli.training.stages.stage import Stage

MakeStage = Callable[[Alit, Recipe, CropDataset, Distributed], Stage]
FLOAT = 4
"""Bytes of a float32: weights, gradients and optimizer are kept in it, whatever a step computes in."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes in one process.

    Attributes:
        weights: the model, its average, and networks that training adds (critics, LPIPS).
        optimizer: the optimizers' states, and the gradients of critics.
        step: the most that one step has alive beside these: activations, gradients, the photographs.
    """

    weights: int
    optimizer: int
    step: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.step


@dataclass(frozen=True)
class MemoryPlan:
    """What a stage needs, and whether it checkpoints.

    Attributes:
        checkpointing: whether it does.
        sentence: for the user.
    """

    checkpointing: bool
    sentence: str


def plan_memory(stage: Stage, rows: int, precision: Precision) -> MemoryPlan:
    """Estimate a step of a stage that is about to run; `auto` checkpoints where it would not fit otherwise.

    Args:
        stage: its model is on its device already.
        rows: photographs at a time in one process.
        precision: of the stage.
    """
    name, config, recipe = stage.name, stage.model.config, stage.recipe
    device = stage.distributed.device
    try:
        plain, light = step_memory(type(stage), name, config, recipe, rows, device.type == "cuda", precision)
    # Fake tensors are no public part of torch. Whatever may happen to them must not keep anybody from training.
    except Exception as problem:
        return MemoryPlan(recipe.checkpointing == "on", f"{name}: its memory cannot be estimated ({problem})")
    sentence = (
        f"{name}: about {_gib(plain.total)} per process for {counted(rows, 'photograph')} at a time; "
        f"with checkpointing {_gib(light.total)}"
    )
    # The model itself is there already. A tenth is left for what no counting sees.
    there = _size(stage.model)
    free = free_memory(device)
    fits = free is None or plain.total - there < 0.9 * free
    on = recipe.checkpointing == "on" or (recipe.checkpointing == "auto" and not fits)
    if on:
        sentence += "; it is on"
    if free is not None and (light if on else plain).total - there > 0.9 * free:
        more = 2 * recipe.stage(name).accumulate
        cure = f"--accumulate {more}" if on else "--checkpointing on"
        sentence += f". Only {_gib(free)} are free; if that is not enough, give {cure}"
    return MemoryPlan(on, sentence)


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may take on its device; None where the system does not say."""
    if device.type == "cuda":
        # What torch has reserved and does not use is free to us, too.
        ours = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + ours
    # The processes that a launcher started on this machine share it.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024 // processes
    except (OSError, KeyError, ValueError):  # no Linux
        return None


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all buffers that operations make in this block, while they live.

    Attributes:
        now: bytes alive.
        peak: the most that were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what it made."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return out

    def ignore(self, module: nn.Module) -> None:
        """Do not count the weights of a network, which were there before."""
        for tensor in [*module.parameters(), *module.buffers()]:
            self._see(tensor.untyped_storage(), counted=False)

    def _see(self, storage: torch.UntypedStorage, counted: bool = True) -> None:
        place = storage._cdata
        if place in self.known:
            return
        size = storage.nbytes() if counted else 0

        def freed(_: object) -> None:
            self.now -= size
            self.known.pop(place, None)

        self.known[place] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


class NoCrops(CropDataset):
    """Photographs that nobody reads; too many for their features to be cached."""

    photos, per_photo = 1 << 40, 1

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Never called."""
        raise NotImplementedError


def step_memory(
    make: MakeStage, name: StageName, config: ModelConfig, recipe: Recipe, rows: int, gpu: bool, precision: Precision
) -> Iterator[StepMemory]:
    """The memory of a step without gradient checkpointing, then with it.

    Args:
        make: the stage's class.
        name: the stage.
        config: the model.
        recipe: of the whole run.
        rows: photographs at a time in one process, a piece of the batch.
        gpu: count what a GPU would keep.
        precision: of the stage.
    """
    accumulate = recipe.stage(name).accumulate
    for checkpointing in (False, True):
        with without_values():
            stage, added = fake_stage(make, name, config, recipe, NoCrops(), precision)
            model = stage.model
            if gpu:
                _as_on_gpu(model)
            stage.checkpoint(checkpointing)
            step = _peak(stage, rows, [model, *added], precision, accumulate)
            # Beside the model there is its average.
            states = _states(stage) + sum(3 * _size(network) for network in added if isinstance(network, nn.ModuleList))
            yield StepMemory(2 * _size(model) + sum(map(_size, added)), states, step)


def fake_stage(
    make: MakeStage, name: StageName, config: ModelConfig, recipe: Recipe, crops: CropDataset, precision: Precision
) -> tuple[Stage, list[nn.Module]]:
    """A stage whose model has no values, ready for a step in one piece, and the networks that training adds.

    To be called in without_values. Arguments as of step_memory; the crops are only asked how many there are.
    """
    # One piece, as the judgement of accumulated pieces needs all of them. Networks beside the model are made here, as
    # LPIPS would be read from its files, and critics be moved to a device, which fake weights do not allow.
    stage_recipe = dataclasses.replace(recipe.stage(name), accumulate=1, precision=precision)
    alone: dict[str, Any] = {name: stage_recipe, "lpips": (), "gan": ()}
    stage = make(_fake(config).train(), dataclasses.replace(recipe, **alone), crops, Distributed())
    added: list[nn.Module] = []
    if isinstance(stage, BaseStage | FinetuneStage):
        if recipe.lpips:
            stage.pixels.lpips = Lpips().eval()
            added.append(stage.pixels.lpips)
        if name in recipe.gan:
            critics = config.iterations if name == "finetune" else 1
            stage.pixels.critics = nn.ModuleList(PatchCritic(Distributed()) for _ in range(critics))
            added.append(stage.pixels.critics)
    stage.model.requires_grad_(False)
    for module in stage.trained():
        module.requires_grad_(True)
    return stage, added


def _peak(stage: Stage, rows: int, networks: list[nn.Module], precision: Precision, pieces: int) -> int:
    """Bytes of a step, or of the second piece of one, which finds the gradients of the first."""
    config, recipe = stage.model.config, stage.recipe
    # The longest rollout: memory has to suffice for it, too. The base stage has one iteration, and one critic.
    iterations = tuple(range(1 if stage.name == "base" else config.iterations))
    every = np.arange(rows)
    plan = StepPlan(0, 1.0, every, iterations[-1], iterations, (iterations[0], iterations[-1]), (), recipe.seed)
    tracker = LiveBytes()
    for network in networks:
        tracker.ignore(network)
    with tracker:
        for _ in range(min(pieces, 2)):
            batch = Batch(every, torch.zeros(rows, 3, config.image_size, config.image_size))
            with autocast(torch.device("cpu"), precision):
                losses = stage.step(batch, plan)
            losses.total.backward()
            del batch, losses
    return tracker.peak


def _states(stage: Stage) -> int:
    """Bytes of the states of the model's optimizers."""
    named = [(name, p) for name, p in stage.model.named_parameters() if p.requires_grad]
    parts = Optimizers(named, stage.recipe.stage(stage.name)).parts
    # AdamW keeps two values per weight, Muon one.
    size: int = sum(
        (2 if isinstance(optimizer, torch.optim.AdamW) else 1) * p.numel()
        for optimizer, _ in parts
        for group in optimizer.param_groups
        for p in group["params"]
    )
    return FLOAT * size


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """In this block, tensors have sizes but no values."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        # The mask of a fake model has no values either, and the real model of the same size would be given it.
        apart_everywhere.cache_clear()


def _fake(config: ModelConfig) -> Alit:
    """The model in fake tensors."""
    # By way of the meta device, because drawing initial weights looks at values.
    with torch.device("meta"):
        model = Alit(config)
    fakes = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in model.state_dict().items()}
    model.load_state_dict(fakes, assign=True)
    return model


def _as_on_gpu(model: nn.Module) -> None:
    """Let autocast on a CPU keep what it keeps on a GPU: attention is fused there, and norms are float32."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.plain_on_cpu = False
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
