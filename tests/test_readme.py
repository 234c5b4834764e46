"""The README keeps its word: its commands and its Python run as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Alit

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
SAVOIAS = "Savoias-Dataset"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as the README supposes it: the samples, `images/`, scores and a raw SAVOIAS."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sample_data", "sample_data")
    shutil.copytree(ROOT / "sample_data" / "images", "images")
    shutil.copy(ROOT / "sample_data" / "complexity.csv", "savoias.csv")
    return tmp_path


def _raw_savoias(folder: Path) -> None:
    """Three pictures a category, as the release lays them out."""
    sheets = {"Advertisement": "ad", "Art": "art", "Interior Design": "ikea", "Objects": "mscoco"}
    sheets |= {"Scenes": "places", "Suprematism": "sup", "Visualizations": "vis"}
    (folder / "Ground truth" / "xlsx").mkdir(parents=True)
    for category, sheet in sheets.items():
        (folder / "Images" / category).mkdir(parents=True)
        (folder / "Images" / category / "notes").mkdir()
        for number, suffix in enumerate((".jpg", ".png", ".jpg")):
            (folder / "Images" / category / f"{number}{suffix}").touch()
        scores = pd.DataFrame([10, 20, 30])
        scores.to_excel(folder / "Ground truth" / "xlsx" / f"global_ranking_{sheet}.xlsx", header=False, index=False)


def test_commands_and_code_run_in_order(here: Path, alit: Alit) -> None:
    _raw_savoias(here / SAVOIAS)
    names: dict[str, object] = {}
    for language, text in BLOCKS:
        if language == "sh":
            for line in text.strip().splitlines():
                program, *words = shlex.split(line)
                assert program == "alit"
                result = alit(*words)
                assert result.exit_code == 0, f"{line}\n{result.stderr}"
        elif language == "python":
            exec(compile(text, "README.md", "exec"), names)
    assert names["hardest"] in {path.name for path in (here / "images").iterdir()}
    savoias = pd.read_csv("savoias.csv")
    assert len(savoias) == 21
    assert set(savoias.loc[savoias.image.str.endswith("1.png"), "score"]) == {20}
    assert (here / "recon" / "astronaut.png").exists()


def test_other_blocks_call_real_commands() -> None:
    lines = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
    assert any(line.startswith("pip install .") for line in lines)
    from alit_cli.cli import COMMANDS

    for line in lines:
        if line.startswith("alit "):
            assert line.split()[1] in COMMANDS


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert "://" in target or (ROOT / target).exists(), target
