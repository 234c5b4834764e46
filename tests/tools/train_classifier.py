"""Train a small image classifier of transformers on one half of a labelled set, and list the other half for scoring.

Usage: python tests/tools/train_classifier.py IMAGES LABELS.csv OUT [--side 96] [--steps 400] [--blur 0] [--seed 0]

IMAGES is a folder, LABELS.csv has the columns image and label. Of every class the images at even places train, those at
odd places are held out. OUT gets the classifier as save_pretrained writes it, `held_out.csv` (image and label) and
`held_out.txt` (their paths), so that

    alit tokenize @OUT/held_out.txt --out tokens.parquet
    alit score tokens.parquet --task classify --model OUT --labels OUT/held_out.csv

show how accuracy grows with the budget on images that nobody has trained on. About a minute of one core.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from alit_cli.data.pictures.fitting import fit

BATCH = 32
STORED = 160
"""Pixels of the squares that views are cut from."""


def main() -> None:
    """Split, train, save and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--blur", type=float, default=0.0, help="share of views that lose their fine detail")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    torch.set_num_threads(1)
    frame = pd.read_csv(asked.labels, dtype=str).sort_values(["label", "image"])
    names = sorted(frame.label.unique())
    held = frame.groupby("label").cumcount() % 2 == 1
    half = [_pixels(asked.images, frame[rows].image) for rows in (~held, held)]
    truth = [torch.tensor([names.index(label) for label in frame[rows].label]) for rows in (~held, held)]
    model = _network(names, asked.side)
    train(model, half[0], truth[0], asked.side, asked.steps, asked.blur)
    save(model, asked.side, asked.out, asked.images, frame[held])
    right = (_guess(model, half[1], asked.side) == truth[1]).float().mean().item()
    print(f"{right:.1%} of {len(truth[1])} held-out images; chance is {1 / len(names):.1%}")


def train(model: Any, pixels: Tensor, truth: Tensor, side: int, steps: int, blur: float) -> None:
    """AdamW on one cosine, with label smoothing and mixed pairs."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    random = np.random.default_rng(0)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(truth), (BATCH,))
        images, share, partner = views(pixels[rows], side, blur), float(random.beta(0.4, 0.4)), torch.randperm(BATCH)
        logits = model(pixel_values=share * images + (1 - share) * images[partner]).logits
        one, other = (F.cross_entropy(logits, truth[r], label_smoothing=0.1) for r in (rows, rows[partner]))
        loss = share * one + (1 - share) * other
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    model.eval()


def views(pixels: Tensor, side: int, blur: float) -> Tensor:
    """b 3 STORED STORED uint8 → b 3 side side, normalised: a random box, mirrored, turned, recoloured, some blurred."""
    count = len(pixels)
    scale = torch.empty(count).uniform_(0.45, 1).sqrt()
    aspect = torch.empty(count).uniform_(-0.25, 0.25).exp()
    mirror = torch.randint(0, 2, (count,)) * 2 - 1
    angle = torch.empty(count).uniform_(-0.2, 0.2)
    x, y = scale * aspect.sqrt(), scale / aspect.sqrt()
    room = [(1 - one).clamp(min=0) * torch.empty(count).uniform_(-1, 1) for one in (x, y)]
    theta = torch.stack(
        [
            torch.stack([x * mirror * angle.cos(), -y * angle.sin(), room[0]], 1),
            torch.stack([x * mirror * angle.sin(), y * angle.cos(), room[1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [count, 3, side, side], align_corners=False)
    images = F.grid_sample(pixels.float() / 255, grid, padding_mode="reflection", align_corners=False)
    colour = torch.empty(count, 3, 1, 1).uniform_(-0.08, 0.08) + torch.empty(count, 1, 1, 1).uniform_(-0.15, 0.15)
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.7, 1.3)
    images = ((images - 0.5) * contrast + 0.5 + colour).clamp(0, 1)
    dull = torch.rand(count) < blur
    if dull.any():
        small = F.interpolate(images[dull], scale_factor=(0.15, 0.25, 0.4)[int(torch.randint(3, ()))], mode="area")
        images[dull] = F.interpolate(small, (side, side), mode="bicubic").clamp(0, 1)
    return (images - 0.5) / 0.5


def save(model: Any, side: int, out: Path, root: Path, held: pd.DataFrame) -> None:
    """The classifier with its image processor, and what was held out of its training."""
    model.save_pretrained(out)
    _transformers().ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(out)
    held[["image", "label"]].to_csv(out / "held_out.csv", index=False)
    (out / "held_out.txt").write_text("".join(f"{root / image}\n" for image in held.image))


def _network(names: list[str], side: int) -> Any:
    """A ResNet of 2.8 million weights."""
    config = _transformers().ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    return _transformers().ResNetForImageClassification(config)


@torch.no_grad()
def _guess(model: Any, pixels: Tensor, side: int) -> Tensor:
    """b 3 STORED STORED uint8 → the first guess of each."""
    images = F.interpolate(pixels.float() / 255, (side, side), mode="bilinear", antialias=True)
    guess: Tensor = model(pixel_values=(images - 0.5) / 0.5).logits.argmax(dim=1)
    return guess


def _pixels(root: Path, names: pd.Series) -> Tensor:
    """n 3 STORED STORED uint8: centre crops, as tokenization takes them."""
    squares = [fit(Image.open(root / name).convert("RGB"), STORED) for name in names]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


def _transformers() -> Any:
    """The library; its annotations have gaps."""
    return import_module("transformers")


if __name__ == "__main__":
    main()
