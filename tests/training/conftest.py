"""Trainings of the tests estimate no memory, but for those that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alit_cli.training import loop, memory
from tests.training.channels_last import no_estimate


@pytest.fixture(scope="module", autouse=True)
def _no_estimate() -> Iterator[None]:
    """An estimate takes longer than such a training. What it says is tested in test_memory.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plan_memory", no_estimate)
        yield


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this test, trainings estimate their memory as they do for a user."""
    monkeypatch.setattr(loop, "plan_memory", memory.plan_memory)
