"""What the page's script reads, as plain values; its shape is documented in base.js."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.report.analysis_panels import Panel
from alit_cli.report.facts import Facts
from alit_cli.report.sample import Sample
from alit_cli.report.strips import Strip


def page_data(
    info: TableInfo, facts: Facts, start: int, sample: Sample, strips: Sequence[Strip], panels: Sequence[Panel]
) -> dict[str, Any]:
    """Everything but the names of the table and of the program.

    Args:
        start: which of the thresholds comes first.
        strips: one for each row of the sample, or none.
    """
    originals = sum(strip.original for strip in strips)
    return {
        "model": {
            "name": info.model,
            "id": info.model_id,
            "side": info.image_size,
            "codes": info.codes,
            "tokenDim": info.token_dim,
            "fit": info.fit,
            "stop": info.stop,
        },
        "budgets": info.budgets,
        "bits": [budget * info.bits_per_token for budget in info.budgets],
        "facts": _facts(facts, start),
        "sample": {"of": sample.of, "pictures": bool(strips) or not len(sample.rows), "originals": originals},
        "images": _images(info, sample, strips),
        "panels": [vars(panel) | {"tables": [vars(table) for table in panel.tables]} for panel in panels],
    }


def _facts(facts: Facts, start: int) -> dict[str, Any]:
    return {
        "rows": facts.rows,
        "statuses": facts.statuses,
        "failures": facts.failures,
        "thresholds": [round(float(edge), 4) for edge in facts.thresholds],
        "start": start,
        "need": facts.need.tolist(),
        "count": facts.images.tolist(),
        "mean": _known(facts.mean),
        "quantiles": [_known(row) for row in facts.quantiles],
    }


def _images(info: TableInfo, sample: Sample, strips: Sequence[Strip]) -> list[dict[str, Any]]:
    """One object per image: names, L1, measures, pictures, and ids as base64 of little-endian uint16, end to end."""
    rows = sample.table
    measures = [name for name in PLAIN_MEASURES if name in rows.column_names]
    columns = {name: rows[name].to_pylist() for name in ("image", "source", "width", "height", *measures)}
    losses = [rows[f"l1_{budget}"].to_pylist() for budget in info.budgets] if info.losses else []
    found = []
    for row in range(len(rows)):
        one: dict[str, Any] = {name: values[row] for name, values in columns.items() if name not in measures}
        one["measures"] = {name: _rounded(columns[name][row]) for name in measures}
        one["l1"] = [_exact(column[row]) for column in losses]
        if strips:
            one |= {"strip": strips[row].base64(), "frames": strips[row].frames, "original": strips[row].original}
        if info.codes:
            values = [rows[f"tokens_{budget}"][row].values for budget in info.budgets]
            ids = [np.asarray(ids, "<u2") for ids in values if ids is not None]
            one["ids"] = base64.b64encode(np.concatenate(ids).tobytes()).decode()
        found.append(one)
    return found


def _exact(value: float | None) -> float | None:
    """The shortest number that is this one in float32, as which the page compares it."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


def _known(values: np.ndarray) -> list[float | None]:
    return [_rounded(float(value)) for value in values]


def _rounded(value: float | None) -> float | None:
    """Six digits that matter; what is not a number becomes null."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
