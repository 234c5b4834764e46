"""The four documents keep their word: blocks run in order as they stand, or are at least parsed."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pandas as pd
import pytest

from alit_cli.cli import main
from tests.conftest import Alit
from tests.documents import DOCUMENTS, LANGUAGES, ROOT, alit_calls, blocks, find_command, lines

SAVOIAS = "Savoias-Dataset"
NUMBERS = re.compile(r"([-+±.\d]*\d[\d.]*|█|\s)+")
"""What another machine or model may print differently: numbers, bars and the room that they take."""


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder as the documents suppose it: the samples, `images/`, scores and a raw SAVOIAS."""
    shutil.copytree(ROOT / "sample_data", "sample_data")
    shutil.copytree(ROOT / "sample_data" / "images", "images")
    shutil.copy(ROOT / "sample_data" / "complexity.csv", "savoias.csv")
    _raw_savoias(here / SAVOIAS)
    return here


def _raw_savoias(folder: Path) -> None:
    """Three pictures of each category, as the release lays them out."""
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


def _shape(text: str) -> str:
    """Printed text without its numbers, so that another model's output still counts as the same."""
    return NUMBERS.sub(" ", text).strip()


@pytest.mark.parametrize("document", DOCUMENTS[:3])
def test_blocks_run_in_order_and_print_what_is_shown(
    document: str, here: Path, alit: Alit, request: pytest.FixtureRequest
) -> None:
    if document != "README.md":  # what the first page shows is what the real model prints
        request.getfixturevalue("tiny_instead_of_embedded")
    else:  # that model takes a second per image; what the page shows is of sample_data/ and not of these
        for path in sorted(Path("images").iterdir())[6:]:
            path.unlink()
    names: dict[str, object] = {}
    printed = ""
    previous = ""
    for block in blocks(document):
        if block.language == "sh":
            for words in lines(block):
                program, *rest = words
                assert program == "alit"
                result = alit(*rest)
                assert result.exit_code == 0, f"{' '.join(words)}\n{result.stderr}"
                printed = result.stdout
        elif block.language == "python":
            exec(compile(block.text, document, "exec"), names)
        elif block.language == "text" and previous == "sh" and not block.text.startswith("Usage:"):
            assert _shape(block.text) in _shape(printed), f"{document} shows another output:\n{printed}"
        previous = block.language
    if document == "commands/README.md":
        savoias = pd.read_csv("savoias.csv")
        assert len(savoias) == 21
        assert set(savoias.loc[savoias.image.str.endswith("1.png"), "score"]) == {20}
        assert (here / "recon" / "astronaut.png").exists()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_that_cannot_run_here_are_parsed(document: str, here: Path) -> None:
    """A misspelt option, an unknown choice or a missing argument fails, although nothing is invoked."""
    Path("study").mkdir()
    Path("study/study.toml").write_text('[study]\nimages = ["photos"]\n')
    for block in blocks(document):
        assert block.language in LANGUAGES, block.text
        if block.language in ("py", "python"):
            ast.parse(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "bash":
            for words in lines(block):
                for call in alit_calls(words):
                    command, rest = find_command(call)
                    parent = click.Context(main, info_name="alit", **main.context_settings)
                    command.make_context(command.name, rest, parent=parent, resilient_parsing=False)


def test_every_command_has_its_section_and_its_options_as_help_prints_them() -> None:
    """`tests/tools/refresh_documents.py` writes them."""
    line = [sys.executable, str(ROOT / "tests/tools/refresh_documents.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        file, _, section = target.partition("#")
        path = (ROOT / document).parent / file if file else ROOT / document
        assert path.exists(), target
        if section:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert section in anchors, target


def test_the_first_page_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
