"""Check and time what a GPU changes, in under ten minutes, and write one JSON file of the results.

    python tests/tools/gpu_check.py --out gpu.json                         # on a machine with a GPU
    python tests/tools/gpu_check.py --out cpu.json --rehearse --device cpu # the same lines with small models

Sections, in this order: `machine` (rates of matrix products), `parity` (ids and L1 beside those of the CPU),
`throughput` (images/s, memory, and the share of a matrix product's rate that a rollout reaches), `layouts` (decoding
pixels with contiguous and with channels-last convolutions), `early_stop`,
`workers` (two processes on one device, one of them killed, then resumed), `training` (steps/s of every stage),
`training_resumed` (interrupted and resumed), `training_processes` (two GPUs, or two processes of a CPU).
The file is written anew after each section, so that a machine that is lost leaves what was measured. A section that
fails leaves its traceback, and the next one goes on. Photographs are synthetic, so nothing but this checkout is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from alit_cli.config import preset
from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit
from alit_cli.jobs.bench import Bench, halving, matmul_rate, parameters
from alit_cli.jobs.tokenize import TokenizeJob
from alit_cli.model.checkpoint import Record
from alit_cli.model.device import Precision, choose_device, speed_up
from alit_cli.model.losses import l1_per_image
from alit_cli.model.rollout import Alit
from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer import Tokenizer, load

ALIT = (sys.executable, "-m", "alit_cli")
SHARD = 4
"""Rows of a shard of `workers`, so few that one can be killed between two shards."""
ROUNDS = 3
"""The best of these counts, after one round that compiles."""


@dataclass(frozen=True)
class Sizes:
    """How large the work is: on a GPU the paper's models, in a rehearsal what a CPU does in two minutes."""

    photos: int = 64
    parity: int = 16
    stopped: int = 512
    models: tuple[str, ...] = ("nano", "small", "base")
    batches: tuple[int, ...] = (1, 32, 128)
    train: tuple[str, ...] = ("--preset", "small", "--batch-size", "8")
    train_steps: int = 60
    resumed: tuple[str, ...] = ("--preset", "nano", "--batch-size", "8")
    resumed_steps: int = 40


TINY = ("--image-size", "64", "--tokens-per-iteration", "2", "--width", "32", "--layers", "1", "--heads", "2")
REHEARSAL = Sizes(
    photos=8,
    parity=2,
    stopped=8,
    models=("nano",),
    batches=(1, 4),
    train=("--preset", "nano", "--batch-size", "4", "--gan", "finetune", *TINY),
    train_steps=40,
    resumed=("--preset", "nano", "--batch-size", "4", *TINY),
    resumed_steps=30,
)


@dataclass(frozen=True)
class Context:
    """What every section gets: where to compute, how much, and a folder with the photographs."""

    device: torch.device
    sizes: Sizes
    folder: Path

    @property
    def photos(self) -> Path:
        """The folder of synthetic photographs."""
        return self.folder / "photos"


def main() -> None:
    """Run the sections that fit into the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rehearse", action="store_true", help="small models, as on a CPU")
    parser.add_argument("--only", help="sections, with commas between them")
    parser.add_argument("--seconds", type=float, default=570.0, help="no section begins after so many seconds")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(SECTIONS)
    begun = time.monotonic()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        context = Context(choose_device(options.device), REHEARSAL if options.rehearse else Sizes(), Path(name))
        context.photos.mkdir()
        bench = Bench(load(device="cpu"), TokenizeJob((), Path("unused"), limit=context.sizes.photos, batch_size=1))
        for number, data in enumerate(bench.encoded):
            (context.photos / f"{number:03}.jpg").write_bytes(data)
        for section in wanted:
            started = time.monotonic()
            if started - begun > options.seconds:
                results[section] = {"left_out": f"more than {options.seconds:.0f} seconds had passed"}
            else:
                try:
                    results[section] = SECTIONS[section](context)
                except Exception:
                    results[section] = {"failed": traceback.format_exc()}
                results[section]["seconds"] = round(time.monotonic() - started, 1)
            print(f"{section}: {json.dumps(results[section], indent=1)}", flush=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")


def machine(context: Context) -> dict[str, Any]:
    """Versions, the device, and TFLOP/s of a large matrix product in both precisions."""
    result: dict[str, Any] = {"torch": torch.__version__, "device": str(context.device), "cpus": os.cpu_count()}
    if context.device.type == "cuda":
        properties = torch.cuda.get_device_properties(context.device)
        result |= {"name": properties.name, "gib": round(properties.total_memory / 2**30, 1)}

    for precision in ("float32", "bf16"):
        result[f"matmul_tflops_{precision}"] = matmul_rate(load(device=str(context.device), precision=precision)) / 1e12
    return result


def parity(context: Context) -> dict[str, Any]:
    """The embedded model beside itself on the CPU in float32: share of equal ids, and |ΔL1|; then compiled."""
    encoded = _photos(context, context.sizes.parity)
    ids, l1 = _results(load(device="cpu", precision="float32"), encoded)
    result: dict[str, Any] = {}
    ways = [(precision, compiled) for compiled in (False, True) for precision in ("float32", "bf16")]
    for precision, compiled in ways:
        tokenizer = load(device=str(context.device), precision=precision)
        if compiled:
            speed_up(tokenizer.model, context.device)
        other_ids, other_l1 = _results(tokenizer, encoded)
        gap = (l1 - other_l1).abs()
        result[f"{precision}{' compiled' if compiled else ''}"] = {
            "ids_equal": float((ids == other_ids).float().mean()),
            "l1_mean": float(gap.mean()),
            "l1_largest": float(gap.max()),
        }
    return result


def _photos(context: Context, count: int) -> list[Path]:
    """The first photographs."""
    return sorted(context.photos.iterdir())[:count]


def _results(tokenizer: Tokenizer, paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of every budget (b K) and L1 (b T), on the CPU."""
    pixels = tokenizer.as_pixels(list(paths))
    ids, errors = [], []
    for record in tokenizer.rollout(pixels):
        assert record.latents.ids is not None
        ids.append(record.latents.ids.cpu())
        errors.append(l1_per_image(record.reconstruction, pixels).cpu())
    return torch.cat(ids, dim=1), torch.stack(errors, dim=1)


def throughput(context: Context) -> dict[str, Any]:
    """Every model at every batch in bf16: images/s of all budgets with all pixels, memory, and graphs compiled."""
    result: dict[str, Any] = {}
    for name in context.sizes.models:
        tokenizer = _random(name, context.device)
        side = tokenizer.config.image_size
        one = torch.rand(1, 3, side, side, device=context.device)
        with FlopCounterMode(display=False) as counter:  # before compilation, which hides operations from the counter
            _whole(tokenizer, one)
        flop, peak = counter.get_total_flops(), matmul_rate(tokenizer)
        speed_up(tokenizer.model, context.device)
        result[name] = {"million_parameters": parameters(tokenizer.model) / 1e6, "gflop_per_image": flop / 1e9}
        for batch in context.sizes.batches:
            pixels = torch.rand(batch, 3, side, side, device=context.device)
            _reset_peak(context.device)
            begun = time.perf_counter()
            _whole(tokenizer, pixels)
            first = time.perf_counter() - begun
            best = min(_seconds(partial(_whole, tokenizer, pixels), context.device) for _ in range(ROUNDS))
            result[name][f"batch {batch}"] = {
                "images_per_second": batch / best,
                "share_of_matmul": flop * batch / best / peak,
                "first_seconds": first,  # with compilation
                "peak_gib": _peak(context.device),
            }
    return result | {"compiled": _compiled()}


def layouts(context: Context) -> dict[str, Any]:
    """Pixels of one budget in bf16, contiguous and channels-last: group norm may undo the second with every layer."""
    result: dict[str, Any] = {}
    batch = context.sizes.batches[1]
    for name in context.sizes.models:
        tokenizer = _random(name, context.device)
        side = tokenizer.config.image_size
        *_, latents = tokenizer.iterate(torch.rand(batch, 3, side, side, device=context.device))
        speeds = {}
        for word, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
            for part in tokenizer.model.convolutions:
                part.to(memory_format=layout)  # type: ignore[call-overload]
            decoding = partial(tokenizer.reconstruct, latents.vectors)
            speeds[word] = batch / min(_seconds(decoding, context.device) for _ in range(ROUNDS + 1))
        result[name] = speeds
    return result


def early_stop(context: Context) -> dict[str, Any]:
    """The embedded model's scheduler: without a threshold, and with one that the mean budget is half for."""
    tokenizer = load(device=str(context.device))
    speed_up(tokenizer.model, context.device)
    count = min(context.sizes.photos, context.sizes.stopped)
    fitted = [fit(decode(path.read_bytes()), tokenizer.config.image_size) for path in _photos(context, count)]
    pictures = [fitted[i % count] for i in range(context.sizes.stopped)]
    pixels = tokenizer.as_pixels(np.stack(fitted))
    errors = [l1_per_image(r.reconstruction, pixels).cpu().numpy() for r in tokenizer.rollout(pixels)]
    threshold = halving(np.stack(errors, axis=1), tokenizer.budgets)
    speeds = {}
    for word, limit in (("full", -1.0), ("stopped", threshold)):
        seconds = []
        for _ in range(2):  # the first round compiles
            scheduler = RolloutScheduler(tokenizer, tokenizer.budgets, limit, context.sizes.batches[-1])
            seconds.append(_seconds(partial(list, scheduler.run(pictures)), context.device))
        speeds[word] = len(pictures) / min(seconds)
    return {"threshold": threshold, **speeds, "ratio": speeds["stopped"] / speeds["full"], "compiled": _compiled()}


def workers(context: Context) -> dict[str, Any]:
    """`alit tokenize` by two processes on one device; one is killed after its first shard, then both run again."""
    line = [*ALIT, "tokenize", str(context.photos), "--device", context.device.type, "--batch-size", str(SHARD)]
    line += ["--shard-size", str(SHARD), "--quiet"]
    _run([*line, "--out", str(context.folder / "one.parquet")])
    out = context.folder / "two.parquet"
    halves = [[*line, "--out", str(out), "--worker", f"{i}/2"] for i in range(2)]
    first = subprocess.Popen(halves[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and not list(Path(f"{out}.work").rglob("*.parquet")):
        time.sleep(0.02)
    first.kill()
    killed = first.wait() != 0
    for half in halves:
        _run(half)
    one, two = pq.read_table(context.folder / "one.parquet"), pq.read_table(out)
    return {"killed_after_a_shard": killed, "rows": two.num_rows, "tables_equal": two.equals(one)}


def training(context: Context) -> dict[str, Any]:
    """Steps/s and peak memory of every stage of a new model, between two records and so without compilation."""
    out = context.folder / "trained.safetensors"
    _run([*_train(context, out, context.sizes.train, context.sizes.train_steps)])
    records = [
        json.loads(line) for line in (context.folder / f"{out.name}.work" / "log.jsonl").read_text().splitlines()
    ]
    batch = int(context.sizes.train[context.sizes.train.index("--batch-size") + 1])
    return {
        record["stage"]: {"steps_per_second": record["images_per_second"] / batch, "peak_gib": record["memory"]}
        for record in records
        if record["step"] == 40  # the second record of a stage; the first one counts compilation
    }


def training_resumed(context: Context) -> dict[str, Any]:
    """A run that SIGINT interrupts and that the same command resumes, beside one that was left alone."""
    whole, resumed = context.folder / "whole.safetensors", context.folder / "resumed.safetensors"
    _run(_train(context, whole, context.sizes.resumed, context.sizes.resumed_steps))
    line = _train(context, resumed, context.sizes.resumed, context.sizes.resumed_steps)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = context.folder / f"{resumed.name}.work" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    code = process.wait()
    _run(line)
    return {"interrupted_with": code, "largest_difference": _difference(whole, resumed)}


def training_processes(context: Context) -> dict[str, Any]:
    """One process beside two: two GPUs with NCCL, or two processes on a CPU with gloo.

    The base stage alone, in float32 and for a few steps: rounding grows with every step, and codes that change by it
    would hide what is asked here.
    """
    if context.device.type == "cuda" and torch.cuda.device_count() < 2:
        return {"left_out": "NCCL takes one process per GPU, and there is one GPU"}
    one, two = context.folder / "single.safetensors", context.folder / "double.safetensors"
    exact = ["--stages", "base", "--precision", "float32"]
    _run([*_train(context, one, context.sizes.resumed, 4), *exact])
    line = [*_train(context, two, context.sizes.resumed, 4), *exact]
    _run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *line[1:]])
    return {"largest_difference": _difference(one, two)}


def _train(context: Context, out: Path, sizes: tuple[str, ...], steps: int) -> list[str]:
    """The line of `alit train` with so many steps in each stage."""
    counts = [word for stage in ("base", "distill", "finetune") for word in (f"--{stage}-steps", str(steps))]
    ends = ["--device", context.device.type, "--validate-every", "1000000", "--quiet", "--out", str(out)]
    return [*ALIT, "train", str(context.photos), *sizes, *counts, *ends]


def _difference(one: Path, other: Path) -> float:
    """The largest difference of two models' weights, relative to the largest weight of its tensor."""
    ours, theirs = load_file(one), load_file(other)
    return max(float((ours[k] - theirs[k]).abs().max() / ours[k].abs().max().clamp_min(1e-6)) for k in ours)


def _run(line: list[str]) -> None:
    """Run a command to its end; what it printed is in the error where it fails."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def _random(name: str, device: torch.device, precision: Precision = "bf16") -> Tokenizer:
    """A model of a preset with random weights; its speed is that of a trained one."""
    if name == "nano":
        return load(device=str(device), precision=precision)
    torch.manual_seed(0)
    model = Alit(preset(name, "vqgan")).to(device).eval()
    return Tokenizer(model, Record(model.config), "0" * 64, device, precision)


def _whole(tokenizer: Tokenizer, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The L1 at every budget, as `alit tokenize` computes it."""
    return [l1_per_image(record.reconstruction, pixels) for record in tokenizer.rollout(pixels)]


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes, its last kernel included."""
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _compiled() -> dict[str, int]:
    """What torch.compile has done in this process: graphs, and frames that it gave up (suppress_errors hides them)."""
    counters = torch._dynamo.utils.counters
    frames = counters["frames"]
    return {"graphs": counters["stats"]["unique_graphs"], "given_up": frames["total"] - frames["ok"]}


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> float:
    """GiB of a GPU since the last reset; 0 on a CPU, where it would be that of the whole process."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


SECTIONS: dict[str, Callable[[Context], dict[str, Any]]] = {
    function.__name__: function
    for function in (
        machine,
        parity,
        throughput,
        layouts,
        early_stop,
        workers,
        training,
        training_resumed,
        training_processes,
    )
}


if __name__ == "__main__":
    main()
