"""The Fréchet distance of two sets of features, from sums that are added up as the features stream by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from alit_cli.errors import InputError

Floats = NDArray[np.float64]


class Moments:
    """What is left of n features of d dimensions: their number, mean and covariance (unbiased, d d).

    Features are added less a `centre` (d) that all moments of one comparison share, so that no digit is lost
    where they are far from zero and close together.
    """

    def __init__(self, centre: Floats) -> None:
        self.centre = centre
        self.n = 0
        self.total = np.zeros_like(centre)
        self.squares = np.zeros((len(centre), len(centre)), order="F")  # the upper triangle

    def add(self, features: NDArray[Any]) -> None:
        """Count features (m d) in; rows that hold a NaN are left out."""
        # Features come in single precision, in which a sum over many images would lose digits.
        rows = features.astype(np.float64) - self.centre
        known = np.isfinite(rows).all(axis=1)
        if not known.all():
            rows = rows[known]
        if len(rows):
            self.n += len(rows)
            self.total += rows.sum(axis=0)
            # dsyrk works on one triangle only, half of a full product, and in place because of the Fortran order.
            self.squares = dsyrk(1.0, rows.T, 1.0, self.squares, overwrite_c=True)

    @classmethod
    def sum(cls, parts: Iterable[Moments]) -> Moments:
        """The moments of all features together."""
        first, *others = parts
        whole = cls(first.centre)
        for part in (first, *others):
            whole.n += part.n
            whole.total += part.total
            whole.squares += part.squares
        return whole

    @property
    def mean(self) -> Floats:
        """The mean, d."""
        return self.centre + self.total / self.n

    @property
    def covariance(self) -> Floats:
        """The unbiased covariance, d d."""
        offset = self.total / self.n
        upper = (self.squares - self.n * np.triu(np.outer(offset, offset))) / (self.n - 1)
        whole: Floats = upper + np.triu(upper, 1).T
        return whole


class Reference:
    """The set that others are compared with; the root of its covariance is taken once."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self.covariance = moments.covariance
        values, vectors = scipy.linalg.eigh(self.covariance)
        # Rounding makes the smallest eigenvalues of a singular covariance slightly negative.
        self.root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T

    def distance(self, other: Moments) -> float:
        """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½): the squared Fréchet distance of the two normal distributions.

        Heusel et al., 2017. The trace of the root is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½.
        """
        difference = self.moments.mean - other.mean
        covariance = other.covariance
        values = scipy.linalg.eigvalsh(self.root @ covariance @ self.root)
        # These eigenvalues are clipped for the same reason as those of the reference.
        roots = 2 * np.sqrt(np.clip(values, 0, None)).sum()
        return float(difference @ difference + np.trace(self.covariance) + np.trace(covariance) - roots)


def check_enough(n: int, dimension: int, what: str, allow_biased: bool = False) -> None:
    """Raise InputError where n features cannot fill a covariance of their dimension, unless bias is allowed."""
    # The mean uses up one feature, so a covariance of full rank takes one more than its dimension.
    least = 2 if allow_biased else dimension + 1
    if n < least:
        more = "" if allow_biased else ", or let --few-samples give the biased number"
        raise InputError(
            f"A Fréchet distance of {dimension}-dimensional features wants more than {least - 1} images, "
            f"{what} has {n}: take more images{more}."
        )
