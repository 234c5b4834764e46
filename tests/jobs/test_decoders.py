"""Decoding processes: pictures in order; one that hangs or dies costs its own image only, and is replaced."""

from __future__ import annotations

import importlib
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from alit_cli.data.pictures.fitting import Reading
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import AlitError
from alit_cli.jobs.reading.decoder_processes import Decoders
from tests.training.photos import write_photos

TRICKY = """
import os, signal, time
from pathlib import Path
from alit_cli.data.pictures.fitting import Reading

class Tricky(Reading):
    def __call__(self, item):
        if item.image == "img_5.png":
            time.sleep(1000)
        once = Path(item.path).with_suffix(".once")
        if item.image == "img_9.png" or (item.image == "img_14.png" and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(item)

class Unusable(Reading):
    def __setstate__(self, state):
        raise RuntimeError
"""


@pytest.fixture
def tricky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that other processes can import: a Reading that hangs, dies or dies once, and one that fails."""
    (tmp_path / "tricky_reading.py").write_text(TRICKY)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("tricky_reading")
    sys.modules.pop("tricky_reading")


def test_the_stuck_and_the_dead_are_named_and_replaced(tmp_path: Path, tricky: ModuleType) -> None:
    write_photos(tmp_path, 30)
    items = list_items([tmp_path])
    decoders = Decoders(tricky.Tricky(8), 2, lookahead=7, patience=3.0)
    try:
        pictures = list(decoders.read(items))
        assert [picture.image for picture in pictures] == [item.image for item in items]
        bad = {picture.image: picture.status for picture in pictures if picture.status != "ok"}
        assert bad == {"img_5.png": "timeout", "img_9.png": "crashed"}
        for name, words in (("img_5.png", "was stuck on"), ("img_9.png", "ended with code -9 on")):
            assert sum(f"{words} '{name}'" in remark for remark in decoders.remarks) == 1
        assert [picture.status for picture in decoders.read(items[20:])] == ["ok"] * 10  # and on they go
    finally:
        decoders.close()


def test_a_batch_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    write_photos(tmp_path, 20)
    items = list_items([tmp_path])
    decoders = Decoders(Reading(8), 1)
    try:
        assert len(list(itertools.islice(decoders.read(items), 3))) == 3
        again = [picture.image for picture in decoders.read(items[10:])]
        assert again == [item.image for item in items[10:]]
    finally:
        decoders.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "decoders"]


def test_processes_that_cannot_start_are_one_sentence(tmp_path: Path, tricky: ModuleType) -> None:
    write_photos(tmp_path, 2)
    decoders = Decoders(tricky.Unusable(8), 1)
    with pytest.raises(AlitError, match="--workers 0"):
        list(decoders.read(list_items([tmp_path])))
    decoders.close()
