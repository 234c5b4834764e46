"""Time `alit tokenize` against the plainest correct loop on the same weights and images, in one run.

    python tests/tools/plain_loop.py ../shared/data/val --limit 96

The plain loop takes one image at a time, eager, contiguous, and decodes every iteration, without and with a PNG per
iteration written by Pillow's defaults. Ours writes its table, without the complexity columns, which the loop lacks too;
then again with early stop at a threshold that the images' mean budget is about half of the largest for, and the tokens
of that table are compared with those that `alit select` takes from the full one. Rounds are interleaved; the best of
each counts, so that what else the machine does counts less. `--busy` counts the process's own seconds of CPU instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from click.testing import CliRunner
from PIL import Image

from alit_cli.cli import main as main_command
from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.jobs.bench import halving
from alit_cli.jobs.tokenize import TokenizeJob
from alit_cli.model.losses import l1_per_image
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place
from alit_cli.runs.prepared import prepare
from alit_cli.runs.run import join_if_complete

Clock = Callable[[], float]


def main() -> None:
    """Four timings, their ratios, and whether the rows agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--limit", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checkpoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--busy", action="store_true", help="time this process's own seconds of CPU, on a busy machine")
    options = parser.parse_args()
    clock = time.process_time if options.busy else time.perf_counter
    items = list_items([options.images], options.limit)
    tokenizer = load(options.checkpoint, device=options.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = TokenizeJob([options.images], folder / "t.parquet", options.checkpoint, options.device)
        job = dataclasses.replace(job, limit=options.limit, measures=False, overwrite=True)
        _ours(job, clock)
        ours = np.stack([pq.read_table(job.out)[f"l1_{b}"].to_numpy() for b in tokenizer.budgets], axis=1)
        threshold = halving(ours, tokenizer.budgets)
        stopping = dataclasses.replace(job, stop=threshold, out=folder / "s.parquet")
        plain, pictures, whole, early = [], [], [], []
        for _ in range(options.rounds):
            seconds, errors = _plain(tokenizer, items, None, clock)
            plain.append(seconds)
            pictures.append(_plain(tokenizer, items, folder, clock)[0])
            whole.append(_ours(job, clock))
            early.append(_ours(stopping, clock))
        tokens = pq.read_table(stopping.out)["n_tokens"].to_numpy().mean()
        same = _selected(job.out, threshold).equals(_selected(stopping.out, threshold))
    count, loop, table = len(items), min(plain), min(whole)
    print(f"{count} images, {torch.get_num_threads()} threads; largest |ΔL1| {np.abs(ours - errors).max():.1e}")
    print(f"plain loop               {count / loop:6.2f} images/s")
    print(f"plain loop with PNGs     {count / min(pictures):6.2f} images/s")
    ratios = f"{loop / table:.2f} × the loop, {min(pictures) / table:.2f} × the loop with PNGs"
    print(f"alit tokenize            {count / table:6.2f} images/s  {ratios}")
    stop = f"--stop l1<{threshold:.3f}"
    print(f"{stop:24s} {count / min(early):6.2f} images/s  {table / min(early):.2f} × the full table")
    print(f"mean budget with it: {tokens:.1f} of {tokenizer.budgets[-1]} tokens; same as select's: {same}")


def _selected(table: Path, threshold: float) -> pa.Table:
    """Image, budget and tokens that `alit select` gives."""
    out = table.with_name("selection.parquet")
    line = ["select", str(table), "--thr", repr(threshold), "--out", str(out)]
    result = CliRunner().invoke(main_command, line)
    assert result.exit_code == 0, result.stderr
    return pq.read_table(out, columns=["image", "n_tokens", "satisfied", "tokens"])


def _plain(tokenizer: Tokenizer, items: list[Item], folder: Path | None, clock: Clock) -> tuple[float, np.ndarray]:
    """Seconds, and the L1 of every image at every budget."""
    start = clock()
    errors = []
    for number, item in enumerate(items):
        pixels = tokenizer.as_pixels(fit(decode(item.read()), tokenizer.config.image_size)[None])
        row = []
        for record in tokenizer.rollout(pixels):
            row.append(l1_per_image(record.reconstruction, pixels).item())
            if folder is not None:
                array = record.reconstruction[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
                Image.fromarray(array).save(folder / f"{number}-{record.budget}.png")
        errors.append(row)
    return clock() - start, np.array(errors)


def _ours(job: TokenizeJob, clock: Clock) -> float:
    """Seconds for the table, the model being loaded."""
    prepared = prepare(job)
    assert prepared is not None
    with ShardRunner(prepared, Place(job.device)) as runner:
        start = clock()
        for index in prepared.due_shards():
            list(runner.do(index))
        runner.flush()
        join_if_complete(prepared)
        return clock() - start


if __name__ == "__main__":
    main()
