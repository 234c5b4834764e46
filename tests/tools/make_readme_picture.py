"""Draw sample_data/reconstructions.png: sample pictures beside what the embedded model keeps of them at some budgets.

Usage: python tests/tools/make_readme_picture.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from alit_cli import load

SAMPLES = Path(__file__).parents[2] / "sample_data"
NAMES = ("disks.png", "astronaut.jpg", "coffee.jpg", "rocket.jpg")


def main() -> None:
    """One row a picture: the original, then four budgets with their L1."""
    nano = load(device="cpu")
    pixels = nano.as_pixels([Image.open(SAMPLES / "images" / name) for name in NAMES])
    records = {record.budget: record.reconstruction for record in nano.rollout(pixels)}
    budgets = [nano.budgets[i] for i in (0, 1, 3, 7)]
    figure, axes = plt.subplots(len(NAMES), 1 + len(budgets), figsize=(7.6, 6.4), dpi=85)
    for row, image in enumerate(pixels):
        axes[row, 0].imshow(image.permute(1, 2, 0))
        for column, budget in enumerate(budgets, 1):
            decoded = records[budget][row]
            axes[row, column].imshow(decoded.clamp(0, 1).permute(1, 2, 0))
            axes[row, column].set_xlabel(f"L1 {(decoded - image).abs().mean():.3f}", fontsize=8, labelpad=2)
    for axis, title in zip(axes[0], ["original", *(f"{budget} tokens" for budget in budgets)], strict=True):
        axis.set_title(title, fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    figure.tight_layout(pad=0.4, h_pad=0.6)
    figure.savefig(SAMPLES / "reconstructions.png")


if __name__ == "__main__":
    main()
