"""Small token tables, as `alit tokenize` would write them, around losses that a test has chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.data.pictures.views import VIEWS
from alit_cli.data.tables.parquet import encodings
from alit_cli.data.tables.token_table import TableInfo, TableOptions, token_schema

BUDGETS = (4, 8, 12)


def info(
    budgets: Sequence[int] = BUDGETS, codes: int = 4096, stop: float | None = None, views: str | None = None
) -> TableInfo:
    return TableInfo(
        model="nano",
        model_sha256="0123456789abcdef" * 4,
        image_size=64,
        budgets=tuple(budgets),
        codes=codes,
        token_dim=2,
        fit="crop",
        precision="float32",
        batch_size=1,
        versions={},
        options=TableOptions(stop=stop, views=views),
    )


def tokens_of(row: int, budget: int, codes: int = 4096) -> list[float]:
    """The tokens that `write_tokens` gives to an image at a budget: they tell where they come from."""
    if not codes:
        return [row + budget / 8] * (budget * 2)
    return [(row * 16 + budget + place) % codes for place in range(budget)]


def write_tokens(
    path: Path,
    losses: NDArray[Any],
    images: Sequence[str] | None = None,
    failed: Sequence[int] = (),
    measures: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None,
    codes: int = 4096,
    group: int = 3,
    stop: float | None = None,
    views: str | None = None,
) -> Path:
    """Write a token table: losses n T, NaN for null; rows in `failed` are images that could not be read."""
    budgets = BUDGETS if losses.shape[1] == len(BUDGETS) else tuple(range(4, 4 * losses.shape[1] + 4, 4))
    about, n = info(budgets, codes, stop, views), len(losses)
    schema = token_schema(about, measures=measures is not None)
    ok = [row not in failed for row in range(n)]
    columns: dict[str, Any] = {name: [None] * n for name in schema.names}
    columns["image"] = list(images or (f"{row}.jpg" for row in range(n)))
    columns["status"] = ["ok" if good else "truncated" for good in ok]
    for name, values in (measures or {}).items():
        columns[name] = [value if good else None for value, good in zip(values, ok, strict=True)]
    for step, budget in enumerate(budgets):
        known = [good and not np.isnan(loss) for good, loss in zip(ok, losses[:, step], strict=True)]
        columns[f"l1_{budget}"] = [loss if good else None for loss, good in zip(losses[:, step], known, strict=True)]
        tokens = [tokens_of(row, budget, codes) if good else None for row, good in enumerate(known)]
        columns[f"{about.tokens}_{budget}"] = _lists(tokens, codes)
    if stop is not None:
        reached = [[budget for budget, loss in zip(budgets, row, strict=True) if not np.isnan(loss)] for row in losses]
        columns["n_tokens"] = [some[-1] if some and good else None for some, good in zip(reached, ok, strict=True)]
    table = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    pq.write_table(table, path, row_group_size=group, **encodings(schema))
    return path


def write_equal_views(folder: Path) -> tuple[Path, Path]:
    """Two tables of the same 30 photographs: a row for each, and ten equal views of each, as ten-crop makes."""
    l1 = np.random.default_rng(0).uniform(0.05, 0.15, (30, 1)) * np.array([1, 0.7, 0.5])
    names = [f"{row}.jpg{'#' if view else ''}{view}" for row in range(30) for view in VIEWS["ten-crop"]]
    plain = write_tokens(folder / "plain.parquet", l1)
    return plain, write_tokens(folder / "crops.parquet", np.repeat(l1, 10, axis=0), names, views="ten-crop")


def _lists(tokens: list[list[float] | None], codes: int) -> list[Any]:
    kind = np.uint16 if codes else np.float16
    return [None if row is None else np.array(row, kind) for row in tokens]


def write_study(folder: Path, categories: Mapping[str, int], measures: bool = True) -> tuple[Path, Path]:
    """A token table whose L1 rises with a score scaled to 0–100 in each category, and the scores as a csv."""
    generator = np.random.default_rng(7)
    names = [f"{category}/{row}.jpg" for category, images in categories.items() for row in range(images)]
    score = np.concatenate([np.linspace(0, 100, images).round() for images in categories.values()])
    base = 0.05 + 0.1 * (0.7 * score / 100 + 0.3 * generator.uniform(size=len(score)))
    losses = base[:, None] * np.array([1, 0.7, 0.5])
    described: dict[str, Any] = {
        "jpeg_bytes": (4000 + 90 * score + generator.normal(0, 2000, len(score))).round(),
        "png_bytes": (9000 + 90 * score).round(),
        "edge_density": generator.uniform(size=len(score)),
        "entropy": np.full(len(score), 7.0),
        "mad": generator.uniform(0.1, 0.2, len(score)),
        "distinct_colours": (50 + score).round(),
        "sobel_gradient": generator.uniform(size=len(score)),
        "jpeg_bytes_128": [None] * len(score),  # the fitted images are smaller
        "jpeg_bytes_256": [None] * len(score),
        **{f"thumbnail_{budget}": base * 1.2 for budget in BUDGETS},
    }
    tokens = write_tokens(folder / "tokens.parquet", losses, names, measures=described if measures else None)
    rows = [f"{name},{value:.0f},{name.split('/')[0]}" for name, value in zip(names, score, strict=True)]
    (folder / "scores.csv").write_text("\n".join(["image,score,category", *rows, ""]))
    return tokens, folder / "scores.csv"
