"""LPIPS, the learned perceptual distance, from weight files on disk: a VGG16 of ours and its linear heads."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from alit_cli.errors import InputError

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG16's thirteen 3×3 convolutions; each stage after the first begins with 2×2 max pooling."""
# Where torchvision's `vgg16().features` and lpips' `net.slice1…5` keep the convolutions.
LAYER_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
# ImageNet's mean and standard deviation for pixels in [-1, 1], rounded as in lpips.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Distance of two batches of images, as VGG16 with lpips' linear heads (version 0.1) sees it.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.

    Args:
        stretched: pixels are stretched from [0, 1] to the [-1, 1] that the networks were fitted to. ALIT's authors feed
            [0, 1] as it is, so that VGG16 sees half of the contrast, too bright.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stretched: bool = True) -> None:
        super().__init__()
        self.stretched = stretched
        widths = [3, *itertools.chain.from_iterable(STAGES)]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(stage[-1])) for stage in STAGES)
        # Constants stay out of the state dict, since load_lpips looks for each of its names in the files.
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)
        # The network is a fixed measure: gradients go through it to the images, never into its weights.
        self.requires_grad_(False)

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Two b 3 h w batches, pixels in [0, 1] → b distances, 0 for equal images."""
        total: Tensor = ours.new_zeros(len(ours))
        for head, a, b in zip(self.heads, self.features(ours), self.features(theirs), strict=True):
            difference = (_unit(a) - _unit(b)).square()
            total = total + torch.einsum("bchw,c->bhw", difference, head).mean(dim=(1, 2))
        return total

    def features(self, images: Tensor) -> list[Tensor]:
        """b 3 h w pixels in [0, 1] → the activations at the end of the five stages."""
        x = ((2 * images - 1 if self.stretched else images) - self.shift) / self.scale
        # 1.2 times as fast on a CPU in float32, and 1.4 times in bf16 (forward and backward, 256 pixels).
        x = x.contiguous(memory_format=torch.channels_last)
        convolutions = iter(self.convolutions)
        out = []
        for number, stage in enumerate(STAGES):
            x = F.max_pool2d(x, 2) if number else x
            for _ in stage:
                x = F.relu(next(convolutions)(x))
            out.append(x)
        return out


def load_lpips(files: Sequence[Path], stretched: bool = True) -> Lpips:
    """LPIPS from its weight files, in any order: torchvision's VGG16 and lpips' heads, or one file with both.

    Names are torchvision's (`features.0.weight`) or lpips' (`net.slice1.0.weight`, `lin0.model.1.weight`); everything
    else in the files is left alone. `stretched` is that of Lpips.

    Raises:
        InputError: a file cannot be read, or weights are missing or of another shape.
    """
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= {name: tensor for raw, tensor in _read(file).items() if (name := _our_name(raw))}
    model = Lpips(stretched)
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    if missing:
        what = "VGG16's convolutions" if missing[0].startswith("conv") else "the linear heads"
        raise InputError(f"{' and '.join(map(str, files))} lack {what} of LPIPS: give both weight files.")
    try:
        # lpips keeps its heads as 1×1 convolutions (1 c 1 1), which are vectors here.
        model.load_state_dict({name: weights[name].reshape(tensor.shape) for name, tensor in expected.items()})
    except RuntimeError as error:
        raise InputError(
            f"The weights in {files[0]} are not VGG16's LPIPS: give torchvision's vgg16 and lpips' vgg."
        ) from error
    model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    # Reading a damaged file can raise nearly anything, and all of it means the same.
    except Exception as error:
        raise InputError(f"{file} cannot be read as weights of LPIPS: {error}.") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _our_name(name: str) -> str | None:
    """What a weight is called here; None for a weight that LPIPS does not use."""
    if match := re.fullmatch(r"(?:.*\.)?(?:features|slice\d)\.(\d+)\.(weight|bias)", name):
        number = int(match[1])
        return f"convolutions.{LAYER_NUMBERS.index(number)}.{match[2]}" if number in LAYER_NUMBERS else None
    # The module model.0 of lpips' heads is a dropout, which has no weights.
    if match := re.fullmatch(r"(?:.*\.)?lins?\.?(\d)\.model\.1\.weight", name):
        return f"heads.{match[1]}"
    return None


def _unit(x: Tensor) -> Tensor:
    """b c h w → the same, every place's vector at unit length."""
    return x / (x.square().sum(dim=1, keepdim=True) + 1e-20).sqrt()  # inside the root: a zero vector has a gradient
