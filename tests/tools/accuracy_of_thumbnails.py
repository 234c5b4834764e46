"""Print a classifier's top-1 on thumbnails that have as many bits as a table's tokens, to put beside `alit score`.

Usage: python tests/tools/accuracy_of_thumbnails.py tokens.parquet ./images labels.csv ./network [--budgets 32,256]

labels.csv has the columns image and label; a label is the number of a class.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from alit_cli.data.pictures.fitting import read_picture
from alit_cli.data.pictures.measures import thumbnail
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.token_table import read_info

BATCH = 32  # pictures per call of the network; more of them run no faster on a CPU


@torch.no_grad()
def guesses(model: torch.nn.Module, processor: Any, pictures: list[np.ndarray]) -> list[int]:
    """The most likely class of each picture, h w 3 uint8."""
    numbers: list[int] = []
    for start in range(0, len(pictures), BATCH):
        pixels = processor(pictures[start : start + BATCH], return_tensors="pt")["pixel_values"]
        numbers += model(pixel_values=pixels).logits.argmax(dim=1).tolist()
    return numbers


def main(options: argparse.Namespace) -> None:
    """One line per budget, after one for the originals."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    info = read_info(options.tokens)
    labels = pd.read_csv(options.labels, index_col="image")["label"]
    model = AutoModelForImageClassification.from_pretrained(options.network).eval()
    loader: Any = AutoImageProcessor  # its own annotations have gaps
    processor = loader.from_pretrained(options.network, backend="pil")
    originals, truth = [], []
    for item in list_items([str(options.images)]):
        pixels = read_picture(item, info.image_size).pixels
        if pixels is not None and item.image in labels.index:
            originals.append(pixels)
            truth.append(int(labels[item.image]))
    bits_per_token = math.log2(info.codes)
    wanted = [int(budget) for budget in options.budgets.split(",")] if options.budgets else info.budgets
    print(f"originals: {np.mean(np.array(guesses(model, processor, originals)) == truth):.4f} of {len(truth)}")
    for budget in wanted:
        bits = math.floor(budget * bits_per_token)
        small = [thumbnail(Image.fromarray(pixels), bits) for pixels in originals]
        right = np.array(guesses(model, processor, [picture for picture in small if picture is not None])) == truth
        print(f"thumbnails of {budget} tokens' bits: {right.mean():.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tokens", "images", "labels", "network"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--budgets")
    main(parser.parse_args())
