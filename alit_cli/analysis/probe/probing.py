"""Linear probes: how well a linear classifier tells the classes apart from pooled vectors."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.data.tables.pooled import Pooled
from alit_cli.errors import InputError
from alit_cli.progress import Progress, counted

POOLS = ("latents", "first", "image", "both", "all")
"""Mean over all latents, over the first of them, over the image tokens; latents and image tokens side by side; mean
over latents and image tokens together (as the paper pools)."""
PIXELS = "pixels"
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""C of the logistic regression: the inner cross-validation's choice."""
INNER = 3
"""Folds of the inner cross-validation: enough to choose among five C, and the smallest classes still have images."""
STEPS = 20_000
"""Of the solver; far more than standardised vectors need, so that a fit that reaches it is worth a remark."""


@dataclass(frozen=True, eq=False)
class Feature:
    """One way to describe the images: n d vectors; iteration and tokens are None for raw pixels."""

    pool: str
    iteration: int | None
    tokens: int | None
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """What a probe on one feature reaches on images it was not fitted on.

    Attributes:
        pool, iteration, tokens, dimensions: the feature.
        images: n.
        accuracy, low, high: top-1 over all outer folds, with the Wilson 95 % interval over images.
        chance: the share of the most frequent class.
        above_pixels, above_low, above_high: accuracy less that of raw pixels, image by image on the same folds, with
            its 95 % interval (normal).
        penalties: the C that the inner cross-validation chose in each fold; one of a split.
        converged: whether every fit did.
    """

    pool: str
    iteration: int | None
    tokens: int | None
    dimensions: int
    images: int
    accuracy: float
    low: float
    high: float
    chance: float
    above_pixels: float
    above_low: float
    above_high: float
    penalties: tuple[float, ...]
    converged: bool


@dataclass(frozen=True)
class Probed:
    """One record of the work: a probe's outcome, but for the first, which says that none is done."""

    progress: Progress
    accuracy: Accuracy | None = None


def check_split(train: Sequence[str], validation: Sequence[str]) -> None:
    """InputError where scikit-learn is missing, the training labels are too few, or validation has other classes."""
    # A split fits once to all training images, which `check_probe` calls one fold.
    check_probe(train, 1)
    if not validation:
        raise InputError("None of the validation images has a label, so there is nothing to test a probe on.")
    strange = sorted(set(validation) - set(train))
    if strange:
        raise InputError(
            f"The class '{strange[0]}' is among the validation images but not among those that the probe is fitted to."
        )


def check_probe(labels: Sequence[str], folds: int) -> None:
    """InputError where scikit-learn is missing, or the labels are too few to be told apart in so many folds.

    One fold stands for a fit to all of the images.
    """
    try:
        # scikit-learn is an extra of the package; it is asked for before any work is done.
        import sklearn  # noqa: F401
    except ImportError as error:
        raise InputError("A probe needs scikit-learn: pip install 'alit[tasks]'.") from error
    counts = Counter(labels)
    if len(counts) < 2:
        raise InputError(
            f"A probe tells classes apart, and there is only {len(counts)}; give images of several, or other --labels."
        )
    name, least = min(counts.items(), key=lambda pair: pair[1])
    if least < folds:
        raise InputError(
            f"The class '{name}' has {counted(least, 'image')}, fewer than the {folds} folds: take fewer folds or "
            "leave it out."
        )
    # The largest fold takes the rounded-up share of a class; the inner folds need INNER images of what remains.
    left = least if folds == 1 else least - -(-least // folds)  # images of the class outside a fold
    # With fewer, an inner fold would have no image of this class, and C could not be chosen.
    if left < INNER:
        raise InputError(
            f"The class '{name}' has {least} images: too few to be fitted{f' in {folds} folds' if folds > 1 else ''}; "
            "add some or leave it out."
        )


def features_of(images: Sequence[Pooled], pools: Sequence[str]) -> list[Feature]:
    """Raw pixels first, then every pool at every iteration."""
    features = [Feature(PIXELS, None, None, np.stack([image.pixels for image in images]))]
    for pool in pools:
        for index, (iteration, tokens) in enumerate(zip(images[0].iterations, images[0].tokens, strict=True)):
            values = np.stack([_vector(image, pool, index) for image in images])
            features.append(Feature(pool, iteration, tokens, values))
    return features


def _vector(image: Pooled, pool: str, index: int) -> NDArray[np.float32]:
    if pool == "both":
        return np.concatenate([image.latents[index], image.grid[index]])
    if pool == "all":
        return image.together(index)
    vector: NDArray[np.float32] = {"latents": image.latents, "first": image.first, "image": image.grid}[pool][index]
    return vector


def probe(
    features: Sequence[Feature],
    labels: Sequence[str],
    folds: int = 5,
    seed: int = 0,
    validation: NDArray[np.bool_] | None = None,
) -> Iterator[Probed]:
    """Fit and test a probe on each feature, all on the same folds; the first feature is raw pixels.

    Logistic regression on standardised vectors; C is chosen by cross-validation inside each training fold. With
    `validation` (n, which images) there are no folds: probes are fitted to the others and tested on these.
    """
    classes, y = np.unique(np.array(labels), return_inverse=True)
    # In cross-validation every image is tested once, in the fold that leaves it out.
    tested = np.ones(len(y), np.bool_) if validation is None else validation
    chance = float(np.bincount(y[tested]).max() / tested.sum())
    yield Probed(Progress(0, len(features), unit="probes"))
    plain: NDArray[np.bool_] | None = None
    for index, feature in enumerate(features, 1):
        right, penalties, converged = _fit_and_test(feature.values, y, folds, seed, validation)
        # The first feature is raw pixels; all later ones are compared with it image by image.
        plain = right if plain is None else plain
        # Wilson's interval stays within 0 and 1 also for few images and accuracies near the ends.
        share = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        gain = right.astype(float) - plain
        # The deviation of a single image is not defined, and its interval is NaN.
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(right)) if len(right) > 1 else np.nan
        accuracy = Accuracy(
            pool=feature.pool,
            iteration=feature.iteration,
            tokens=feature.tokens,
            dimensions=feature.values.shape[1],
            images=len(right),
            accuracy=float(right.mean()),
            low=float(share.low),
            high=float(share.high),
            chance=chance,
            above_pixels=float(gain.mean()),
            above_low=float(gain.mean() - half),
            above_high=float(gain.mean() + half),
            penalties=penalties,
            converged=converged,
        )
        note = f"{len(classes)} classes"
        yield Probed(Progress(index, len(features), unit="probes", note=note), accuracy)


def _fit_and_test(
    values: NDArray[np.float32], y: NDArray[Any], folds: int, seed: int, validation: NDArray[np.bool_] | None
) -> tuple[NDArray[np.bool_], tuple[float, ...], bool]:
    """Which of the tested images are classified right, the C of each fit, and whether every fit converged.

    Tested are all images, each when its fold is left out, or those of `validation`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = np.zeros(len(y), bool)
    penalties = []
    # The same seed in every fold and for every feature: all probes are fitted on the same images.
    inner = StratifiedKFold(INNER, shuffle=True, random_state=seed)
    with warnings.catch_warnings(record=True) as caught:
        # Python shows a warning once per place and then no more; here every fit that did not converge must be seen.
        warnings.simplefilter("always", ConvergenceWarning)
        if validation is None:
            splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(values, y))
        else:
            splits = [(np.flatnonzero(~validation), np.flatnonzero(validation))]
        for train, test in splits:
            # The scaler is inside the pipeline, so that it is fitted to training images only.
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=STEPS))
            search = GridSearchCV(model, {"logisticregression__C": PENALTIES}, cv=inner)
            # In float32 the solver may come to a halt before it reaches its tolerance.
            search.fit(values[train].astype(np.float64), y[train])
            right[test] = search.predict(values[test].astype(np.float64)) == y[test]
            penalties.append(float(search.best_params_["logisticregression__C"]))
    failed = [warning for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    return right if validation is None else right[validation], tuple(penalties), not failed


def pool_name(pool: str, first: int) -> str:
    """How a pool is called where people read it."""
    names = {"first": f"the first {first} latents", "image": "image tokens", "both": "latents and image tokens"}
    names["all"] = "latents and image tokens in one mean"
    return {**names, PIXELS: "raw pixels"}.get(pool, pool)


def save_probe(accuracies: Sequence[Accuracy], folder: Path) -> list[Path]:
    """Write probe.csv and probe.parquet, one row per probe; what `open_output` raises."""
    rows = [{**dataclasses.asdict(row), "penalties": " ".join(f"{c:g}" for c in row.penalties)} for row in accuracies]
    # Int64 with a capital knows a missing value: raw pixels have neither iteration nor tokens.
    table = pd.DataFrame(rows).astype({"iteration": "Int64", "tokens": "Int64"})
    return [save_csv(table, folder / "probe.csv"), save_parquet(table, folder / "probe.parquet")]
