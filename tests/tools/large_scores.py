"""Time `alit analyze capacity` on synthetic tables of 100,000 images, which are made first, as a stream.

    python tests/tools/large_scores.py /tmp/large                    # 512-dimensional features: about 1 GB
    python tests/tools/large_scores.py /tmp/large --images 20000

Prints seconds and peak resident memory of each question, and that none of them imports torch; the folder is removed
afterwards.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from large_table import BUDGETS, measured, write_table  # type: ignore[import-not-found]  # beside this script

from alit_cli.data.tables.parquet import KEY, ROW_GROUP
from alit_cli.data.tables.score_table import ScoreInfo
from alit_cli.data.tables.token_table import read_info

ORIGINALS = "original"
QUESTIONS = {
    "top-1 by L1, one threshold": "capacity --tsc l1<0.08 --toi classify",
    "top-1 and depth by rank, 12 thresholds": "capacity --tsc classify --toi classify,depth",
    "a Fréchet distance by L1, 12 thresholds": "capacity --tsc recon --toi features --bootstrap 0",
    "the same with its interval": "capacity --tsc recon --toi features",
}


def main() -> None:
    """Make the tables, ask, remove them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    options = parser.parse_args()
    scores = options.folder / "scores"
    scores.mkdir(parents=True)
    begun = time.monotonic()
    table = options.folder / "tokens.parquet"
    write_table(table, options.images, tokens=False)
    for task, measures in _tasks(options.dimension).items():
        _write(
            scores / f"{task}@synthetic.parquet",
            ScoreInfo(
                task=task,
                model="synthetic",
                model_id=read_info(table).model_id,
                image_size=256,
                budgets=BUDGETS,
                measures=tuple(measures),
                options={},
                versions={},
            ),
            measures,
            options.images,
        )
    size = sum(path.stat().st_size for path in options.folder.rglob("*.parquet")) / 1e6
    print(f"{options.images} images, {size:.0f} MB, made in {time.monotonic() - begun:.0f} s", flush=True)
    for name, line in QUESTIONS.items():
        kind, *rest = line.split()
        words = ["analyze", kind, str(table), *rest, "--out", str(options.folder / "answer")]
        memory, seconds = measured(words, without="torch")
        print(f"{name}: {seconds:.1f} s, {memory:.0f} MiB", flush=True)
    shutil.rmtree(options.folder)


def _tasks(dimension: int) -> dict[str, dict[str, int]]:
    """Measures of each task and how many numbers an image has of each."""
    return {"classify": {"class_rank": 1}, "depth": {"depth_error": 1}, "features": {"features": dimension}}


def _write(path: Path, info: ScoreInfo, measures: dict[str, int], images: int) -> None:
    writer = None
    for part in _parts(measures, images):
        if writer is None:
            schema = part.schema.with_metadata({KEY: info.to_json().encode()})
            writer = pq.ParquetWriter(path, schema)
        writer.write_table(part.cast(schema), row_group_size=ROW_GROUP)
    if writer is not None:
        writer.close()


def _parts(measures: dict[str, int], images: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(1)
    for start in range(0, images, ROW_GROUP):
        count = min(ROW_GROUP, images - start)
        columns: dict[str, pa.Array] = {
            "image": pa.array([f"{number // 1000:06d}/{number:09d}.jpg" for number in range(start, start + count)]),
        }
        for name, dimension in measures.items():
            for place, budget in enumerate((*BUDGETS, ORIGINALS)):
                values = rng.gamma(2, 1.5 * 0.8**place, (count, dimension)).astype(np.float16)
                columns[f"{name}_{budget}"] = _column(name, values)
        columns["label"] = pa.array([f"class {number % 100}" for number in range(start, start + count)])
        columns["label_source"] = pa.array(["given"] * count)
        yield pa.table(columns)


def _column(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> pa.Array:
    if name == "features":
        offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))
    if name == "class_rank":
        return pa.array(1 + values[:, 0].astype(np.int32))
    return pa.array(values[:, 0].astype(np.float32) / 10)


if __name__ == "__main__":
    main()
