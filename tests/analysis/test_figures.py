"""Figures in both sizes, and what they are called."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from alit_cli.analysis.figures.style import ONE_COLUMN, TWO_COLUMNS, drawing_style, empty_figure, figure_size
from alit_cli.analysis.figures.tokenizers import BITS, TOKENS, cost_axis, separate_labels
from tests.analysis.score_tables import write_scores, write_world
from tests.analysis.tables import write_tokens
from tests.conftest import Alit


def inches(path: Path) -> tuple[float, float]:
    with Image.open(path) as picture:
        dots = picture.info["dpi"][0]
        return picture.width / dots, picture.height / dots


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of 60 images, and a second classifier beside the one of `write_world`."""
    folder = tmp_path_factory.mktemp("world")
    rank = write_world(folder, 60)["class_rank"] + 2
    names = [f"{'art' if row % 3 else 'photo'}/{row}.jpg" for row in range(60)]
    extras = {"label": [name.split("/")[0] for name in names], "label_source": ["given"] * 60}
    write_scores(folder / "scores" / "classify@weak.parquet", names, {"class_rank": rank}, extras)
    return folder


@pytest.mark.parametrize(
    ("words", "figure", "width"),
    [
        ("strength --task classify", "strength", ONE_COLUMN),
        ("quality", "quality", TWO_COLUMNS),
        ("capacity --tsc recon --toi recon,depth --bootstrap 20", "capacity", TWO_COLUMNS),
    ],
)
def test_a_figure_for_a_paper_has_the_width_of_a_column(
    words: str, figure: str, width: float, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit
) -> None:
    monkeypatch.chdir(world)
    name, *rest = words.split()
    table = ["tokens.parquet"] if name == "quality" else ["--tokens", "tokens.parquet"]
    for size in ("wide", "paper"):
        options = ["--figure-size", size, "--out", tmp_path / size, "-q"]
        result = alit("analyze", name, *table, *rest, *options)
        assert result.exit_code == 0, result.output
    assert inches(tmp_path / "paper" / f"{figure}.png")[0] == pytest.approx(width, abs=0.02)
    assert inches(tmp_path / "wide" / f"{figure}.png")[0] > width


def test_sets_are_called_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit) -> None:
    monkeypatch.chdir(tmp_path)
    losses = np.linspace(0.05, 0.2, 90).reshape(30, 3)[:, ::-1]
    for folder in ("photos", "sketches"):
        (tmp_path / folder).mkdir()
        write_tokens(tmp_path / folder / "tokens.parquet", losses)
    tables = ["photos/tokens.parquet", "sketches/tokens.parquet"]
    for names, expected in (([], "sketches"), (["--names", "real, drawn"], "drawn")):
        result = alit("analyze", "familiarity", *tables, *names, "--bootstrap", 20, "-q", "--json")
        assert result.exit_code == 0, result.output
        assert f'"set": "{expected}"' in result.stdout
    wrong = alit("analyze", "familiarity", *tables, "--names", "one")
    assert wrong.exit_code == 2
    assert "2 different names" in wrong.stderr


@pytest.mark.parametrize("size", ["wide", "paper"])
def test_labels_of_costs_do_not_touch(size: Literal["wide", "paper"]) -> None:
    """Three tokenizers of 12, 10 and 16 bits per token: many of their costs are nearly the same."""
    bits = [12.0 * tokens for tokens in range(32, 257, 32)] + [320.0, 2560.0, 3328.0, 65536.0]
    with figure_size(size), drawing_style():
        figure = empty_figure((12.9, 4.7))
        panels = figure.subplots(1, 3)
        for axes, spent, reached in zip(panels, (BITS, TOKENS, BITS), (bits, range(32, 257, 32), [384.0]), strict=True):
            axes.plot(reached, reached)
            cost_axis(axes, spent, reached)
        separate_labels(figure)
        figure.draw_without_rendering()
        for axes, at_least in zip(panels, (3, 4, 1), strict=True):
            boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
            assert len(boxes) >= at_least
            assert all(one.x1 + 1 < other.x0 for one, other in pairwise(boxes))
