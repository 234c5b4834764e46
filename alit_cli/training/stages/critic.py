"""The critic that training on pixels may add: a PatchGAN and its hinge losses; no part of a tokenizer or its file.

Its BatchNorm and the adaptive weight see the whole batch, whoever holds its rows and in however many pieces. So several
processes take the steps that one would take.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.training.distributed import Distributed
from alit_cli.training.stages.batch_norm import SyncBatchNorm


class PatchCritic(nn.Sequential):
    """A PatchGAN discriminator: `layers` strided 4×4 convolutions, then two more; b 3 h w → b 1 h' w' scores.

    Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017; with 3 layers each
    score judges 70×70 pixels.

    Args:
        distributed: whose rows one batch is made of.
        channels: of the first convolution.
        layers: strided convolutions.
    """

    def __init__(self, distributed: Distributed, channels: int = 64, layers: int = 3) -> None:
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i, (inner, outer) in enumerate(itertools.pairwise(widths), 1):
            stride = 2 if i < layers else 1  # the last two convolutions widen the view without shrinking the map
            parts += [nn.Conv2d(inner, outer, 4, stride, padding=1, bias=False), SyncBatchNorm(outer, distributed)]
            parts.append(nn.LeakyReLU(0.2))
        parts.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        super().__init__(*parts)
        for part in self:  # N(0, 0.02) is DCGAN's, which pix2pix and all its heirs kept
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0.0, 0.02)
            elif isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1.0, 0.02)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the critic's scores for photographs and reconstructions."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """What the tokenizer minimizes: minus the mean score of its reconstructions."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor) -> Tensor:
    """‖∇reconstruction loss‖ / ‖∇adversarial loss‖ (a scalar), so that both pull alike.

    Args:
        reconstruction: gradient of the reconstruction loss of the whole batch at the last layer.
        adversarial: that of the adversarial loss.
    """
    # 1e-4 and 1e4 are VQGAN's (Esser et al., 2021): no division by zero, and no step that a dead critic could blow up.
    weight: Tensor = (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, 1e4)
    return weight
