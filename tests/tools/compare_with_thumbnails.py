"""Print a table's mean L1 at each budget beside two codes of equal bits: a thumbnail, and a smaller model's quarters.

Usage:
    python tests/tools/compare_with_thumbnails.py tokens.parquet
    python tests/tools/compare_with_thumbnails.py tokens.parquet --quarters small.safetensors --images ./val

A model for pictures of half the side, applied to the four quarters of every picture, is a code of four times its
tokens. A model that sees the whole picture should be below it.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from alit_cli import load
from alit_cli.data.pictures.fitting import read_picture
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.parquet import open_columns
from alit_cli.data.tables.token_table import TableInfo, read_info


def l1_of_quarters(checkpoint: str, images: str, side: int) -> dict[int, float]:
    """Mean L1 by total budget of a model of half the side, applied to the quarters of every picture of a folder."""
    model = load(checkpoint, device="cpu")
    half = side // 2
    sums: dict[int, float] = {}
    items = list_items([images])
    for item in items:
        pixels = read_picture(item, side).pixels
        assert pixels is not None, item.image
        corners = itertools.product((0, half), repeat=2)
        quarters = np.stack([pixels[top : top + half, left : left + half] for top, left in corners])
        batch = model.as_pixels(quarters)
        for record in model.rollout(batch):
            error = (record.reconstruction - batch).abs().mean().item()
            sums[4 * record.budget] = sums.get(4 * record.budget, 0.0) + error / len(items)
    return sums


def compare(path: Path, info: TableInfo, quarters: dict[int, float]) -> None:
    """One line per budget, then how many budgets beat the thumbnail and whether L1 falls all the way."""
    table = open_columns(path, ["mad", *(f"{stem}_{b}" for b in info.budgets for stem in ("l1", "thumbnail"))])
    means = {name: pc.mean(table[name]).as_py() for name in table.column_names}
    print(f"{info.model} {info.model_id}, {info.image_size} px, {len(table)} images, mean colour {means['mad']:.4f}")
    print("tokens      L1  thumbnail   ratio" + "  quarters   ratio" * bool(quarters))
    for b in info.budgets:
        l1, thumbnail = means[f"l1_{b}"], means[f"thumbnail_{b}"]
        beside = f"    {quarters[b]:.4f}   {l1 / quarters[b]:.3f}" if quarters else ""
        print(f"{b:6d}  {l1:.4f}     {thumbnail:.4f}   {l1 / thumbnail:.3f}{beside}")
    l1s = [means[f"l1_{b}"] for b in info.budgets]
    below = sum(means[f"l1_{b}"] < means[f"thumbnail_{b}"] for b in info.budgets)
    falling = all(later < earlier for earlier, later in itertools.pairwise(l1s))
    print(f"below the thumbnail at {below} of {len(l1s)} budgets; falls at every budget: {falling}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--quarters", metavar="MODEL", help="A model for pictures of half the side.")
    parser.add_argument("--images", metavar="FOLDER", help="The photographs of the table, for --quarters.")
    options = parser.parse_args()
    info = read_info(options.tokens)
    quarters = l1_of_quarters(options.quarters, options.images, info.image_size) if options.quarters else {}
    compare(options.tokens, info, quarters)
