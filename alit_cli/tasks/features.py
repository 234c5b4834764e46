"""What a network makes of originals and reconstructions, kept whole, so that the Fréchet distance of any selection can
be computed later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alit_cli.data.tables.score_table import Measure
from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request, Task, Values
from alit_cli.tasks.network import Network, load_network, weights_digest

INCEPTION = (".pth", ".pt")
"""A model that is such a file is torch-fidelity's Inception, the network of the usual FID."""


class Features(Task[None]):
    """One vector per image, as float16.

    Args:
        extract: b 3 h w in [0, 1] → b d.
        options: which network, and how its output became one vector.
    """

    measures = (Measure("features", "list<float16>", original=True),)

    def __init__(self, extract: Callable[[Tensor], Tensor], options: dict[str, str]) -> None:
        self.extract, self.options = extract, options

    def look(self, batch: Batch) -> tuple[None, Values]:
        """The features of the originals."""
        return None, {"features_original": self._of(batch.images)}

    def score(self, seen: None, pictures: Tensor, budget: int) -> Values:
        """The features of reconstructions."""
        return {"features": self._of(pictures)}

    @torch.no_grad()
    def _of(self, images: Tensor) -> list[NDArray[np.float16]]:
        return list(self.extract(images).float().cpu().numpy().astype(np.float16))


def build(request: Request) -> Features:
    """The task, with a backbone of transformers or, for a file of weights, torch-fidelity's Inception."""
    if Path(request.model).suffix in INCEPTION:
        return _inception(Path(request.model), request.tokenizer.device)
    network = load_network(request, "AutoModel", fresh=("pooler",))
    pooling = _pooling(network)
    return Features(lambda images: _pooled(network, images, pooling), {"network": network.digest, "pooling": pooling})


def _pooling(network: Network) -> str:
    """How the network's output becomes one vector.

    'image': what a model of images and text compares with texts. 'pooler': the network's own pooled output, where it
    was trained (a classifier's backbone may come with a random one). 'mean': the mean of the last hidden state.
    """
    if hasattr(network.model, "get_image_features"):
        return "image"
    blank = torch.zeros(1, 3, 64, 64, device=network.device)
    with torch.no_grad():
        output = network.model(pixel_values=network.pixels(blank))
    return "pooler" if getattr(output, "pooler_output", None) is not None and network.whole else "mean"


def _pooled(network: Network, images: Tensor, pooling: str) -> Tensor:
    """b 3 h w in [0, 1] → b d."""
    pixels = network.pixels(images)
    if pooling == "image":
        found: Any = network.model.get_image_features(pixel_values=pixels)
        found = found if isinstance(found, Tensor) else found.pooler_output
    else:
        output = network.model(pixel_values=pixels)
        found = output.pooler_output if pooling == "pooler" else output.last_hidden_state
        if pooling == "mean":
            found = found.mean(dim=1) if found.ndim == 3 else found.mean(dim=(2, 3))
    features: Tensor = found.flatten(1)
    return features


def _inception(weights: Path, device: torch.device) -> Features:
    """The 2048 numbers that the usual FID is made of."""
    if not weights.is_file():
        raise InputError(f"There is no file {weights} with Inception's weights.")
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as problem:
        raise InputError(
            f"{weights} needs torch-fidelity and its torchvision ({problem}): pip install torch-fidelity torchvision."
        ) from problem
    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity itself would run a pickle's code
        model = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    except Exception as problem:
        raise InputError(f"{weights} cannot be read as the weights of torch-fidelity's Inception.") from problem
    model = model.eval().to(device)

    def extract(images: Tensor) -> Tensor:
        found: Tensor = model(images.clamp(0, 1).mul(255).round().byte())[0]
        return found

    return Features(extract, {"network": weights_digest(model), "pooling": "inception"})
