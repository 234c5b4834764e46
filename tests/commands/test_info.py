"""`alit info` says what a file is and which questions it can answer."""

import json
from pathlib import Path

import pytest

from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit) -> Path:
    """A folder with a token table of three photographs and one broken file, its scores and a selection."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "bad.jpg").write_text("no picture")
    model = tiny.checkpoint(tmp_path)
    words = ("--checkpoint", model, "--device", "cpu", "--max-error-rate", 1)
    assert alit("tokenize", "photos", *words).exit_code == 0
    assert alit("score", "--task", "recon", *words).exit_code == 0
    assert alit("select", "--thr", 0.2).exit_code == 0
    return tmp_path


def test_a_token_table_lists_its_criteria_and_the_scores_beside_it(here: Path, alit: Alit) -> None:
    found = json.loads(alit("info", "tokens.parquet", "--json").stdout)
    assert (found["kind"], found["rows"]) == ("token table", 4)
    assert found["statuses"]["ok"] == 3
    assert sum(found["sources"].values()) == 4
    assert found["columns"]["image"] == "string"
    assert list(found["mean_l1"]) == list(map(str, found["budgets"]))
    assert found["scores"][0]["path"].endswith("recon.parquet")
    assert found["scores"][0]["why_not"] is None
    shown = alit("info", "tokens.parquet").stdout
    for criterion in found["criteria"]:
        assert criterion in shown
        # Whatever is listed can be asked, with a number in the place of NUMBER.
        wanted = criterion.replace("NUMBER", "0.5")
        threshold = () if "0.5" in wanted else ("--thr", 0.5)
        result = alit("select", "--tsc", wanted, *threshold, "--out", "other.parquet")
        assert result.exit_code == 0, result.stderr


def test_a_selection_a_score_table_and_a_model_fit_one_screen(here: Path, alit: Alit) -> None:
    assert json.loads(alit("info", "selection.parquet", "--json").stdout)["kind"] == "selection"
    assert json.loads(alit("info", "scores/recon.parquet", "--json").stdout)["task"] == "recon"
    for words in (
        ("info",),
        ("info", "selection.parquet"),
        ("info", "scores/recon.parquet"),
        ("info", "tokens.parquet"),
    ):
        result = alit(*words)
        assert result.exit_code == 0, result.stderr
        assert len(result.stdout.splitlines()) <= 24
    model = json.loads(alit("info", "--json").stdout)
    assert Path(model["card"]).is_file()
    assert model["licence"] in alit("info").stdout


def test_a_training_says_where_it_is(tmp_path: Path, alit: Alit) -> None:
    work = tmp_path / "m.safetensors.work"
    work.mkdir()
    (work / "job.json").write_text(json.dumps({"config": {"name": "mine"}, "photos": ["a"], "photographs": 50}))
    lines = [
        {"stage": "base", "step": 20, "steps": 30, "losses": {"l1": 0.5}, "images_per_second": 3.0, "seconds": 9.0},
        {"stage": "base", "step": 20, "steps": 30, "validation": {"8": 0.25}},
    ]
    (work / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"stage": "ba')
    for path in (work, tmp_path / "m.safetensors"):
        found = json.loads(alit("info", path, "--json").stdout)
        assert (found["kind"], found["stage"], found["step"], found["photographs"]) == ("training", "base", 20, 50)
        assert (found["losses"], found["validation"]) == ({"l1": 0.5}, {"8": 0.25})
    assert "step 20 of 30" in alit("info", work).stdout


def test_options_that_decide_what_is_in_a_table_are_named(here: Path, alit: Alit) -> None:
    assert "made with" not in alit("info", "tokens.parquet").stdout
    words = ("--checkpoint", tiny.checkpoint(here), "--device", "cpu", "--max-error-rate", 1, "--out", "stop.parquet")
    assert alit("tokenize", "photos", *words, "--stop", "l1<0.5", "--views", "flip").exit_code == 0
    assert "made with: --stop 'l1<0.5', --views flip" in alit("info", "stop.parquet").stdout
