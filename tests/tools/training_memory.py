"""Memory of a training step, plain and with gradient checkpointing: counted for every preset, or measured on this CPU.

    OMP_NUM_THREADS=1 python tests/tools/training_memory.py                          # the table of the reference
    OMP_NUM_THREADS=1 python tests/tools/training_memory.py --measure --preset small --batch 2

Counted: GiB per photograph that a step in bf16 has alive on a GPU, as alit_cli/training/memory.py finds it from a step
of fake tensors (without torch.compile): the difference between steps of 4 and of 2 photographs. Beside it the
photographs that one GPU takes at a time, after weights, average, optimizer and gradients, and with a tenth left free.

Measured: one whole step of random weights and photographs in a process of its own for each stage, without a critic. The
peak of live buffers during forward and backward, the peak resident memory of the process, and steps per second of CPU
time, so with one thread a busy machine hardly changes them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn

from alit_cli.config import PRESETS, STAGES, StageName, preset
from alit_cli.model.device import autocast
from alit_cli.model.rollout import Alit
from alit_cli.training.crops import CachedCrops
from alit_cli.training.distributed import Distributed
from alit_cli.training.memory import LiveBytes, step_memory
from alit_cli.training.optimizers import Optimizers
from alit_cli.training.plan import plan_step
from alit_cli.training.recipe import Recipe, recipe_for
from alit_cli.training.speed import training_precision
from alit_cli.training.train import STAGE_CLASSES

GIB = 2**30


def main() -> None:
    """Count, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--gpu", type=float, default=80e9, help="bytes of a GPU")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--stages", nargs="+", default=STAGES)
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "CHECKPOINTING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_measured(options.preset, options.child[0], options.child[1] == "on", options.batch)))
    elif options.measure:
        _measure(options.preset, options.batch, options.stages)
    else:
        _count(options.presets, options.gpu)


def _count(presets: list[str], gpu: float) -> None:
    print("| preset | stage | GiB per photograph | checkpointed | at a time | checkpointed | batch of the preset |")
    print("|---|---|---|---|---|---|---|")
    for name in presets:
        config, recipe = preset(name), recipe_for(name, {})
        for stage in STAGES:
            small, large = (
                list(step_memory(STAGE_CLASSES[stage], stage, config, recipe, rows, True, "bf16")) for rows in (2, 4)
            )
            each = [(four.step - two.step) / 2 for two, four in zip(small, large, strict=True)]
            # What does not grow with the batch: weights, optimizer, and the gradients that meet the activations.
            fixed = [two.weights + two.optimizer + two.step - 2 * one for two, one in zip(small, each, strict=True)]
            fit = [int((0.9 * gpu - whole) // one) for whole, one in zip(fixed, each, strict=True)]
            sizes = " | ".join(f"{one / GIB:.2f}" for one in each)
            print(
                f"| `{name}` | {stage} | {sizes} | {fit[0]} | {fit[1]} | {recipe.stage(stage).batch_size} |", flush=True
            )


def _measure(name: str, batch: int, stages: list[str]) -> None:
    threads, precision = torch.get_num_threads(), training_precision("auto", torch.device("cpu"))
    print(f"{name}, {batch} photographs at a time, {precision}, {threads} thread(s)")
    print("| stage | checkpointing | live buffers, GiB | process, GiB | steps/s |\n|---|---|---|---|---|")
    for stage in stages:
        for checkpointing in ("off", "on"):
            line = [sys.executable, __file__, "--preset", name, "--batch", str(batch), "--child", stage, checkpointing]
            result = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
            print(
                f"| {stage} | {checkpointing} | {result['live'] / GIB:.2f} | {result['process'] / GIB:.2f} | "
                f"{1 / result['seconds']:.3g} |",
                flush=True,
            )


def _measured(name: str, stage_name: StageName, checkpointing: bool, batch: int) -> dict[str, float]:
    """One step in this process."""
    torch.manual_seed(0)
    config = preset(name)
    recipe: Recipe = recipe_for(name, {stage: {"batch_size": batch} for stage in STAGES}, gan=())
    pixels = np.random.default_rng(0).integers(0, 256, (batch, config.image_size, config.image_size, 3), dtype=np.uint8)
    crops = CachedCrops(pixels, 1, pixels[:0])
    model = Alit(config).train()
    stage = STAGE_CLASSES[stage_name](model, recipe, crops, Distributed())
    average = [p.detach().clone() for p in model.parameters()]
    model.requires_grad_(False)
    for module in stage.trained():
        module.requires_grad_(True)
    stage.checkpoint(checkpointing)
    trained = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    optimizer = Optimizers(trained, recipe.stage(stage_name))
    # The last iteration, so that the rollout is whole.
    plan = plan_step(0, stage_name, recipe, config.iterations, crops)
    plan = dataclasses.replace(plan, share=1.0, iteration=config.iterations - 1, reads=tuple(range(config.iterations)))
    precision = training_precision("auto", torch.device("cpu"))
    begun = time.process_time()
    photographs = crops.batch(plan.rows, torch.device("cpu"))
    with LiveBytes() as tracker:
        tracker.ignore(model)
        with autocast(torch.device("cpu"), precision):
            losses = stage.step(photographs, plan)
        losses.total.backward()
    nn.utils.clip_grad_norm_([p for _, p in trained], 3.0)
    optimizer.step(1.0)
    seconds = time.process_time() - begun
    assert len(average) > 0  # alive until here, as in training
    process = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"live": tracker.peak, "process": process, "seconds": seconds}


if __name__ == "__main__":
    main()
