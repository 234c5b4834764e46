"""The card beside a trained checkpoint: what it reaches, what it cost, what it saw, and how to make it again."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alit_cli import __version__
from alit_cli.config import STAGES, ModelConfig
from alit_cli.data.files import open_output, readable
from alit_cli.data.marks import figure_metadata, mark_text
from alit_cli.data.pictures.measures import measure
from alit_cli.model.arithmetic import count_flop
from alit_cli.model.checkpoint import Record
from alit_cli.model.rollout import Alit

MOST_SOURCES = 20
"""Inputs that a card names."""
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#6b6b6b"
"""Told apart by every kind of colour vision."""


@dataclass(frozen=True)
class CardFacts:
    """What a card needs that the checkpoint's record does not say.

    Attributes:
        command: the line that began the training; '' where a program began it.
        thumbnails: mean L1 of a thumbnail of as many bits on the photographs held out, by budget.
        arithmetic: floating-point operations per photograph, by stage; without those that could not be counted.
        trained_on, held_out, unread: numbers of photographs.
        log: log.jsonl of the work folder.
    """

    command: str
    thumbnails: Mapping[int, float]
    arithmetic: Mapping[str, float]
    trained_on: int
    held_out: int
    unread: int
    log: Path


def card_path(out: Path) -> Path:
    """Where the card of a checkpoint lies."""
    return out.with_name(f"{out.stem}.card.md")


def curves_path(out: Path) -> Path:
    """Where the card's curves lie."""
    return out.with_name(f"{out.stem}.curves.png")


def write_card(out: Path, model: Alit, record: Record, facts: CardFacts) -> None:
    """Write the card and its curves beside a checkpoint. Raises as open_output."""
    logged = read_log(facts.log)
    if logged:
        figure = draw_curves(logged)
        with open_output(curves_path(out), "figure") as file:
            figure.savefig(file, format="png", dpi=110, metadata=figure_metadata("png"))
    picture = curves_path(out).name if logged else None
    with open_output(card_path(out), "card") as file:
        file.write(card_text(out, model, record, facts, picture).encode())


def thumbnail_errors(photographs: np.ndarray, config: ModelConfig) -> dict[int, float]:
    """Mean L1 of thumbnails of as many bits as each budget has; a budget that buys no pixel is left out.

    Args:
        photographs: V S S 3 uint8, at least one.
        config: of the model whose budgets are meant.
    """
    bits = tuple(math.floor(budget * config.bits_per_token) for budget in config.budgets)
    errors = np.mean([measure(np.asarray(pixels), bits).thumbnail for pixels in photographs], axis=0)
    pairs = zip(config.budgets, errors.tolist(), strict=True)
    return {budget: error for budget, error in pairs if not math.isnan(error)}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log, each step of a stage once: an interrupted run logs some of them again."""
    if not path.exists():
        return []
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    last = {(record["stage"], record["step"]): record for record in records if record.get("losses")}
    return sorted(last.values(), key=lambda record: (STAGES.index(record["stage"]), record["step"]))


def draw_curves(records: Sequence[Mapping[str, Any]]) -> Figure:
    """One column per stage: above the loss over the steps, below the L1 of held-out photographs, smallest and largest
    budget."""
    stages = list(dict.fromkeys(str(record["stage"]) for record in records))
    figure = Figure(figsize=(max(3.2 * len(stages), 4.5), 4.2), layout="constrained")
    panels = figure.subplots(2, len(stages), squeeze=False, sharex="col")
    for column, stage in enumerate(stages):
        of_stage = [record for record in records if record["stage"] == stage]
        above, below = panels[:, column]
        above.plot([r["step"] for r in of_stage], [r["losses"]["total"] for r in of_stage], color=GREY)
        above.set_title(stage)
        _draw_validation(below, [record for record in of_stage if record.get("validation")])
        below.set_xlabel("steps")
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6e6e6")
    panels[0][0].set_ylabel("training loss")
    panels[1][0].set_ylabel("L1 of held-out photographs")
    return figure


def _draw_validation(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    if not records:
        axes.text(0.5, 0.5, "none held out", transform=axes.transAxes, ha="center", color=GREY)
        return
    budgets = sorted(map(int, records[-1]["validation"]))
    unit = "grid tokens" if records[-1]["stage"] == "base" else "tokens"
    # Of a base tokenizer both ends are one, and one line is drawn.
    for budget, colour, mark in {budgets[0]: (budgets[0], ORANGE, "o"), budgets[-1]: (budgets[-1], BLUE, "s")}.values():
        steps, values = [r["step"] for r in records], [r["validation"][str(budget)] for r in records]
        axes.plot(steps, values, f"{mark}-", markersize=3, color=colour, label=f"{budget} {unit}: {values[-1]:.4f}")
    axes.margins(y=0.3)  # room for the legend
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def card_text(out: Path, model: Alit, record: Record, facts: CardFacts, picture: str | None) -> str:
    """The card in Markdown."""
    config = record.alit_config
    base = "a VQGAN" if config.base.kind == "vqgan" else "a KL VAE"
    latents = f"{config.codes} codes of {config.token_dim} dimensions" if config.codes else "continuous latents"
    sizes = f"width {config.width}, {config.layers} + {config.layers} layers, {config.heads} heads"
    weights = sum(parameter.numel() for parameter in model.parameters())
    first, last = ", ".join(map(str, config.budgets[:2])), f" … {config.budgets[-1]}"
    budgets = first + last if config.iterations > 3 else ", ".join(map(str, config.budgets))
    rows = [
        ("image", f"{config.image_size}×{config.image_size} pixels; the short side is resized, the centre cropped"),
        ("budgets", f"{budgets} tokens, {latents}, {config.bits_per_token:.4g} bits per token"),
        ("base tokenizer", f"{base} with a {config.grid_side}×{config.grid_side} grid"),
        ("distillation", sizes),
        ("weights", f"{weights / 1e6:.4g} million; `{out.name}`, {out.stat().st_size / 2**20:.4g} MiB"),
        ("stages", ", ".join(record.stages)),
    ]
    if flops := flops_per_image(model):
        rows.append(("cost of using it", f"{flops / 1e9:.4g} GFLOP for all budgets of one image, pictures included"))
    parts = [
        f"<!-- {mark_text('card')} -->\n# {config.name}",
        "A tokenizer trained by `alit train`. This card was written at the end of its training.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]),
        f"## Figures\n\n{_figures(record, facts)}",
        *([f"![Losses and held-out L1 over the steps of each stage]({picture})"] if picture else []),
        f"## Cost\n\n{_cost(record, facts)}",
        f"## Data\n\n{_data(record, facts)}",
        f"## How to make it again\n\n{_again(out, record, facts)}",
    ]
    return "\n\n".join(parts) + "\n"


def flops_per_image(model: Alit) -> float:
    """Multiplications and additions of one whole rollout with its pictures, counted on an empty image."""
    device = next(model.parameters()).device
    side = model.config.image_size
    with torch.no_grad():
        return float(count_flop(lambda: list(model.rollout(torch.zeros(1, 3, side, side, device=device)))))


def _figures(record: Record, facts: CardFacts) -> str:
    last = record.training[-1] if record.training else {}
    errors = {int(budget): l1 for budget, l1 in last.get("validation_l1", {}).items()}
    if not errors:
        return "No photographs were held out, so nothing was measured."
    text = f"Mean L1 of {facts.held_out} photographs that were held out of training, pixels in 0 to 1, unclamped"
    if last.get("stage") == "base":
        return f"{text}: {next(iter(errors.values())):.4f} for the base tokenizer alone."
    lines = [
        f"{text}, beside a thumbnail of as many bits.",
        "",
        "| tokens | L1 | thumbnail | ratio |",
        "|---|---|---|---|",
    ]
    for budget, l1 in errors.items():
        thumbnail = facts.thumbnails.get(budget)
        beside = f"{thumbnail:.4f} | {l1 / thumbnail:.3f}" if thumbnail else "no pixel |"
        lines.append(f"| {budget} | {l1:.4f} | {beside} |")
    lines += ["", "They were held out of this training only: photographs much like them may have been trained on."]
    return "\n".join(lines)


def _cost(record: Record, facts: CardFacts) -> str:
    lines = [
        "| stage | steps × batch | photographs seen | TFLOP per photograph | PFLOP | hours | device | precision |",
        "|---|---|---|---|---|---|---|---|",
    ]
    seen = hours = 0.0
    # A stage that was trained twice was trained by this run the second time; of an earlier run nothing is known.
    ours = {str(entry.get("stage")): number for number, entry in enumerate(record.training)}
    for number, entry in enumerate(record.training):
        name = str(entry.get("stage"))
        recipe = entry.get("recipe", {}).get(name, {})
        batch, steps = recipe.get("batch_size", 0), entry.get("steps", 0)
        seen, hours = seen + steps * batch, hours + entry.get("seconds", 0) / 3600
        device = f"{entry.get('processes', 1)} × {entry.get('device', '?')}"
        flop = facts.arithmetic.get(name) if ours[name] == number else None
        arithmetic = f"{flop / 1e12:.3g} | {flop * steps * batch / 1e15:.3g}" if flop else "? | ?"
        lines.append(
            f"| {name} | {steps:,} × {batch} | {steps * batch:,} | {arithmetic} | {entry.get('seconds', 0) / 3600:.3g} "
            f"| {device} | {entry.get('precision', '?')} |"
        )
    lines += ["", f"Together {seen:,.0f} photographs, each counted as often as it was seen, in {hours:.3g} hours. The"]
    lines[-1] += (
        " critic's own batches and the time of decoding before the first step are not counted among them.\n\n"
        "The arithmetic is that of forward and backward passes, with the critic's where there is one, averaged over "
        "the stage. What gradient checkpointing computes again, what the optimizer does and k-means are not in it. A "
        "stage of less than a minute is not counted, nor one of an earlier training."
    )
    return "\n".join(lines)


def _data(record: Record, facts: CardFacts) -> str:
    photos = [str(source) for source in (record.training[-1].get("photos", []) if record.training else [])]
    shown = "\n".join(f"- `{readable(source)}`" for source in photos[:MOST_SOURCES])
    more = f"\n- and {len(photos) - MOST_SOURCES} more" if len(photos) > MOST_SOURCES else ""
    unread = f", {facts.unread:,} could not be read" if facts.unread else ""
    return (
        f"{facts.trained_on:,} photographs to train on, {facts.held_out:,} held out{unread}, from\n\n{shown}{more}\n\n"
        "Name their sources and licences here before you pass the model on."
    )


def _again(out: Path, record: Record, facts: CardFacts) -> str:
    last = record.training[-1] if record.training else {}
    start = last.get("start", "from random weights")
    seed = last.get("recipe", {}).get("seed", 0)
    versions = (
        f"alit {__version__}, torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    )
    command = f"```\n{readable(facts.command)}\n```\n\n" if facts.command else ""
    return (
        f"{command}It began {start}, with seed {seed}. Made with {versions}, on {platform.machine()} "
        f"{platform.system()}. `alit info {out.name} --json` prints the whole recipe."
    )
