"""Draw the card's pictures: the curves of the embedded model's training, and the samples it does worst on.

Usage: python tests/tools/make_card_pictures.py base.log.jsonl distill.log.jsonl finetune.log.jsonl [longer.log.jsonl]
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from alit_cli import load
from alit_cli.analysis.figures.style import STYLE, budget_colours

ROOT = Path(__file__).parents[2]
WEIGHTS, SAMPLES = ROOT / "alit_cli" / "weights", ROOT / "sample_data" / "images"
WORST = 5


def read(path: Path) -> list[dict[str, Any]]:
    """The records of one run's log that hold a validation, the last of each step."""
    records = (json.loads(line) for line in path.read_text().splitlines())
    return list({record["step"]: record for record in records if record.get("validation")}.values())


def draw_stage(axes: Axes, records: list[dict[str, Any]], title: str) -> None:
    """Held-out L1 against steps, a line a budget; the lines are named at their ends."""
    steps = [record["step"] for record in records]
    colours = budget_colours(sorted(int(budget) for budget in records[-1]["validation"]))
    for budget, colour in colours.items():
        values = [record["validation"][str(budget)] for record in records]
        axes.plot(steps, values, color=colour)
    first, last = min(colours), max(colours)
    for budget in {first, last}:
        value = records[-1]["validation"][str(budget)]
        what = "grid tokens" if len(colours) == 1 else "tokens"
        where = (0, -13) if budget == last else (0, 14)
        axes.annotate(
            f"{budget} {what}: {value:.3f}", (steps[-1], value), where, textcoords="offset points", ha="right"
        )
    axes.margins(y=0.12)
    axes.set(title=title, xlabel="steps")


def draw_curves(logs: list[Path]) -> None:
    """nano_curves.png."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(logs), figsize=(3.1 * len(logs), 3.4), layout="constrained", squeeze=False)
        stages: list[str] = []
        for axes, log in zip(panels[0], logs, strict=True):
            records = read(log)
            stages.append(records[-1]["stage"])
            draw_stage(axes, records, stages[-1] + ", continued" * (stages.count(stages[-1]) > 1))
        panels[0][0].set_ylabel("mean L1 on held-out photographs")
        figure.savefig(WEIGHTS / "nano_curves.png", dpi=110)


def draw_failures() -> None:
    """nano_failures.png: original above reconstruction from all tokens."""
    nano = load(device="cpu")
    paths = sorted(SAMPLES.iterdir())
    pixels = nano.as_pixels([Image.open(path) for path in paths])
    *_, last = nano.rollout(pixels)
    errors = (last.reconstruction - pixels).abs().mean(dim=(1, 2, 3))
    figure, axes = plt.subplots(2, WORST, figsize=(1.7 * WORST, 3.7), dpi=85, layout="constrained")
    for column, row in enumerate(errors.argsort(descending=True)[:WORST].tolist()):
        for axis, image in zip(axes[:, column], (pixels[row], last.reconstruction[row].clamp(0, 1)), strict=True):
            axis.imshow(image.permute(1, 2, 0))
            axis.set_axis_off()
        axes[0, column].set_title(paths[row].stem, fontsize=10)
        axes[1, column].set_title(f"{last.budget} tokens, L1 {errors[row]:.3f}", fontsize=9)
    figure.savefig(WEIGHTS / "nano_failures.png")


if __name__ == "__main__":
    draw_curves([Path(path) for path in sys.argv[1:]])
    draw_failures()
