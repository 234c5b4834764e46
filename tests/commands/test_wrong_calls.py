"""An error names the step that mends it: the command to run before, or the one to repeat."""

from pathlib import Path

import pytest

from tests.conftest import Alit, Refused
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [("decode",), ("export", "--out", "tokens.npz")])
def test_without_a_selection_alit_select_is_named(refused: Refused, words: tuple[str, ...]) -> None:
    refused("`alit select` makes a selection", *words)


def test_unfinished_work_is_named(refused: Refused) -> None:
    Path("tokens.parquet.work").mkdir()
    refused("its work lies in 'tokens.parquet.work'. Repeat the command that began it", "select", "--thr", 0.1)


def test_an_option_without_its_value_names_the_help_of_its_command(refused: Refused) -> None:
    refused("See alit select --help.", "select", "--thr")


def test_the_model_inside_the_package_needs_no_checkpoint(refused: Refused) -> None:
    write_photos(Path("photos"), 1)
    refused("leave --checkpoint out", "tokenize", "photos", "--checkpoint", "nano")


def test_a_group_is_no_criterion_and_a_selection_may_lack_tokens(alit: Alit, refused: Refused) -> None:
    write_photos(Path("photos"), 2)
    words = ("--checkpoint", tiny.checkpoint(Path.cwd()), "--device", "cpu")
    assert alit("tokenize", "photos", *words).exit_code == 0
    refused("nothing called 'nothere' to group by", "select", "--thr", 0.3, "--by", "nothere")
    assert alit("select", "--thr", 0.3, "--no-tokens").exit_code == 0
    refused("is a selection without tokens", "decode", *words)
