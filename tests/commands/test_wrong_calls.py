"""An error names the step that mends it: the command to run before, or the one to repeat."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.analysis.score_tables import write_world
from tests.analysis.tables import write_tokens
from tests.conftest import Alit, Refused
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [("decode",), ("export", "--out", "tokens.npz")])
def test_without_a_selection_alit_select_is_named(refused: Refused, words: tuple[str, ...]) -> None:
    refused("`alit select` makes a selection", *words)


def test_an_option_that_must_be_given_is_named(refused: Refused) -> None:
    refused("Missing option '--out'", "export", "selection.parquet")


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


@pytest.mark.parametrize("name", ["tokens", "features"])
def test_a_list_per_image_is_no_number(here: Path, refused: Refused, name: str) -> None:
    write_world(here)
    said = "holds a list per image, which is no number; there is: l1, class_rank, depth_error."
    refused(f"'{name}' {said}", "select", "--tsc", f"{name}>=2")
    refused(f"'{name}' {said}", "select", "--tsc", name, "--capacity", "0.5")
    refused(f"'{name}_4' {said}", "select", "--thr", "0.08", "--where", f"{name}_4>3")
    refused(f"'{name}' {said}", "analyze", "capacity", "--tsc", f"{name}<2", "--toi", "recon", "--bootstrap", "0")


@pytest.mark.parametrize("name", ["n_tokens", "satisfied"])
def test_no_column_has_the_name_of_one_that_every_selection_has(
    here: Path, alit: Alit, refused: Refused, name: str
) -> None:
    write_tokens(here / "tokens.parquet", np.full((3, 3), 0.05))
    budgets = ",".join(f"{name}_{budget}" for budget in (4, 8, 12))
    rows = "".join(f"{row}.jpg,1,2,3,odd\n" for row in range(3))
    Path("own.csv").write_text(f"image,{budgets},{name}\n{rows}")
    refused(f"Every selection has a column '{name}' of its own", "select", "--table", "own.csv", "--tsc", f"{name}>=2")
    assert alit("select", "--thr", "0.08", "--by", f"own.csv:{name}").exit_code == 0
    assert pd.read_parquet("selection.parquet")[f"{name}_group"].tolist() == ["odd"] * 3
    pq.write_table(pa.table({"image": [b"x"], name: ["odd"]}), "images.parquet")
    refused(f"Column '{name}' cannot be kept", "tokenize", "images.parquet", "--keep", name, "--out", "t.parquet", "-q")


def test_a_folder_that_is_made_for_an_output_is_named(alit: Alit) -> None:
    write_tokens(Path("tokens.parquet"), np.full((3, 3), 0.05))
    assert "does not exist yet" not in alit("select", "--thr", 0.3, "--out", "selection.parquet").stderr
    said = alit("select", "--thr", 0.3, "--out", "mistyped/deeper/selection.parquet").stderr
    assert "The folder mistyped does not exist yet; the output will make it." in said
