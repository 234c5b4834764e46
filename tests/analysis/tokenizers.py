"""Token tables of several tokenizers on the same images, with scores, around numbers that a test has chosen."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.analysis.query.tables import Tables
from alit_cli.data.tables.parquet import KEY
from alit_cli.data.tables.token_table import read_info
from tests.analysis.score_tables import write_scores
from tests.analysis.tables import write_tokens


def table(folder: Path, name: str, losses: NDArray[Any], images: list[str], **changes: Any) -> Tables:
    """A token table of a model of this name."""
    path = folder / f"{name}.parquet"
    write_tokens(path, losses, images)
    described = dataclasses.replace(read_info(path), model=name, model_sha256=name[0] * 64, **changes)
    rows = pq.read_table(path)
    pq.write_table(rows.replace_schema_metadata({KEY: described.to_json().encode()}), path)
    return Tables(path, with_scores=False)


def scored_tables(folder: Path) -> tuple[list[Tables], dict[str, NDArray[Any]]]:
    """Two tables of 30 images in different orders, each with the ranks and features of the network `judge`.

    `adaptive` has three budgets of 12 bits a token, `fixed` one of 10 bits. What was written, in the order of the
    names: `NAME l1` n T, `NAME rank` n T+1 and `NAME features` n T+1 3.
    """
    generator = np.random.default_rng(5)
    names = [f"{row}.jpg" for row in range(30)]
    original = generator.normal(0, 1, (30, 3))
    world: dict[str, NDArray[Any]] = {}
    tables = []
    for name, steps in (("adaptive", 3), ("fixed", 1)):
        order = generator.permutation(30)
        shuffled = [names[row] for row in order]
        rank = generator.integers(1, 4, (30, steps + 1)).astype(np.float64)
        kept = np.append(np.linspace(0.4, 0.8, steps), 1)[:, None]
        features = (original[:, None] * kept + 0.1 * (1 - kept)).astype(np.float16)
        losses = generator.uniform(0.05, 0.2, (30, steps))
        table(folder, name, losses[order], shuffled, codes=4096 if steps > 1 else 1024)
        scores, budgets, model = folder / "scores" / name, (4, 8, 12)[:steps], name[0] * 16
        scores.mkdir(parents=True)
        write_scores(
            scores / "classify@judge.parquet", shuffled, {"class_rank": rank[order]}, None, budgets, None, model
        )
        write_scores(
            scores / "features@judge.parquet", shuffled, {"features": features[order]}, None, budgets, None, model
        )
        world |= {f"{name} rank": rank, f"{name} features": features, f"{name} l1": losses.astype(np.float32)}
        tables.append(Tables(folder / f"{name}.parquet", scores))
    return tables, world
