"""LPIPS from weight files in torchvision's and lpips' own layouts; the critic and its balance."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.errors import InputError
from alit_cli.model.lpips import load_lpips
from alit_cli.training.distributed import Distributed
from alit_cli.training.stages.critic import PatchCritic, adaptive_weight, critic_loss, generator_loss

PLAN: list[int | str] = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
SLICE_ENDS = (4, 9, 16, 23, 30)  # lpips reads the activations before these places of torchvision's `features`


def _features() -> nn.Sequential:
    """VGG16's `features` as torchvision builds them."""
    layers: list[nn.Module] = []
    width = 3
    for step in PLAN:
        if isinstance(step, int):
            layers += [nn.Conv2d(width, step, 3, padding=1), nn.ReLU()]
            width = step
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, list[Tensor], Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lpips")
    features = _features()
    vgg = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save(vgg | {"classifier.0.weight": torch.zeros(4, 4)}, folder / "vgg16.pth")
    heads = [torch.rand(1, width, 1, 1) for width in (64, 128, 256, 512, 512)]
    torch.save({f"lin{i}.model.1.weight": head for i, head in enumerate(heads)}, folder / "vgg.pth")
    return features, heads, folder


def _by_hand(features: nn.Sequential, heads: list[Tensor], a: Tensor, b: Tensor) -> Tensor:
    """The published formula, written out: unit vectors, squared difference, 1×1 head, mean over places."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    total = torch.zeros(len(a))
    x, y = (((2 * image - 1) - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1) for image in (a, b))
    start = 0
    for end, head in zip(SLICE_ENDS, heads, strict=True):
        part = features[start:end]
        x, y, start = part(x), part(y), end
        difference = (F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)) ** 2
        total += F.conv2d(difference, head).mean(dim=(1, 2, 3))
    return total


def test_lpips_is_the_published_formula(weights: tuple[nn.Sequential, list[Tensor], Path]) -> None:
    features, heads, folder = weights
    model = load_lpips([folder / "vgg.pth", folder / "vgg16.pth"])
    a, b = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(a, b), _by_hand(features, heads, a, b), rtol=1e-4)
        assert (model(a, a) == 0).all()


def test_lpips_reads_lpips_own_names(weights: tuple[nn.Sequential, list[Tensor], Path], tmp_path: Path) -> None:
    features, heads, folder = weights
    ends = [0, *SLICE_ENDS]
    both = {f"lins.{i}.model.1.weight": head for i, head in enumerate(heads)}
    for name, tensor in features.state_dict().items():
        part = next(i for i in range(1, 6) if int(name.split(".")[0]) < ends[i])
        both[f"net.slice{part}.{name}"] = tensor
    torch.save(both, tmp_path / "lpips.pth")
    one, two = load_lpips([tmp_path / "lpips.pth"]), load_lpips([folder / "vgg.pth", folder / "vgg16.pth"])
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_lpips_says_what_is_missing(weights: tuple[nn.Sequential, list[Tensor], Path], tmp_path: Path) -> None:
    _, _, folder = weights
    with pytest.raises(InputError, match="linear heads"):
        load_lpips([folder / "vgg16.pth"])
    with pytest.raises(InputError, match="convolutions"):
        load_lpips([folder / "vgg.pth"])
    (tmp_path / "no.pth").write_text("no")
    with pytest.raises(InputError, match="cannot be read"):
        load_lpips([tmp_path / "no.pth"])


def test_gradients_flow_through_flat_regions(weights: tuple[nn.Sequential, list[Tensor], Path]) -> None:
    model = load_lpips([weights[2] / "vgg.pth", weights[2] / "vgg16.pth"])
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    model(flat, torch.rand(1, 3, 32, 32)).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_the_critic_judges_patches_of_70_pixels() -> None:
    critic = PatchCritic(Distributed()).eval()
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    scores = critic(image)
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()
    assert image.grad is not None
    touched = image.grad.abs().sum(dim=(0, 1)) > 0
    rows = touched.any(dim=1).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_a_critic_learns_to_tell_noise_from_flat_pictures() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(Distributed(), channels=8)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    real, fake = torch.rand(4, 3, 64, 64), torch.full((4, 3, 64, 64), 0.5)
    first = critic_loss(critic(real), critic(fake)).item()
    for _ in range(20):
        loss = critic_loss(critic(real), critic(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
    assert generator_loss(critic(fake)) > generator_loss(critic(real))


def test_the_adaptive_weight_is_a_ratio_of_gradients() -> None:
    ones = torch.ones(2)
    assert adaptive_weight(3 * ones, ones).item() == pytest.approx(3, rel=1e-3)
    assert adaptive_weight(ones, 1e-9 * ones).item() <= 1e4 * 1.5
