"""TiTok, One-D-Piece and a VQGAN alone against numbers of their authors' code, and mistakes that must show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from alit_cli.model.bases import vqgan
from alit_cli.model.losses import l1_per_image
from alit_cli.model.quantizer import Codebook
from alit_cli.model.tokenizer_model import TokenizerModel
from alit_cli.model.tokenizers.titok import Encoder, ExpectedCode, Patches, TiTok
from tests.model import golden

PICTURE_STEPS = (slice(None), slice(None), slice(None, None, 15), slice(None, None, 17))
"""Where pixels were recorded; these steps visit every place of a 16×16 patch."""


@dataclass(frozen=True)
class Bounds:
    """Largest absolute differences that rounding may explain; ids must be equal."""

    latents: float
    logits: float = 1e-5
    pixels: float = 1e-4
    l1: float = 1e-6


BOUNDS = {name: Bounds(latents=2e-5 if name == "vqgan_alone" else 1e-5) for name in golden.TOKENIZERS}


@pytest.fixture(scope="module", params=golden.TOKENIZERS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def models() -> dict[str, TokenizerModel]:
    return {name: golden.tokenizer(name) for name in golden.TOKENIZERS}


@torch.no_grad()
def differences(model: TokenizerModel, variant: str, lengths: tuple[int, ...] | None = None) -> Iterator[str]:
    """Everything in which a model is not the recorded one, as `what: by how much`."""
    recorded, images, bounds = golden.recorded(variant), golden.images(), BOUNDS[variant]
    if variant == "onedpiece_small":
        model.config = model.config.offering(lengths or (1, 8, 32, 128, 256))

    def compare(name: str, ours: Tensor, bound: float) -> Iterator[str]:
        gap = float(np.abs(ours.double().numpy() - recorded[name]).max())
        if not gap <= bound:
            yield f"{name}: {gap}"

    state = model.start(images)
    for k in model.config.budgets:
        suffix = f"_{k}" if variant == "onedpiece_small" else ""
        state, latents = model.advance(state)
        yield from compare_first(recorded["latents"], latents.values, k, bounds.latents)
        assert latents.ids is not None
        wrong = int((latents.ids.numpy() != recorded["tokens"][:, :k]).sum())
        if wrong:
            yield f"tokens{suffix}: {wrong}"
        ids = torch.from_numpy(recorded["tokens"][:, :k].astype(np.int64))
        prediction = model.predict(model.vectors(ids))
        if f"logits{suffix}" in recorded:
            grid = rearrange(prediction, "b (i j) v -> b v i j", i=16)
            yield from compare(f"logits{suffix}", grid[:, ::16, ::3, ::3], bounds.logits)
        if "patches" in recorded:
            grid = rearrange(prediction, "b (i j) v -> b v i j", i=16)
            yield from compare("patches", grid[:, ::16, ::3, ::3], bounds.logits)
        pixels = model.pixels(prediction)
        yield from compare(f"pixels{suffix}", pixels[PICTURE_STEPS], bounds.pixels)
        yield from compare(f"l1{suffix}", l1_per_image(pixels, images), bounds.l1)
        yield from compare(f"l1_clamped{suffix}", l1_per_image(pixels.clamp(0, 1), images), bounds.l1)


def compare_first(recorded: np.ndarray, ours: Tensor, k: int, bound: float) -> Iterator[str]:
    gap = float(np.abs(ours.numpy() - recorded[:, :k]).max())
    if not gap <= bound:
        yield f"latents: {gap}"


def test_every_number_is_the_recorded_one(models: dict[str, TokenizerModel], variant: str) -> None:
    assert list(differences(models[variant], variant)) == []


def test_both_layouts_of_a_vqgan_are_one_model(models: dict[str, TokenizerModel]) -> None:
    renamed = golden.tokenizer("vqgan_alone", layout="mage")
    weights = models["vqgan_alone"].state_dict()
    assert renamed.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in renamed.state_dict().items())


def test_a_prefix_equals_the_stored_sequence(models: dict[str, TokenizerModel]) -> None:
    model = models["onedpiece_small"]
    model.config = model.config.offering((3, 100, 256))
    state = model.start(golden.images()[:1])
    longest = golden.recorded("onedpiece_small")["tokens"][:1]
    for k in model.config.budgets:
        state, latents = model.advance(state)
        assert latents.ids is not None
        assert (latents.ids.numpy() == longest[:, :k]).all()
        assert torch.equal(latents.vectors, model.vectors(latents.ids))


def sensible_read_out(_encoder: Encoder, y: Tensor) -> Tensor:
    """What the legacy read-out should have been: each token its own row."""
    return y


def permuted_read_out(_encoder: Encoder, y: Tensor) -> Tensor:
    return y.reshape(y.shape[0], y.shape[1], y.shape[2]).flip(1)


def not_normalized(_codebook: Codebook, vectors: Tensor) -> Tensor:
    return vectors.float()


def skip_of_the_input(block: vqgan.ResidualBlock, x: Tensor) -> Tensor:
    """The ordinary skip connection, where channels change: of the block's input, not of its branch."""
    h: Tensor = block.conv1(F.silu(block.norm1(x)))
    h = block.conv2(F.silu(block.norm2(h)))
    if block.skip is None:
        return x + h
    # The weights are outer→outer, so that the input is brought to as many channels first.
    outer = h.shape[1]
    wide = x[:, :outer] if x.shape[1] >= outer else F.pad(x, (0, 0, 0, 0, 0, outer - x.shape[1]))
    out: Tensor = block.skip(wide) + h
    return out


def likeliest_code(network: ExpectedCode, logits: Tensor) -> Tensor:
    return F.embedding(logits.argmax(-1), network.codebook)


def colour_first(network: Patches, patches: Tensor) -> Tensor:
    grid = rearrange(patches, "b (i j) v -> b v i j", i=network.side)
    out: Tensor = network.smooth(F.pixel_shuffle(grid, network.patch))
    return out


MISTAKES: list[tuple[str, type[nn.Module], str, Callable[..., Tensor]]] = [
    ("titok_small", Encoder, "arrange", sensible_read_out),
    ("titok_small", Encoder, "arrange", permuted_read_out),
    ("titok_small", Codebook, "_scaled", not_normalized),
    ("titok_small", vqgan.ResidualBlock, "forward", skip_of_the_input),
    ("titok_small", ExpectedCode, "expected", likeliest_code),
    ("titok_vq8k_small", Patches, "forward", colour_first),
    ("vqgan_alone", vqgan.ResidualBlock, "forward", skip_of_the_input),
]


@pytest.mark.parametrize(("variant", "part", "method", "mistake"), MISTAKES)
def test_planted_mistakes_are_caught(
    models: dict[str, TokenizerModel],
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    part: type[nn.Module],
    method: str,
    mistake: Callable[..., Tensor],
) -> None:
    monkeypatch.setattr(part, method, mistake)
    assert next(differences(models[variant], variant), None) is not None


@pytest.mark.parametrize(
    ("widths", "latents", "codes", "direct", "parameters", "tensors"),
    [
        (((1024, 24), (1024, 24)), 32, (4096, 12), False, 641_054_735, 692),
        (((768, 12), (768, 12)), 64, (4096, 12), False, 204_814_095, 404),
        (((512, 8), (512, 8)), 128, (4096, 12), False, 83_674_639, 308),
        (((768, 12), (1024, 24)), 64, (8192, 64), True, 390_016_148, 459),
        (((768, 12), (1024, 24)), 128, (8192, 64), True, 390_179_988, 459),
        (((512, 8), (1024, 24)), 256, (8192, 64), True, 330_260_884, 411),
        (((512, 8), (512, 8)), 256, (4096, 12), False, 83_871_247, 308),
        (((768, 12), (768, 12)), 256, (4096, 12), False, 205_256_463, 404),
        (((1024, 24), (1024, 24)), 256, (4096, 12), False, 641_742_863, 692),
    ],
)
def test_released_sizes_have_their_parameters(
    widths: tuple[tuple[int, int], tuple[int, int]],
    latents: int,
    codes: tuple[int, int],
    direct: bool,
    parameters: int,
    tensors: int,
) -> None:
    with torch.device("meta"):  # names and shapes alone: no memory is taken
        weights = dict(TiTok(golden.released_size(widths, latents, codes, direct)).state_dict())
    assert sum(tensor.numel() for tensor in weights.values()) == parameters
    assert len(weights) == tensors
