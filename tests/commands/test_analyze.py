"""`alit analyze` as one types it."""

import json
import re
from pathlib import Path

import click
import pandas as pd
import pytest

from alit_cli.cli import main
from tests.analysis.tables import write_study
from tests.conftest import Alit, Refused

OWN = {"familiarity": {"scores"}}
"""Options that must be otherwise: several tables have several folders of scores."""
FILES = ["complexity.csv", "complexity.parquet", "complexity_differences.csv", "complexity.png"]
FILES = [f"study/{name}" for name in FILES]


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with a token table and scores."""
    write_study(here, {"Art": 30, "Interior Design": 20})
    return here


def test_complexity_prints_tables_and_writes_files(here: Path, alit: Alit) -> None:
    result = alit("analyze", "complexity", "scores.csv", "--bootstrap", "50")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-4:] == FILES
    headings = [text.strip() for text in lines[1].split("  ") if text.strip()]
    assert [text for text in headings if not text.startswith("need")] == [
        *("n", "code 12", "L1 at 4", "L1/mad 4", "JPEG bytes", "edges", "colours", "Sobel", "thumb 12", "thumb 4"),
    ]
    for label in ("Art", "Interior Design", "overall", "raw"):
        assert sum(line.strip().startswith(label) for line in lines) >= 2
    assert "50 of 50 scores belong to one of the table's 50 images" in result.stderr
    assert "not comparable across categories" in result.stderr
    assert "The measure to quote is the code length at 12 tokens (code_length_12)" in result.stderr
    assert re.search(r"for JPEG bytes: [+-]0\.\d{3} \[.*\], at least as close in \d of 2 groups", result.stderr)
    assert "fitted images, as are JPEG bytes" in result.stderr
    table = pd.read_csv("study/complexity.csv")
    assert set(table.group) == {
        "Art",
        "Interior Design",
        "overall, pooled within categories",
        "raw, not comparable across categories",
    }
    assert all((here / name).stat().st_size > 0 for name in FILES)


def test_names_that_did_not_match_are_said(here: Path, alit: Alit) -> None:
    rows = (here / "scores.csv").read_text().splitlines()
    strangers = [f"strange/{row}.png,5,Art" for row in range(40)]
    (here / "scores.csv").write_text("\n".join([*rows[:11], *strangers]))
    result = alit("analyze", "complexity", "scores.csv", "--bootstrap", "0")
    assert result.exit_code == 0
    assert "10 of 50 scores belong" in result.stderr
    assert "Most scores have found no image" in result.stderr
    assert "Scores without an image: strange/0.png, strange/1.png, strange/2.png and 37 more." in result.stderr
    assert "Images without a score: Art/10.jpg, Art/11.jpg, Art/12.jpg and 37 more." in result.stderr


def test_json_has_every_row_and_the_files(here: Path, alit: Alit) -> None:
    result = alit(
        "analyze", "complexity", "scores.csv", "--json", "-q", "--bootstrap", "0", "--thr", "0.05", "--out", "new"
    )
    found = json.loads(result.stdout)
    assert found["matched"] == 50
    assert found["thresholds"] == [0.05]
    assert found["scores_without_image"] == {"count": 0, "examples": []}
    assert found["files"] == [name.replace("study", "new") for name in FILES]
    rows = {(row["scope"], row["measure"]): row for row in found["rows"]}
    assert rows["overall", "l1_4"]["pearson"] > 0.8
    assert rows["overall", "l1_4"]["pearson_low"] is None
    assert rows["overall", "entropy"]["pearson"] is None
    assert result.stderr == ""


def test_a_table_without_measures_is_enough(here: Path, alit: Alit) -> None:
    write_study(here, {"Art": 30}, measures=False)
    result = alit("analyze", "complexity", "scores.csv", "--bootstrap", "10")
    assert result.exit_code == 0
    assert "no measures" in result.stderr
    assert "JPEG" not in result.stdout
    assert "overall" not in result.stdout


def test_too_few_images_are_dashes(here: Path, alit: Alit) -> None:
    (here / "two.csv").write_text("file,complexity\nArt/1.jpg,1\nArt/2.jpg,2\n")
    result = alit("analyze", "complexity", "two.csv")
    assert result.exit_code == 0
    assert re.search("all images +2 +–", result.stdout)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("strangers.csv", "None of the scores belongs to an image"),
        ("missing.csv", "There is no file"),
        ("scores.csv --score-col mos", "no column 'mos'"),
        ("scores.csv --thr high", "'high' is not a number"),
        ("scores.csv --thr -1", "from 0 up"),
        ("scores.csv none.parquet", "alit tokenize"),
        ("scores.csv --out strangers.csv", "cannot be written"),
        ("scores.csv --bootstrap few", "--bootstrap"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(words: str, sentence: str, here: Path, refused: Refused) -> None:
    (here / "strangers.csv").write_text("image,score\nx.png,1\ny.png,2\n")
    refused(sentence, "analyze", "complexity", *words.split(), "-q")
    assert not (here / "study").exists()


def test_the_token_table_is_an_argument_and_its_former_option_still_works(here: Path, alit: Alit) -> None:
    (here / "tokens.parquet").rename(here / "mine.parquet")
    new = alit("analyze", "complexity", "scores.csv", "mine.parquet", "--bootstrap", "0", "--json", "-q")
    old = alit("analyze", "complexity", "scores.csv", "--tokens", "mine.parquet", "--bootstrap", "0", "--json")
    assert new.exit_code == old.exit_code == 0
    assert new.stdout == old.stdout
    assert "The token table is an argument now" in old.stderr
    assert "--tokens" not in alit("analyze", "complexity", "--help").stdout


def test_an_option_means_the_same_in_every_analysis() -> None:
    meanings: dict[str, set[tuple[object, ...]]] = {}
    context = click.Context(main)
    group = main.get_command(context, "analyze")
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        analysis = group.get_command(context, name)
        assert analysis is not None
        for param in analysis.params:
            former = isinstance(param, click.Option) and param.hidden  # a name of the last release
            if isinstance(param, click.Option) and not former and param.name not in OWN.get(name, ()):
                told = None if param.name in {"thr", "seed", "out"} else (param.help, repr(param.default))
                kind = (param.type.name, param.metavar, param.multiple, told)
                meanings.setdefault(param.opts[0], set()).add(kind)
    assert {name: kinds for name, kinds in meanings.items() if len(kinds) > 1} == {}
    assert {"--scores", "--bootstrap", "--seed", "--thr", "--out", "--format", "--json"} <= set(meanings)
