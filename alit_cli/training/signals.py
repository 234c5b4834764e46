"""Ctrl-C and SIGTERM in the middle of a training step: the step is finished first, so that what is saved is whole."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """While entered, notes a first signal instead of raising it; a second one is raised at once.

    Outside the main thread nothing is noted: there, the program around us handles signals.

    Attributes:
        pending: the number of the signal that waits, or None.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> DeferredSignals:
        self.pending = None
        try:
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        except ValueError:  # what Python raises outside the main thread
            self._handlers = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def reraise(self) -> None:
        """Do what the signal would have done (SIGTERM where another process received it)."""
        self._restore()
        signal.raise_signal(self.pending or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending is not None:  # the user is impatient
            self.reraise()
        self.pending = number

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
