"""What `alit analyze attention` prints: the maps by iteration, and with masks how well tokens fit segments."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from alit_cli.analysis.attention.study import AttentionStudy
from alit_cli.analysis.attention.tables import BEST, SETS, measure_name, series
from alit_cli.results import TextTable
from alit_cli.table_layout import Cell

LABELS = {
    "top_decile": "mass in the top tenth of positions",
    "entropy": "entropy (even map: 1)",
    "latent_share": "share of attention to tokens",
    "stability": "r with itself at the next iteration",
    "stability_others": "r with other tokens there",
    "overlap": "overlap of top tenths with the next",
    "sameness": "r with itself in other images",
}
"""The measures of maps that are printed, and how they are called."""


def attention_blocks(summary: pd.DataFrame, study: AttentionStudy) -> Iterator[TextTable | str]:
    """The maps; with masks, for all tokens and for the first budget's, the mIoU, its chance and a verdict."""
    tokens = [str(number) for number in sorted(summary.tokens.unique())]
    rows = tuple((label, *_means(summary, measure)) for measure, label in LABELS.items())
    yield TextTable(f"Maps of the tokens, means over {study.images} images", ("tokens", *tokens), rows)
    if study.bound is None:
        return
    images, segments = study.bound
    # More tokens give the best of them more chances, so the first budget is printed as well: its number never changes.
    for whose in SETS:
        lines: list[tuple[Cell, ...]] = []
        for share, label in study.shares.items():
            lines.append((label, *_means(summary, measure_name(whose, share, shuffled=False))))
            lines.append(("  chance", *_means(summary, measure_name(whose, share, shuffled=True))))
        name = "all tokens" if whose == "all" else f"the first {study.first} tokens"
        title = f"mIoU of the best token per segment, {name} ({images} images, {segments} segments)"
        yield TextTable(title, ("region", *tokens), tuple(lines))
        yield _verdict(summary, whose)


def attention_remarks(study: AttentionStudy) -> Iterator[str]:
    """Masks that cannot be used, images without a mask, and sheets that are of some images only."""
    if unreadable := study.unreadable_masks:
        count, why = len(unreadable), next(iter(unreadable.values()))
        yield f"{count} of {study.images} images have a mask that cannot be used, and count only for the maps: {why}"
    if study.without_mask and study.masks is not None:
        names = study.without_mask
        yield f"{len(names)} images have no mask, or no segment in it, and count only for the maps: {names[0]}, …"
    if 0 < study.question.sheets < study.images:
        yield f"Sheets are drawn of the first images only, as many as --sheets says: {study.question.sheets}."


def _means(summary: pd.DataFrame, measure: str) -> list[Cell]:
    """One cell per iteration."""
    rows = series(summary, measure)
    known = dict(zip(rows["tokens"], rows["mean"], strict=True))
    return [f"{known[n]:.3f}" if n in known else None for n in sorted(summary.tokens.unique())]


def _verdict(summary: pd.DataFrame, whose: str) -> str:
    """Whether the tokens fit this image's objects better than other images' tokens do, in a sentence."""
    gain = series(summary, f"gain_{whose}_{BEST}")
    if gain.empty:
        return "No chance level: there are no other images to compare with."
    # The last iteration has all tokens to choose the best from.
    last = gain.iloc[-1]
    # The interval is that of the difference within each image, so it decides, and not the two means.
    above = "above" if last.low > 0 else "not above"
    own, chance = (
        series(summary, measure_name(whose, BEST, shuffled=shuffled)).iloc[-1]["mean"] for shuffled in (False, True)
    )
    return (
        f"Best threshold at {last.tokens} tokens: {own:.3f}, and {chance:.3f} for the same segments under other "
        f"images' maps; {last['mean']:+.3f} ({last.low:+.3f} … {last.high:+.3f}), {above} chance."
    )
