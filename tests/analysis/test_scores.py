"""Score files of every kind are read alike, and their columns found by name."""

from pathlib import Path

import pandas as pd
import pytest

from alit_cli.analysis.studies.complexity_scores import Scores, read_scores
from alit_cli.errors import InputError

FRAME = pd.DataFrame(
    {"score": [3.5, 1, 2], "Image Path": ["007.jpg", "b c.jpg", "ä.jpg"], "Category": ["x", "y", "x"], "note": "n"}
)


def write(path: Path) -> Path:
    match path.suffix:
        case ".xlsx":
            FRAME.to_excel(path, index=False)
        case ".parquet":
            FRAME.to_parquet(path)
        case suffix:
            FRAME.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",", encoding="utf-8-sig")
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".xlsx"])
def test_every_format_gives_the_same_scores(suffix: str, tmp_path: Path) -> None:
    found = read_scores(write(tmp_path / f"scores{suffix}"))
    assert found.images == ("007.jpg", "b c.jpg", "ä.jpg")
    assert found.score.tolist() == [3.5, 1, 2]
    assert found.groups == ("x", "y", "x")
    assert found.columns == ("Image Path", "score", "Category")
    assert found.unscored == 0


def test_columns_can_be_given(tmp_path: Path) -> None:
    path = text(tmp_path / "s.csv", "image;a;b;c\n1;2,;3;x\n")
    found = read_scores(path, image_col="c", score_col="b", group_col="image")
    assert (found.images, found.score.tolist(), found.groups) == (("x",), [3.0], ("1",))


def test_rows_without_name_or_score_are_counted_and_left_out(tmp_path: Path) -> None:
    found = read_scores(text(tmp_path / "s.csv", "file,score,class\na,1,\nb,,x\n,3,x\nd,inf,x\ne,5,x\n"))
    assert found.images == ("a", "e")
    assert found.groups == ("(none)", "x")
    assert found.unscored == 3


def test_without_a_group_column_there_are_no_groups(tmp_path: Path) -> None:
    assert read_scores(text(tmp_path / "s.csv", "file,score\na,1\n")).groups is None


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("image,value\na,1\n", {}, "--score-col"),
        ("thing,score\na,1\n", {}, "--image-col"),
        ("image,score\na,1\n", {"score_col": "mos"}, "no column 'mos'; it has image, score"),
        ("image,score\na,1\n", {"group_col": "kind"}, "no column 'kind'"),
        ("image,score\na,high\n", {}, "'high' in 'score', which is not a number"),
        ("image,score\na,\n", {}, "no row with both"),
        ("", {}, "cannot be read as csv"),
        ('image,score\n"a,1\n', {}, "cannot be read as csv"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    content: str, options: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        read_scores(text(tmp_path / "s.csv", content), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.csv", "folder.csv", "scores.json", "broken.xlsx", "broken.parquet"])
def test_files_that_are_no_score_files_are_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for other in ("scores.json", "broken.xlsx", "broken.parquet"):
        (tmp_path / other).write_bytes(b"{}")
    with pytest.raises(InputError) as error:
        read_scores(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_as_names_stay_as_they_are_written(tmp_path: Path) -> None:
    found: Scores = read_scores(text(tmp_path / "s.csv", "image,score\n007,1\n"))
    assert found.images == ("007",)
