"""Freed buffers are used again by the same process, without new pages of the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from alit_cli.model.memory import keep_freed_memory

def faults(keep):
    assert keep_freed_memory(keep)
    rounds = []
    for _ in range(12):  # the first ones fill other lists of freed pieces
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(32 << 20, dtype=torch.uint8)  # freed at once
        rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(rounds[3:])  # other work of the process may add some to a round

print(faults(False), faults(True))
"""
"""It runs in a process of its own, because the setting holds for a whole process."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_a_freed_buffer_costs_no_new_page_faults() -> None:
    line = [sys.executable, "-c", CODE]
    before, kept = map(int, subprocess.run(line, capture_output=True, text=True, check=True).stdout.split())
    # 32 MiB are 8192 pages of 4 KiB, or 16 of 2 MiB where the kernel gives huge ones.
    assert kept < 8 < before
