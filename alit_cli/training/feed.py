"""Batches made ahead: read, pinned and sent to the device while the step before them is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Pixels = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class Sent:
    """Pixels on their way to a device: b S S 3 uint8, and on a GPU the event of their arrival."""

    pixels: Tensor
    arrival: torch.cuda.Event | None = None

    def received(self) -> Tensor:
        """The pixels; a GPU waits for them, and this process does not."""
        if self.arrival is not None:
            stream = torch.cuda.current_stream(self.pixels.device)
            stream.wait_event(self.arrival)
            # They were allocated on the copying stream, which may not reuse their memory before this one is done.
            self.pixels.record_stream(stream)
        return self.pixels


class Feed:
    """One thread that makes the batches that will be asked for next, in their order.

    A batch that was not announced is made when it is asked for, so announcing changes how fast, never what.

    Args:
        read: rows → b S S 3 uint8.
    """

    def __init__(self, read: Callable[[np.ndarray], Pixels]) -> None:
        self.read = read
        # One thread, since batches are needed one after the other; decoding has threads of its own.
        self.thread = ThreadPoolExecutor(1)
        self.coming: dict[tuple[bytes, torch.device], Future[Sent]] = {}
        self.streams: dict[torch.device, torch.cuda.Stream] = {}

    def announce(self, batches: Sequence[np.ndarray], device: torch.device) -> None:
        """Begin to make these batches, each given by its rows; what was announced before and is not among them goes."""
        wanted = {(rows.tobytes(), device): rows for rows in batches}
        for key in self.coming.keys() - wanted.keys():
            self.coming.pop(key).cancel()
        for key, rows in wanted.items():
            if key not in self.coming:
                self.coming[key] = self.thread.submit(self._send, rows, device)

    def take(self, rows: np.ndarray, device: torch.device) -> Tensor:
        """The pixels of these rows on the device, b S S 3 uint8."""
        coming = self.coming.pop((rows.tobytes(), device), None)
        return (self._send(rows, device) if coming is None else coming.result()).received()

    def close(self) -> None:
        """Stop the thread; what it has not begun is dropped."""
        self.thread.shutdown(cancel_futures=True)

    def _send(self, rows: np.ndarray, device: torch.device) -> Sent:
        pixels = torch.from_numpy(np.ascontiguousarray(self.read(rows)))
        if device.type != "cuda":
            return Sent(pixels.to(device))
        if device not in self.streams:
            self.streams[device] = torch.cuda.Stream(device)
        # The current device and stream belong to the thread, and this one has chosen none yet.
        with torch.cuda.device(device), torch.cuda.stream(self.streams[device]):
            sent = to_device(pixels, device)
            return Sent(sent, self.streams[device].record_event())


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device. From pinned memory, so that neither side waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
