"""Pictures read ahead of the model by a few threads, in order, a bounded number at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from alit_cli.data.images import Fit, Picture, read_picture
from alit_cli.data.sources import Item

LOOKAHEAD = 64
"""Pictures in flight: decoded or being decoded, not yet taken."""


def default_workers() -> int:
    """Decoding threads where the user names none: at most four."""
    return min(4, os.cpu_count() or 1)


def read_pictures(
    items: Sequence[Item], side: int, how: Fit, bits: tuple[int, ...] | None, workers: int
) -> Iterator[Picture]:
    """Every item as a Picture, in order; a bad image is a Picture with a status.

    Args:
        items: what to read.
        side: pixels of the fitted square.
        how: crop, squash or pad.
        bits: bits of each budget, for the measures; None leaves them out.
        workers: decoding threads; 0 decodes in this one.
    """
    if workers == 0:
        yield from (read_picture(item, side, how, bits) for item in items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        flying: deque[Future[Picture]] = deque()
        for item in items:
            flying.append(pool.submit(read_picture, item, side, how, bits))
            if len(flying) >= LOOKAHEAD:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
