"""Train a small depth estimator of transformers on the first frames of a sequence, and list the last ones for scoring.

Usage: python tests/tools/train_depth.py IMAGES MAPS OUT [--side 128] [--steps 300]

IMAGES is a folder of frames, MAPS their depth in millimetres (16-bit PNG, same names). The first half of the frames, in
the order of their names, trains; the second half is listed in OUT/held_out.txt. OUT gets a GLPN as save_pretrained
writes it, so that

    alit tokenize @OUT/held_out.txt --out tokens.parquet
    alit score tokens.parquet --task depth --model OUT --depth-maps MAPS

show how depth comes back with the budget. Both halves see the same room. A minute or two of one core.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from alit_cli.data.annotations.depth_maps import read_map
from alit_cli.data.pictures.fitting import fit

BATCH = 8
METRES = 10
"""The largest depth that the network can give."""


def main() -> None:
    """Split, train, save and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=300)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    paths = sorted(asked.images.iterdir())
    images = torch.from_numpy(np.stack([fit(Image.open(path).convert("RGB"), asked.side) for path in paths]))
    images = images.permute(0, 3, 1, 2).float() / 255
    maps = [read_map(asked.maps / f"{path.stem}.png", asked.side, "crop") for path in paths]
    depth = torch.from_numpy(np.stack(maps)) / 1000
    half = len(paths) // 2
    model = _network()
    train(model, images[:half], depth[:half], asked.steps)
    model.save_pretrained(asked.out)
    size = {"height": asked.side, "width": asked.side}
    processor = _transformers().ViTImageProcessorPil(size=size, do_normalize=False)
    processor.save_pretrained(asked.out)
    (asked.out / "held_out.txt").write_text("".join(f"{path.resolve()}\n" for path in paths[half:]))
    with torch.no_grad():
        found = model(pixel_values=images[half:]).predicted_depth
    print(f"mean error {_error(found, depth[half:]):.3f} of log-depth on {len(paths) - half} later frames; ", end="")
    print(f"the training frames' mean map has {_error(depth[:half].nanmean(dim=0), depth[half:]):.3f}")


def train(model: Any, images: Tensor, depth: Tensor, steps: int) -> None:
    """AdamW on one cosine; mirrored, recoloured, some blurred; L1 of log-depth.

    Args:
        images: n 3 h w in [0, 1]; depth: n h w metres, NaN where not known.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,))
        seen, truth = images[rows], depth[rows]
        if torch.rand(()) < 0.5:
            seen, truth = seen.flip(-1), truth.flip(-1)
        gain = torch.empty(BATCH, 3, 1, 1).uniform_(0.85, 1.15) * torch.empty(BATCH, 1, 1, 1).uniform_(0.8, 1.2)
        seen = (seen * gain).clamp(0, 1)
        if torch.rand(()) < 0.5:
            small = F.interpolate(seen, scale_factor=(0.12, 0.25, 0.5)[int(torch.randint(3, ()))], mode="area")
            seen = F.interpolate(small, seen.shape[-2:], mode="bicubic").clamp(0, 1)
        loss = _error(model(pixel_values=seen).predicted_depth, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    model.eval()


def _error(found: Tensor, truth: Tensor) -> Tensor:
    """Mean |log a − log b| over the known pixels."""
    known = torch.isfinite(truth) & torch.isfinite(found)
    ratio = found.clamp(min=0.1).log() - torch.where(known, truth, 1.0).clamp(min=0.1).log()
    return torch.where(known, ratio, 0.0).abs().sum() / known.expand_as(ratio).sum()


def _network() -> Any:
    """A GLPN of half a million weights."""
    config = _transformers().GLPNConfig(
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 4],
        decoder_hidden_size=32,
        max_depth=METRES,
        drop_path_rate=0.0,
    )
    return _transformers().GLPNForDepthEstimation(config)


def _transformers() -> Any:
    return import_module("transformers")


if __name__ == "__main__":
    main()
