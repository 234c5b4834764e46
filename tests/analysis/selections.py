"""Selections from a token table in one call, as `alit select --tsc NAME --thr NUMBER` makes them."""

from collections.abc import Sequence
from pathlib import Path

from alit_cli.analysis.query.criteria import criterion
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import Summary, decide, summarize
from alit_cli.analysis.selection.write import write_selection


def summarize_table(path: Path, thresholds: Sequence[float], tsc: str = "recon") -> list[Summary]:
    """What each threshold asks of a token table."""
    tables = Tables(path)
    criteria = [criterion(tsc, threshold) for threshold in thresholds]
    return [summarize(tables, decision) for decision in decide(tables, criteria, values=False)]


def select_table(path: Path, threshold: float, out: Path, tsc: str = "recon") -> Summary:
    """Write the selection of a token table to `out`."""
    tables = Tables(path)
    (decision,) = decide(tables, [criterion(tsc, threshold)])
    write_selection(tables, decision, out, {"criterion": tsc, "threshold": threshold})
    return summarize(tables, decision)
