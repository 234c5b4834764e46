"""Scores find their images in a token table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from alit_cli.analysis.studies.complexity_scores import Scores
from alit_cli.analysis.studies.scored_images import join_scores
from alit_cli.errors import InputError
from tests.analysis.tables import write_tokens


def scores(images: Sequence[str], groups: Sequence[str] | None = None) -> Scores:
    return Scores(
        tuple(images),
        np.arange(len(images), dtype=np.float64),
        tuple(groups) if groups else None,
        ("image", "score", None),
        0,
    )


def test_join_takes_the_rows_in_the_order_of_the_scores_and_leaves_failures_out(tmp_path: Path) -> None:
    losses = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9], [np.nan] * 3])
    images = ["art/a.jpg", "art/b.jpg", "art/c.jpg", "art/d.jpg"]
    tokens = write_tokens(tmp_path / "tokens.parquet", losses, images, failed=[3])
    study = join_scores(tokens, scores(["c.jpg", "d.jpg", "x.jpg", "a.jpg"], groups=["p", "q", "r", "s"]))
    np.testing.assert_allclose(study.losses, losses[[2, 0]], rtol=1e-6)
    assert study.score.tolist() == [0, 3]
    assert study.groups is not None
    assert study.groups.tolist() == ["p", "s"]
    assert study.measures == {}
    assert study.failed == 1
    assert study.pairs.unmatched_names == ("x.jpg",)
    assert study.pairs.unmatched_keys == ("art/b.jpg",)


def test_no_match_at_all_shows_names_of_both_sides(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.ones((2, 3)), ["a.jpg", "b.jpg"])
    with pytest.raises(InputError, match=r"'x\.jpg' and 'y\.jpg'.*'a\.jpg' and 'b\.jpg'"):
        join_scores(tokens, scores(["x.jpg", "y.jpg", "z.jpg"]))


def test_scores_of_failed_images_alone_are_an_error(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.full((2, 3), np.nan), ["a.jpg", "b.jpg"], failed=[0, 1])
    with pytest.raises(InputError, match="None of the 2 scored images"):
        join_scores(tokens, scores(["a.jpg", "b.jpg"]))
