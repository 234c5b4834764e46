"""Where and how precisely to compute: what `auto` means, and errors for what this machine lacks."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from alit_cli.errors import InputError
from alit_cli.model.layers import Attention, Linear, Upsample
from alit_cli.model.tokenizer_model import TokenizerModel
from alit_cli.runs.job import Hardware

Precision = Literal["float32", "mixed", "bf16"]
"""`mixed`: all that decides a token is float32, and what only makes pixels of tokens is bf16."""

X86 = ("x86_64", "AMD64")
"""What Linux and Windows call the processors that oneDNN was made for."""


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
    # A name that is none of these is float32, as it always was; commands offer only these.
    return "bf16" if name == "bf16" else "mixed" if name == "mixed" else "float32"


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AVX512-BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public name for them yet
    return any(bool(check()) for name in checks if (check := getattr(torch.cpu, name, None)))


def prepare_model(model: nn.Module, device: torch.device) -> None:
    """Let a model that will not be trained compute in faster ways on a CPU; only rounding differs.

    Elsewhere nothing is done. Training does not call it, since what is merged here belongs to the weights of now.

    Args:
        model: changed in place.
        device: where it is.
    """
    # These ways rest on kernels of oneDNN that other processors lack.
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or platform.machine() not in X86:
        return
    # Where the widest instructions are missing, it was not measured that oneDNN is the faster library.
    onednn = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    # Without instructions for bf16 its products are slow in any way, and no other way was measured.
    bf16 = onednn and cpu_has_bf16()
    for module in model.modules():
        if isinstance(module, Upsample):
            module.merge()
        elif isinstance(module, Linear):
            module.onednn, module.keeps_bf16 = onednn, bf16
        elif isinstance(module, Attention):
            module.plain_inference = bf16


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


def autocast(device: torch.device, precision: Precision, only_pixels: bool = False) -> AbstractContextManager[object]:
    """The context that computes in a precision; float32 changes nothing.

    Args:
        device, precision: where and how.
        only_pixels: whether what is computed ends in pixels and in no token, and may be bf16 where `mixed` is wanted.
    """
    if precision == "float32" or (precision == "mixed" and not only_pixels):
        return _without_tf32() if device.type == "cuda" else contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Convolutions on a GPU in true float32.

    By default torch lets cuDNN round their inputs to TF32 (10 bits of mantissa), but not matrix products, so that
    float32 would mean two things.
    """
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
