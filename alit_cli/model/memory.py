"""Freed memory that the process keeps for reuse, which spares a CPU the page faults of large tensors."""

from __future__ import annotations

import ctypes
import platform

import torch

# Parameters of glibc's mallopt (malloc.h).
M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = 1, -1, -2, -4
NEVER = 2**31 - 1
"""The largest threshold that mallopt takes: memory is never returned."""
TOP_PAD = 64 << 20
"""Bytes that the heap grows by at a time."""


def reuse_memory(device: torch.device) -> None:
    """Keep freed memory in a process that computes on this device: on a CPU, as a GPU has an allocator of its own."""
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep freed buffers for reuse; returns whether the C library could be told (glibc only).

    A rollout or a training step frees and allocates the same hundreds of MiB again. By default glibc maps each large
    buffer from the kernel and unmaps it when freed, and every first touch of a new page is a page fault: they took 18 %
    of the time of large models. It holds for the whole process, so commands call it and `load` does not.

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
        # torch asks for aligned memory. What alignment leaves over in front of a buffer is so small that it would go to
        # a list of its own when freed, and the buffer would never be whole again: each of the same size would be a new
        # one. M_MXFAST switches those lists off, so that all of it is joined.
        values = {M_MXFAST: 0, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: TOP_PAD}
    else:
        values = {M_MXFAST: 128, M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 << 10, M_TOP_PAD: 128 << 10}
    accepted = [mallopt(parameter, value) == 1 for parameter, value in values.items()]
    return all(accepted)
