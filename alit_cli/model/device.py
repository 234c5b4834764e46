"""Where and how precisely to compute: what `auto` means, and errors for what this machine lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch

from alit_cli.errors import InputError
from alit_cli.model.tokenizer_model import TokenizerModel
from alit_cli.runs.job import Hardware

Precision = Literal["float32", "bf16"]


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU.

    Raises:
        InputError: the named device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"There is no {name} on this machine: torch sees {torch.cuda.device_count()} GPUs; choose --device cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("There is no mps device on this machine: choose --device cpu.")
    return device


def hardware_of(name: str = "auto") -> Hardware:
    """What a run may be dealt to on this machine. Raises InputError as choose_device."""
    return Hardware(name, choose_device(name).type, torch.cuda.device_count())


def choose_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bf16 on a GPU that has it, else float32."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return "bf16" if name == "bf16" else "float32"


def speed_up(model: TokenizerModel, device: torch.device) -> None:
    """Prepare a model in place for long work on a GPU: convolutions channels-last, transformer blocks compiled.

    On other devices nothing is done: on a CPU channels-last changes neither a bit nor the speed. A block that cannot be
    compiled runs as it is.

    Args:
        model: changed in place.
        device: where it is.
    """
    if device.type != "cuda":
        return
    # An error of the compiler, for instance because there is none on this machine, must not end the run.
    torch._dynamo.config.suppress_errors = True
    for part in model.convolutions:
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compile_transformers(model)


def compile_transformers(model: TokenizerModel, backend: str | Callable[..., object] = "inductor") -> None:
    """Compile transformer blocks in place.

    A rollout reads a longer sequence at every iteration, and the last batch of a folder may be smaller. With sizes that
    are fixed, each would be a graph to compile; with dynamic ones, encoder and decoder share a graph for all of them.
    Another precision, a single image, and training instead of inference make one more each. Gradient checkpointing
    needs this as well: torch refuses a backward pass that computes again by another graph than the forward pass had.

    Args:
        model: changed in place.
        backend: of torch.compile.
    """
    for blocks in model.transformers:
        # This compiles in place, while torch.compile would wrap the module and change the names of its weights.
        blocks.compile(backend=backend, dynamic=True)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context that computes in a precision; float32 changes nothing."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
