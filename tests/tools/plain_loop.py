"""Time `alit tokenize` against the plainest correct loop on the same weights and images, in one run.

    python tests/tools/plain_loop.py ../shared/data/val --limit 96

The plain loop takes one image at a time, eager, and decodes every iteration, with and without a PNG per iteration
written by Pillow's defaults. Ours writes its table, without the complexity columns, which the loop lacks too;
then again with early stop at a threshold that the images' mean budget is about half of the largest for.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from alit_cli.data.decoding import decode
from alit_cli.data.images import fit
from alit_cli.data.sources import Item, list_items
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.losses import l1_per_image
from alit_cli.model.tokenizer import Tokenizer, load


def main() -> None:
    """Four timings, ratios to the plain loop, and whether the rows agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--limit", type=int, default=96)
    options = parser.parse_args()
    items = list_items([options.images], options.limit)
    tokenizer = load(device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = TokenizeJob([options.images], folder / "t.parquet", device="cpu", limit=options.limit, measures=False)
        plain, errors = _plain(tokenizer, items, None)
        pictures, _ = _plain(tokenizer, items, folder)
        whole = _ours(job)
        table = pq.read_table(job.out)
        ours = np.stack([table[f"l1_{b}"].to_numpy() for b in tokenizer.budgets], axis=1)
        threshold = _halving(ours, np.array(tokenizer.budgets))
        stopping = dataclasses.replace(job, stop=threshold, out=folder / "s.parquet")
        early = _ours(stopping)
        tokens = pq.read_table(stopping.out)["n_tokens"].to_numpy().mean()
    print(f"{len(items)} images, {torch.get_num_threads()} threads; largest |ΔL1| {np.abs(ours - errors).max():.1e}")
    for what, seconds in (("plain", plain), ("plain, with PNGs", pictures), ("alit tokenize", whole)):
        print(f"{what:24s} {len(items) / seconds:6.2f} images/s  {plain / seconds:5.2f} × plain")
    stop = f"--stop l1<{threshold:.3f}"
    print(f"{stop:24s} {len(items) / early:6.2f} images/s  {whole / early:5.2f} × the full table")
    print(f"mean budget with it: {tokens:.1f} of {tokenizer.budgets[-1]} tokens")


def _plain(tokenizer: Tokenizer, items: list[Item], folder: Path | None) -> tuple[float, np.ndarray]:
    """Seconds, and the L1 of every image at every budget."""
    start = time.perf_counter()
    errors = []
    for number, item in enumerate(items):
        pixels = tokenizer.as_pixels(fit(decode(item.read()), tokenizer.config.image_size)[None])
        row = []
        for record in tokenizer.rollout(pixels):
            row.append(l1_per_image(record.reconstruction, pixels).item())
            if folder is not None:
                array = record.reconstruction[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(array).save(folder / f"{number}-{record.budget}.png")
        errors.append(row)
    return time.perf_counter() - start, np.array(errors)


def _ours(job: TokenizeJob) -> float:
    start = time.perf_counter()
    for _ in tokenize(job):
        pass
    return time.perf_counter() - start


def _halving(losses: np.ndarray, budgets: np.ndarray) -> float:
    """The threshold whose mean visited budget comes nearest to half of the largest."""
    best = 0.0, float("inf")
    for threshold in np.linspace(losses.min(), losses.max(), 200):
        below = losses < threshold
        visited = np.where(below.any(axis=1), budgets[below.argmax(axis=1)], budgets[-1]).mean()
        gap = abs(visited - budgets[-1] / 2)
        best = min(best, (float(threshold), gap), key=lambda pair: pair[1])
    return best[0]


if __name__ == "__main__":
    main()
