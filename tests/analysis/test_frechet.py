"""The Fréchet distance is the formula's, however the features arrive, and is refused where it means nothing."""

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from alit_cli.analysis.stats.frechet import Moments, Reference, check_enough
from alit_cli.errors import InputError
from tests.analysis.score_tables import frechet_distance

Floats = NDArray[np.float64]


def features(n: int, dimension: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(n, dimension)) @ generator.normal(size=(dimension, dimension)) / dimension**0.5
    found: Floats = np.asarray((mixed + 20 + seed).astype(np.float16), np.float64)
    return found


def formula(a: Floats, b: Floats) -> float:
    """As the definition says it, with the root of the product itself."""
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root))


@pytest.mark.parametrize("dimension", [1, 5, 64])
def test_it_equals_scipys_formula(dimension: int) -> None:
    a, b = features(400, dimension, 1), features(300, dimension, 2)
    b = b if dimension > 1 else b[:, :1]
    expected = (
        formula(a, b) if dimension > 1 else float((a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2)
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6 * np.trace(np.atleast_2d(np.cov(a, rowvar=False))))


def test_streaming_in_pieces_and_parts_changes_nothing_and_unknown_rows_do_not_count() -> None:
    a, b = features(300, 8, 1), features(200, 8, 2)
    centre = a[:10].mean(axis=0)
    parts = [Moments(centre) for _ in range(3)]
    for number, start in enumerate(range(0, 300, 7)):
        parts[number % 3].add(np.concatenate([a[start : start + 7], np.full((1, 8), np.nan)]).astype(np.float16))
    other = Moments(centre)
    other.add(b)
    whole = Moments.sum(parts)
    assert whole.n == 300
    np.testing.assert_allclose(whole.covariance, np.cov(a, rowvar=False), rtol=1e-9)
    assert Reference(whole).distance(other) == pytest.approx(formula(a, b), rel=1e-6)
    assert [part.n for part in parts] == [104, 98, 98]  # summing leaves the parts as they were


def test_too_few_images_are_refused_unless_told() -> None:
    check_enough(9, 8, "it")
    check_enough(8, 8, "it", allow_biased=True)
    with pytest.raises(InputError, match=r"8-dimensional features wants more than 8 images, it has 8.*--few-samples"):
        check_enough(8, 8, "it")
    with pytest.raises(InputError, match="it has 1"):
        check_enough(1, 8, "it", allow_biased=True)
