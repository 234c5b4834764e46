"""What makes training faster on a CPU: bf16 where the processor has it, and freed memory that is kept."""

from __future__ import annotations

import ctypes
import platform

import torch

from alit_cli.model.device import Precision, choose_precision
from alit_cli.runs.in_process import peak_memory as process_memory

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = 2**31 - 1
"""The largest threshold that mallopt takes: memory is never returned."""
TOP_PAD = 64 << 20
"""Bytes that the heap grows by at a time."""


def training_precision(name: str, device: torch.device) -> Precision:
    """What a stage computes in; `auto` is bf16 on GPUs and CPUs that have instructions for it, else float32.

    On a CPU this is a rule and not a measurement, so that a resumed run computes as it began. Measured on a Zen 4 EPYC
    (AVX512-BF16, one thread, 256 pixels): a distillation step takes .149 → .095 s per image at width 128 with 3+3
    layers and .491 → .207 s at width 192 with 4+4. Without such instructions bf16 is emulated, and slower.

    Inference does not follow this rule: on a CPU its `auto` stays float32, because tables must not change.
    """
    if name == "auto" and device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "float32"
    return choose_precision(name, device)


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AVX512-BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public name for them yet
    return any(bool(check()) for name in checks if (check := getattr(torch.cpu, name, None)))


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep freed buffers for reuse; returns whether the C library could be told (glibc only).

    A training step frees and allocates the same hundreds of MiB again. By default glibc maps each large buffer from the
    kernel and unmaps it when freed, and every first touch of a new page is a page fault: they took 18 % of the time of
    large models.

    Args:
        keep: False restores glibc's defaults.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    if keep:
        values = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: TOP_PAD}
    else:
        values = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 << 10, M_TOP_PAD: 128 << 10}
    accepted = [mallopt(parameter, value) == 1 for parameter, value in values.items()]
    return all(accepted)


def peak_memory(device: torch.device) -> float:
    """The largest memory so far in GiB: a GPU's, else this process's; 0 where the system does not say (Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return process_memory() / 2**10
