"""What `alit analyze probe` prints: accuracies, one row per pool, beside raw pixels and chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alit_cli.analysis.probe.probing import Accuracy, pool_name
from alit_cli.results import TextTable


def probe_blocks(accuracies: Sequence[Accuracy], first: int) -> Iterator[TextTable | str]:
    """The table, then sentences on raw pixels and on every pool at the last iteration; raw pixels come first."""
    plain, rest = accuracies[0], accuracies[1:]
    pools = list(dict.fromkeys(row.pool for row in rest))
    tokens = sorted({row.tokens for row in rest if row.tokens is not None})
    cells = {(row.pool, row.tokens): f"{row.accuracy:.3f} ±{(row.high - row.low) / 2:.3f}" for row in rest}
    yield TextTable(
        f"Top-1 accuracy of linear probes ± half its 95 % interval, {plain.images} images",
        ("tokens", *map(str, tokens)),
        tuple((pool_name(pool, first), *(cells[pool, number] for number in tokens)) for pool in pools),
    )
    yield f"raw pixels: {plain.accuracy:.3f} ({plain.low:.3f} … {plain.high:.3f}); chance: {plain.chance:.3f}"
    for row in rest:
        if row.tokens == tokens[-1]:
            yield f"{pool_name(row.pool, first)} at {row.tokens} tokens: {_verdict(row)}"


def probe_remarks(accuracies: Sequence[Accuracy]) -> Iterator[str]:
    """What the numbers need to be understood."""
    if not all(row.converged for row in accuracies):
        yield "Some fits did not converge; their rows say so in the column `converged`."


def _verdict(row: Accuracy) -> str:
    """How one probe stands against chance and raw pixels."""
    # Chance is a fixed number, so it is enough that the accuracy's own interval lies above it.
    chance = "above" if row.low > row.chance else "not above"
    # Both probes judge the same images, so the interval of the difference decides; one that holds 0 decides nothing.
    words = {(True, False): "above", (False, True): "below"}
    pixels = words.get((row.above_low > 0, row.above_high < 0), "not told apart from")
    gain = f"{row.above_pixels:+.3f}, {row.above_low:+.3f} … {row.above_high:+.3f}"
    return f"{chance} chance, {pixels} raw pixels ({gain})"
