"""What the page's script reads, as plain values; its shape is documented in base.js."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alit_cli.data.files import readable
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.report.columns import Column, Numbers
from alit_cli.report.facts import Facts
from alit_cli.report.panels import Panel
from alit_cli.report.sample import Sample
from alit_cli.report.sprites import Sprite


def table_data(
    path: Path, info: TableInfo, facts: Facts, numbers: Numbers, start: float | None, left_out: Sequence[str]
) -> dict[str, Any]:
    """One table of the page, without its pictures.

    Args:
        start: the threshold of L1 that comes first; None without losses.
        left_out: score tables beside the table that belong to another one, as sentences.
    """
    return {
        # A file name may hold bytes that are no text, which JSON cannot carry as they are.
        "path": readable(str(path)),
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
        "facts": {
            "rows": facts.rows,
            "statuses": facts.statuses,
            "failures": facts.failures,
            "count": facts.images.tolist(),
            # JSON has no NaN, so a mean of no images becomes null.
            "mean": [_finite(float(value)) for value in facts.mean],
        },
        "start": start,
        "of": numbers.of,
        "images": numbers.images,
        "sources": numbers.sources,
        "sizes": numbers.sizes.tolist(),
        "photographs": None if numbers.photographs is None else numbers.photographs.tolist(),
        "columns": [_column(column) for column in numbers.columns],
        "leftOut": list(left_out),
    }


def picture_data(info: TableInfo, sample: Sample, sprites: Sequence[Sprite]) -> list[dict[str, Any]]:
    """One object per image with pictures: its place among the table's images, the sprite, and its ids.

    Ids are base64 of little-endian uint16, those of every budget end to end. Without sprites there are ids alone.
    """
    pictures = []
    for row, place in enumerate(sample.places.tolist()):
        picture: dict[str, Any] = {"place": place}
        # With --no-pictures there are no sprites, but the ids can still be shown.
        if sprites:
            sprite = sprites[row]
            picture |= {"sprite": sprite.base64(), "frames": sprite.frames, "original": sprite.original}
            picture |= {"quality": sprite.quality, "side": sprite.side}
        # Continuous latents have no ids.
        if info.codes:
            picture["ids"] = _ids(info, sample.tokens, row)
        pictures.append(picture)
    return pictures


def panel_data(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """The panels of other analyses."""
    return [asdict(panel) for panel in panels]


def _column(column: Column) -> dict[str, Any]:
    described = {"key": column.key, "kind": column.kind, "label": column.label, "operator": column.operator}
    words = {"words": column.words} if column.kind in ("group", "guess") else {}
    originals = {} if column.originals is None else {"originals": _array(column.originals)}
    return described | words | originals | {"values": _array(column.values)}


def _array(values: np.ndarray[Any, Any]) -> str:
    """Little-endian float32 or int16 as base64; what is not finite becomes NaN."""
    if values.dtype.kind == "f":
        # Every value that is unknown has one form on the page, so infinity must not remain.
        values = np.where(np.isfinite(values), values, np.nan).astype("<f4")
    # A typed array of the browser reads the bytes as they are, which is little-endian on every machine in use.
    return base64.b64encode(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()).decode()


def _ids(info: TableInfo, tokens: pa.Table, row: int) -> str:
    values = [tokens[f"tokens_{budget}"][row].values for budget in info.budgets]
    # An image whose run stopped early has no ids at the later budgets.
    ids = [np.asarray(ids, "<u2") for ids in values if ids is not None]
    return base64.b64encode(np.concatenate(ids).tobytes()).decode() if ids else ""


def _finite(value: float) -> float | None:
    """Six significant digits; what is no number becomes null."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
