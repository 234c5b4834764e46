"""bf16 computes the transformers; what is compared and stored stays float32."""

from __future__ import annotations

import torch

from alit_cli.model.device import autocast
from alit_cli.model.losses import l1_per_image
from alit_cli.model.tokenizer import load


def test_latents_and_errors_are_float32_in_bf16() -> None:
    tokenizer = load(device="cpu", precision="bf16")
    side = tokenizer.config.image_size
    for latents in tokenizer.iterate(torch.rand(2, 3, side, side), tokenizer.budgets[1]):
        assert latents.values.dtype == torch.float32
        assert latents.vectors.dtype == torch.float32
        assert tokenizer.reconstruct(latents.vectors).dtype == torch.float32


def test_bf16_loses_little() -> None:
    torch.manual_seed(0)
    exact, fast = (load(device="cpu", precision=precision) for precision in ("float32", "bf16"))
    side = exact.config.image_size
    images = torch.nn.functional.interpolate(torch.rand(4, 3, 6, 6), size=side, mode="bicubic").clamp(0, 1)
    pairs = zip(exact.rollout(images), fast.rollout(images), strict=True)
    gaps = [
        ((a.reconstruction - images).abs().mean() - (b.reconstruction - images).abs().mean()).abs() for a, b in pairs
    ]
    assert max(gaps) < 5e-3


def test_mixed_changes_no_token_and_little_of_the_error() -> None:
    torch.manual_seed(0)
    exact, mixed = (load(device="cpu", precision=precision) for precision in ("float32", "mixed"))
    side = exact.config.image_size
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 6), size=side, mode="bicubic").clamp(0, 1)
    gaps = []
    for one, other in zip(exact.rollout(images), mixed.rollout(images), strict=True):
        assert torch.equal(one.latents.tokens, other.latents.tokens)
        assert torch.equal(one.latents.vectors, other.latents.vectors)
        assert not torch.equal(one.reconstruction, other.reconstruction)  # else nothing was computed in bf16
        gaps.append(l1_per_image(one.reconstruction, images) - l1_per_image(other.reconstruction, images))
    assert torch.stack(gaps).abs().max() < 1e-3
    assert torch.stack(gaps).abs().mean() < 1e-4


def test_float32_on_a_gpu_is_no_tf32() -> None:
    assert torch.backends.cudnn.allow_tf32  # torch's default
    with autocast(torch.device("cuda"), "float32"):  # entering it needs no GPU
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32
