"""Print a table's mean L1 at each budget beside the mean colour's and an equal-bit thumbnail's.

Usage: python tests/tools/compare_with_thumbnails.py tokens.parquet
"""

import itertools
import sys
from pathlib import Path

import pyarrow.compute as pc

from alit_cli.data.tables.parquet import open_columns
from alit_cli.data.tables.token_table import read_info


def main(path: Path) -> None:
    """One line a budget, then how many budgets beat the thumbnail and whether L1 falls all the way."""
    info = read_info(path)
    table = open_columns(path, ["mad", *(f"{stem}_{b}" for b in info.budgets for stem in ("l1", "thumbnail"))])
    means = {name: pc.mean(table[name]).as_py() for name in table.column_names}
    print(f"{info.model} {info.model_id}, {info.image_size} px, {len(table)} images, mean colour {means['mad']:.4f}")
    print("tokens      L1  thumbnail   ratio")
    for b in info.budgets:
        l1, floor = means[f"l1_{b}"], means[f"thumbnail_{b}"]
        print(f"{b:6d}  {l1:.4f}     {floor:.4f}   {l1 / floor:.3f}")
    l1s = [means[f"l1_{b}"] for b in info.budgets]
    below = sum(means[f"l1_{b}"] < means[f"thumbnail_{b}"] for b in info.budgets)
    falling = all(later < earlier for earlier, later in itertools.pairwise(l1s))
    print(f"below the thumbnail at {below} of {len(l1s)} budgets; falls at every budget: {falling}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
