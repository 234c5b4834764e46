"""Time `alit tokenize` against the plainest correct loop on the same weights and images, in one run.

    python tests/tools/plain_loop.py ../shared/data/val --limit 96
    python tests/tools/plain_loop.py ../shared/data/val --limit 2 --rounds 2 --preset small

The plain loop takes one image at a time in float32, eager and contiguous, decodes every iteration, and returns freed
memory to the system as the C library does by default; `--pictures` times it with a PNG per iteration too. Ours writes
its table in every precision, without the complexity columns, which the loop lacks too. Then it stops early in the first
precision, at a threshold that the images' mean budget is about half of the largest for, and the tokens of that table
are compared with those that `alit select` takes from the full one. Rounds are interleaved; the best of each counts, so
that what else the machine does counts less. `--busy` counts the process's own seconds of CPU instead. `--preset` takes
a model of full size with the weights of tests/model/golden.py: they mean nothing, but cost as much as trained ones.
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
from alit_cli.config import preset
from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.jobs.bench import halving
from alit_cli.jobs.tokenize import TokenizeJob
from alit_cli.model.checkpoint import Record, embedded, read_checkpoint, write_checkpoint
from alit_cli.model.device import choose_device
from alit_cli.model.losses import l1_per_image
from alit_cli.model.memory import keep_freed_memory
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place
from alit_cli.runs.prepared import prepare
from alit_cli.runs.run import join_if_complete
from tests.model.golden import draw

Clock = Callable[[], float]


def main() -> None:
    """Timings of every precision, their ratios, and how far the rows agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--limit", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checkpoint")
    parser.add_argument("--preset", help="weights by a formula for this preset, instead of a checkpoint")
    parser.add_argument("--precisions", default="float32,mixed,bf16")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", action="store_true", help="time the loop with PNGs too")
    parser.add_argument("--busy", action="store_true", help="time this process's own seconds of CPU, on a busy machine")
    options = parser.parse_args()
    clock = time.process_time if options.busy else time.perf_counter
    items = list_items([options.images], options.limit)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = str(drawn(options.preset, folder)) if options.preset else options.checkpoint
        tokenizer = unprepared(checkpoint, choose_device(options.device))
        job = TokenizeJob([options.images], folder / "t.parquet", checkpoint, options.device, measures=False)
        job = dataclasses.replace(job, limit=options.limit, overwrite=True, batch_size=options.batch_size)
        jobs = {
            precision: dataclasses.replace(job, precision=precision, out=folder / f"{precision}.parquet")
            for precision in options.precisions.split(",")
        }
        first = next(iter(jobs.values()))
        plain, pictures = [], []
        ours: dict[str, list[float]] = {precision: [] for precision in jobs}
        early = []
        threshold = 0.0
        for _ in range(options.rounds):
            seconds, ids, errors = _plain(tokenizer, items, None, clock)
            plain.append(seconds)
            if options.pictures:
                pictures.append(_plain(tokenizer, items, folder, clock)[0])
            for precision, one in jobs.items():
                ours[precision].append(_ours(one, clock))
            threshold = threshold or halving(_errors(first.out, tokenizer), tokenizer.budgets)
            stopping = dataclasses.replace(first, stop=threshold, out=folder / "s.parquet")
            early.append(_ours(stopping, clock))
        tokens = pq.read_table(stopping.out)["n_tokens"].to_numpy().mean()
        same = _selected(first.out, threshold).equals(_selected(stopping.out, threshold))
        count, loop = len(items), min(plain)
        print(f"{tokenizer.config.name}, {count} images, {torch.get_num_threads()} threads")
        print(f"plain loop, float32     {count / loop:8.4f} images/s")
        if pictures:
            print(f"plain loop with PNGs    {count / min(pictures):8.4f} images/s")
        for precision, one in jobs.items():
            gap = np.abs(_errors(one.out, tokenizer) - errors)
            agree = f"|ΔL1| {gap.mean():.1e}, at most {gap.max():.1e}"
            if tokenizer.config.codes:
                agree = f"{(_ids(one.out, tokenizer) == ids).mean():.3%} of the ids equal, {agree}"
            speed = f"{count / min(ours[precision]):8.4f} images/s, {loop / min(ours[precision]):.2f} × the loop"
            print(f"alit tokenize, {precision:8s} {speed}; {agree}")
    stop = f"--stop l1<{threshold:.3f}"
    print(
        f"{stop:23s} {count / min(early):8.4f} images/s, {min(ours[first.precision]) / min(early):.2f} × the full table"
    )
    print(f"mean budget with it: {tokens:.1f} of {tokenizer.budgets[-1]} tokens; same as select's: {same}")


def drawn(name: str, folder: Path) -> Path:
    """A file of a preset with weights by the formula of the golden models."""
    config = preset(name)
    model = Alit(config).eval()
    model.load_state_dict({key: draw(0, key, list(value.shape)) for key, value in model.state_dict().items()})
    path = folder / f"{name}.safetensors"
    write_checkpoint(path, model, Record(config, ("base", "distill")))
    return path


def unprepared(checkpoint: str | None, device: torch.device) -> Tokenizer:
    """A tokenizer that computes as its modules are written, without what `load` adds."""
    with embedded() as path:
        found = read_checkpoint(path if checkpoint is None else Path(checkpoint))
    return Tokenizer(found.model.to(device), found.record, found.sha256, device, "float32")


def _selected(table: Path, threshold: float) -> pa.Table:
    """Image, budget and tokens that `alit select` gives."""
    out = table.with_name("selection.parquet")
    line = ["select", str(table), "--thr", repr(threshold), "--out", str(out)]
    result = CliRunner().invoke(main_command, line)
    assert result.exit_code == 0, result.stderr
    return pq.read_table(out, columns=["image", "n_tokens", "satisfied", "tokens"])


def _errors(table: Path, tokenizer: Tokenizer) -> np.ndarray:
    """L1 of every image at every budget of a table."""
    found = pq.read_table(table)
    return np.stack([found[f"l1_{budget}"].to_numpy() for budget in tokenizer.budgets], axis=1)


def _ids(table: Path, tokenizer: Tokenizer) -> np.ndarray:
    """Ids of every image at every budget of a table, one budget after the other."""
    found = pq.read_table(table)
    return np.concatenate([np.stack(found[f"tokens_{b}"].to_numpy()) for b in tokenizer.budgets], axis=1)


def _plain(
    tokenizer: Tokenizer, items: list[Item], folder: Path | None, clock: Clock
) -> tuple[float, np.ndarray, np.ndarray]:
    """Seconds, and the ids and the L1 of every image at every budget."""
    keep_freed_memory(False)
    start = clock()
    errors, ids = [], []
    for number, item in enumerate(items):
        pixels = tokenizer.as_pixels(fit(decode(item.read()), tokenizer.config.image_size)[None])
        row, own = [], []
        for record in tokenizer.rollout(pixels):
            row.append(l1_per_image(record.reconstruction, pixels).item())
            own.append(record.latents.tokens[0].flatten().cpu().numpy())
            if folder is not None:
                array = record.reconstruction[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
                Image.fromarray(array).save(folder / f"{number}-{record.budget}.png")
        errors.append(row)
        ids.append(np.concatenate(own))
    return clock() - start, np.array(ids), np.array(errors)


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
