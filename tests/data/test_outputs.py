"""What alit may replace: files of the same kind that it wrote, never what the command reads, never anything else."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alit_cli.analysis.figures.style import save_figure
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.data.files import check_output, check_output_folder, open_output, protected
from alit_cli.data.marks import MANIFEST, Kind, html_mark, kind_of_file, mark_archive, png_metadata
from alit_cli.data.tables.parquet import write_table
from alit_cli.errors import InputError
from alit_cli.jobs.export import ENDINGS, export
from tests.analysis.tables import write_study, write_tokens
from tests.conftest import Alit, Refused
from tests.data.test_token_table import INFO, rows

ROOT = Path(__file__).parents[2]


def write(path: Path, content: bytes, kind: Kind) -> None:
    with open_output(path, kind) as file:
        file.write(content)


def one_of_each(folder: Path) -> dict[Path, Kind]:
    """A file of every kind and ending that alit writes without a model."""
    frame = pd.DataFrame({"image": ["=a"], "l1": [0.5]})
    write_table(rows(INFO, [True, True]), folder / "t.parquet")
    files: dict[Path, Kind] = {folder / "t.parquet": "token table"}
    files[save_csv(frame, folder / "a.csv")] = "analysis"
    files[save_parquet(frame, folder / "a.parquet")] = "analysis"
    for suffix in ("png", "svg", "pdf"):
        save_figure(Figure(), folder / f"f.{suffix}")
        files[folder / f"f.{suffix}"] = "figure"
    for form, ending in ENDINGS.items():
        list(export(folder / "t.parquet", folder / f"e{ending}", form, 8))
        files[folder / f"e{ending}"] = "export"
    picture, maps = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG", pnginfo=png_metadata("picture"))
    np.savez(maps, a=np.zeros(2))
    mark_archive(maps, "attention maps")
    write(folder / "p.png", picture.getvalue(), "picture")
    write(folder / "m.npz", maps.getvalue(), "attention maps")
    write(folder / "p.html", f"<!doctype html>{html_mark('page')}".encode(), "page")
    return {**files, folder / "p.png": "picture", folder / "m.npz": "attention maps", folder / "p.html": "page"}


def test_every_file_knows_its_kind_and_is_replaced_by_the_same_kind_only(tmp_path: Path) -> None:
    files = one_of_each(tmp_path)
    assert {path: kind_of_file(path) for path in files} == files
    for path, kind in files.items():
        check_output(path, kind)
        for other in set(get_args(Kind)) - {kind, "working file"}:
            with pytest.raises(InputError, match=r"is not replaced|has the wrong ending"):
                check_output(path, other)
    assert pd.read_csv(tmp_path / "a.csv").columns.to_list() == ["image", "l1"]
    with np.load(tmp_path / "e.npz") as found:
        assert set(found.files) == {"images", "offsets", "tokens", "width", "height", "l1"}


def test_the_page_template_has_its_mark() -> None:
    assert html_mark("page") in (ROOT / "alit_cli/report/page.html").read_text()


def test_what_somebody_else_wrote_stays(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("image,score\n")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    for name, kind in (
        ("a.parquet", "selection"),
        ("a.csv", "analysis"),
        ("empty.png", "figure"),
        ("gone.csv", "analysis"),
    ):
        with pytest.raises(InputError, match="carries no mark of alit"):
            write(tmp_path / name, b"x", kind)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.parquet", "empty.png", "gone.csv"]
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "x.csv", "analysis")


def test_a_csv_that_was_edited_belongs_to_its_editor(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a"]})
    path = save_csv(frame, tmp_path / "a.csv")
    save_csv(frame.rename(columns={"image": "name"}), path)
    assert len(json.loads((tmp_path / MANIFEST).read_text())["files"]["a.csv"]["sha256"]) == 1
    path.write_text("my own")
    with pytest.raises(InputError, match="carries no mark"):
        save_csv(frame, path)
    (tmp_path / MANIFEST).write_text("[" * 10_000)  # damage is not a crash, and no permission
    with pytest.raises(InputError, match="carries no mark"):
        save_csv(frame, path)


def test_a_csv_is_known_at_every_moment_of_being_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_csv(pd.DataFrame({"image": ["a"]}), tmp_path / "a.csv")
    seen: list[str | None] = []
    replace = __import__("os").replace

    def watched(source: str, target: str) -> None:
        seen.append(kind_of_file(path))
        replace(source, target)
        seen.append(kind_of_file(path))

    monkeypatch.setattr("os.replace", watched)
    save_csv(pd.DataFrame({"image": ["b"]}), path)
    assert seen == ["analysis"] * 6


def test_what_is_read_is_not_replaced_by_whatever_name(tmp_path: Path) -> None:
    path = save_csv(pd.DataFrame({"image": ["a"]}), tmp_path / "a.csv")
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "hard.csv").hardlink_to(path)
    with protected([path, tmp_path / "missing", "bad\0name"]):
        for name in ("a.csv", "link.csv", "hard.csv"):
            with pytest.raises(InputError, match="is read by this command"):
                check_output(tmp_path / name, "analysis")
        with protected([tmp_path]), pytest.raises(InputError, match="reads its images from"):
            check_output_folder(f"{tmp_path}/.")
    check_output(path, "analysis")
    check_output_folder(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        check_output_folder(path)
    with pytest.raises(InputError, match="looks like a file"):
        check_output_folder(tmp_path / "x.csv")


def test_no_command_replaces_what_it_reads(
    tmp_path: Path, alit: Alit, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tokens, scores = write_study(tmp_path, {"Art": 12})
    scores.rename("complexity.csv")
    Path("q").mkdir()
    for name in ("quality", "familiarity"):
        Path(f"q/{name}.parquet").write_bytes(tokens.read_bytes())
    Path("foreign.csv").write_text("my notes")
    Path("foreign.html").write_text("my page")
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in Path().rglob("*") if path.is_file()}
    npz = ("export", "tokens.parquet", "--budget", "4", "--format", "npz", "--out")
    for sentence, *line in (
        ("'complexity.csv' is read by this command", "analyze", "complexity", "complexity.csv", "--out", "."),
        ("is read by this command", "analyze", "quality", "q/quality.parquet", "--out", "q"),
        ("is read by this command", "analyze", "familiarity", "q/familiarity.parquet", "q/quality.parquet", "-o", "q"),
        ("is read by this command", "select", "--thr", "0.1", "--out", "tokens.parquet"),
        ("is a token table, not a selection", "select", "--thr", "0.1", "--out", "q/quality.parquet"),
        ("'foreign.csv' carries no mark of alit", "select", "--thr", "0.1", "--out", "foreign.csv"),
        ("has the wrong ending", "select", "--thr", "0.1", "--out", "x.txt"),
        ("has the wrong ending", *npz, "tokens.parquet"),
        ("has the wrong ending", *npz, "a.tar"),
        ("has the wrong ending", "view", "--no-pictures", "--out", "b.txt"),
        ("'foreign.html' carries no mark of alit", "view", "--no-pictures", "--out", "foreign.html"),
    ):
        refused(sentence, *line, "--quiet")
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in Path().rglob("*") if path.is_file()} == before


def test_analyses_write_to_study_and_may_run_again(tmp_path: Path, alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, scores = write_study(tmp_path, {"Art": 12})
    scores.rename("savoias.csv")
    for _ in range(2):
        result = alit("analyze", "complexity", "savoias.csv", "--bootstrap", "0")
        assert result.exit_code == 0, result.stderr
        assert "study/complexity.csv" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"savoias.csv", "tokens.parquet", "study"}
    result = alit("select", "--thr", "0.1", "--out", "s.csv")
    assert result.exit_code == 0, result.stderr
    assert pd.read_csv("s.csv").columns.to_list()[:3] == ["image", "n_tokens", "satisfied"]


@pytest.mark.parametrize("sign", "=+-@")
def test_a_name_that_a_spreadsheet_takes_for_a_formula_stays_as_it_is_and_the_reference_says_so(
    tmp_path: Path, alit: Alit, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{sign}SUM(A1).jpg", "b.jpg"]
    write_tokens(Path("tokens.parquet"), np.full((2, 3), 0.05), names)
    result = alit("select", "tokens.parquet", "--thr", "0.08", "--out", "s.csv", "-q")
    assert result.exit_code == 0, result.stderr
    with open("s.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == names
    # An escaped name would no longer be that of its image.
    result = alit("select", "tokens.parquet", "--thr", "0.08", "--by", "s.csv:n_tokens", "--json", "-q")
    assert result.exit_code == 0, result.stderr
    assert pd.read_parquet("selection.parquet")["n_tokens_group"].tolist() == ["4", "4"]  # joined by name
    said = " ".join((ROOT / "commands/README.md").read_text().split())
    assert "in a spreadsheet, import the columns as text, since a name may begin with" in said
    assert f"`{sign}`" in said


def test_one_function_opens_every_output_for_writing() -> None:
    writing = re.compile(
        r"open\([^)]*, *\"[wxa]|\.savefig\(|write_text\(|write_bytes\(|open_memmap\(|\.tofile\(|shutil\.(copy|move)"
    )
    files = [*ROOT.glob("alit_cli/**/*.py"), *ROOT.glob("commands/*.py")]
    places = {str(file.relative_to(ROOT)) for file in files if writing.search(file.read_text())}
    assert places == {
        "alit_cli/data/files.py",  # open_output itself
        "alit_cli/analysis/figures/style.py",  # into the file of open_output, as all of the following
        "alit_cli/analysis/attention/sheets.py",
        "alit_cli/training/records/card.py",
        "alit_cli/runs/plan.py",  # the items of a plan, in a work folder
        "alit_cli/training/crops.py",  # crops that are too many for memory, in a work folder
        "alit_cli/training/log.py",  # a log that grows, in a work folder
        "alit_cli/jobs/bench.py",  # pictures in a temporary folder
    }
