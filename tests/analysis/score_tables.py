"""Score tables beside a token table, as `alit score` would write them, around numbers that a test has chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.analysis.stats.frechet import Moments, Reference
from alit_cli.data.tables.parquet import KEY
from alit_cli.data.tables.score_table import ScoreInfo
from tests.analysis.tables import BUDGETS, info, write_tokens


def write_scores(
    path: Path,
    images: Sequence[str],
    measures: Mapping[str, NDArray[Any]],
    extras: Mapping[str, Sequence[Any]] | None = None,
    budgets: Sequence[int] = BUDGETS,
    run: str | None = None,
    model_id: str | None = None,
    codec: str = "",
) -> Path:
    """Write a score table: each measure n T or n T+1 (the last: the originals) or with a further d; NaN for null.

    `run` is the fingerprint of the run of `alit tokenize` that it says it scores, `model_id` the model of that run.
    With a `codec` the measures are n 1, those of its pictures.
    """
    columns: dict[str, Any] = {"image": list(images)}
    for name, values in measures.items():
        names = [codec] if codec else [*budgets, "original"][: values.shape[1]]
        for place, tail in enumerate(names):
            columns[f"{name}_{tail}"] = _column(name, values[:, place])
    columns |= dict(extras or {})
    task, _, model = path.stem.partition("@")
    about = ScoreInfo(
        task=task,
        model=model,
        model_id=model_id or info().model_id,
        image_size=info().image_size,
        budgets=tuple(budgets),
        measures=tuple(measures),
        options=({} if run is None else {"tokens": run}) | ({"reconstructions": {"name": codec}} if codec else {}),
        versions={},
    )
    table = pa.table(columns).replace_schema_metadata({KEY: about.to_json().encode()})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=7)
    return path


def _column(name: str, values: NDArray[Any]) -> pa.Array:
    if values.ndim > 1:
        return pa.array([None if np.isnan(row).any() else row for row in values.astype(np.float16)])
    return pa.array(values, pa.int32() if name == "class_rank" else pa.float32(), from_pandas=True)


def write_world(folder: Path, images: int = 60, seed: int = 3) -> dict[str, NDArray[Any]]:
    """Tokens and scores of images in two folders whose L1 and class rank fall with the budget; what was written.

    `l1` n T, `class_rank` and `depth_error` n T+1, `features` n T+1 4; the last image failed.
    """
    generator = np.random.default_rng(seed)
    names = [f"{'art' if row % 3 else 'photo'}/{row}.jpg" for row in range(images)]
    need = generator.uniform(size=(images, 1))
    l1 = 0.04 + 0.1 * need * np.array([1, 0.7, 0.5]) + generator.normal(0, 0.004, (images, 3))
    noise = generator.exponential(1, (images, 1)) * np.array([3.0, 1.2, 0.6, 0.2])
    rank = np.floor(1 + noise * generator.uniform(0.5, 1.5, (images, 4)))
    depth = 0.3 * need * np.array([1, 0.6, 0.5]) + generator.uniform(0, 0.02, (images, 3))
    original = generator.normal(0, 1, (images, 1, 4))
    features = original * np.array([0.3, 0.7, 0.9, 1])[:, None]
    world = {"l1": l1, "class_rank": rank, "depth_error": depth, "features": features.astype(np.float16)}
    for values in world.values():
        values[-1] = np.nan
    write_tokens(folder / "tokens.parquet", l1, names, failed=[images - 1], group=11)
    label = [name.split("/")[0] for name in names]
    extras = {"label": label, "label_source": ["given"] * images}
    scores = folder / "scores"
    write_scores(scores / "classify@resnet-18.parquet", names, {"class_rank": rank}, extras)
    write_scores(scores / "depth@small.parquet", names, {"depth_error": depth})
    write_scores(scores / "features@dino.parquet", names, {"features": world["features"]})
    return world


def frechet_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The squared Fréchet distance of two sets of features, m d and n d."""
    centre = np.asarray(a[:1000], np.float64).mean(axis=0)
    one, other = Moments(centre), Moments(centre)
    one.add(a)
    other.add(b)
    return Reference(one).distance(other)
