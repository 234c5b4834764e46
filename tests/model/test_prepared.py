"""What a CPU computes faster once a model is loaded is the same but for rounding, and training never meets it."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import Tensor

from alit_cli.model.device import X86, cpu_has_bf16, prepare_model
from alit_cli.model.layers import MLP, Attention, Linear, Upsample
from alit_cli.model.losses import l1_per_image
from alit_cli.model.scheduler import padded_rows
from alit_cli.model.tokenizer import load
from tests.model import tiny

CPU = torch.device("cpu")
ours = pytest.mark.skipif(platform.machine() not in X86, reason="only for the processors that oneDNN was made for")


@pytest.mark.parametrize("side", [1, 2, 5])
def test_a_merged_upsampling_is_both_steps(side: int) -> None:
    torch.manual_seed(0)
    layer, x = Upsample(3), torch.randn(2, 3, side, side)
    with torch.no_grad():
        before = layer(x)
        layer.merge()
        assert layer.kernel is not None
        torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)
        layer.kernel.zero_()
        assert not torch.allclose(layer(x), before)  # it was the merged kernel that made the picture
    torch.testing.assert_close(layer(x), before)  # with gradients the weights themselves count
    assert set(layer.state_dict()) == {"conv.weight", "conv.bias"}


@ours
def test_onednn_multiplies_like_torch() -> None:
    torch.manual_seed(0)
    layer, x = Linear(40, 24), torch.randn(2, 7, 40)
    with torch.no_grad():
        before = layer(x)
        layer.onednn = True
        torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
    layer(x).sum().backward()
    assert layer.weight.grad is not None


@ours
@pytest.mark.skipif(not cpu_has_bf16(), reason="only for processors that multiply bf16 in hardware")
def test_products_in_bf16_are_as_exact_as_those_of_autocast() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 48)
    for layer in (Linear(48, 24), Linear(48, 24, bias=False), MLP(48), Attention(48, 3), Attention(48, 3, tiled=True)):
        apart = (torch.arange(7)[:, None] != torch.arange(7)).float()
        inputs = (x, apart) if isinstance(layer, Attention) else (x,)
        names = set(layer.state_dict())
        with torch.no_grad():
            exact = layer(*inputs)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                before = layer(*inputs)
                prepare_model(layer, CPU)
                after = layer(*inputs)
        assert after.dtype == before.dtype == torch.bfloat16
        assert (after - exact).abs().max() <= 1.5 * (before - exact).abs().max()
        assert set(layer.state_dict()) == names
        layer(*inputs).sum().backward()  # training takes no notice of what was kept


@ours
@pytest.mark.parametrize("kind", ["vae", "vqgan"])
def test_a_prepared_model_gives_the_same_ids_and_errors(kind: str) -> None:
    plain, fast = tiny.model(kind), tiny.model(kind)  # type: ignore[arg-type]
    prepare_model(fast, CPU)
    assert any(isinstance(module, Upsample) and module.kernel is not None for module in fast.modules())
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        for one, other in zip(plain.rollout(images), fast.rollout(images), strict=True):
            assert one.latents.ids is not None and other.latents.ids is not None
            assert torch.equal(one.latents.ids, other.latents.ids)
            gap = l1_per_image(one.reconstruction, images) - l1_per_image(other.reconstruction, images)
            assert gap.abs().max() < 1e-6


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_rows_do_not_depend_on_their_neighbours(precision: str) -> None:
    """Every batch has one shape: then no bit depends on the other images or on an image's place among them."""
    tokenizer = load(device="cpu", precision=precision)
    side = tokenizer.config.image_size
    torch.manual_seed(0)
    images = torch.rand(5, 3, side, side)

    def rows(batch: Tensor) -> list[tuple[Tensor, Tensor]]:
        steps = list(tokenizer.iterate(batch, tokenizer.budgets[1]))
        return [(step.tokens, l1_per_image(tokenizer.reconstruct(step.vectors), batch)) for step in steps]

    whole = rows(images[:4])
    for places in ([0], [0, 1], [2, 0, 3], [3, 2, 1, 0]):
        filled = torch.cat([images[places], images.new_zeros(4 - len(places), *images.shape[1:])])
        for (ids, l1), (all_ids, all_l1) in zip(rows(filled), whole, strict=True):
            assert torch.equal(ids[: len(places)], all_ids[places])
            assert torch.equal(l1[: len(places)], all_l1[places])
    if precision != "float32":
        return
    # Another shape may be summed in another order, which is told from the same by the last bit of an error at most.
    for (ids, l1), (all_ids, all_l1) in zip(rows(images), whole, strict=True):
        assert torch.equal(ids[:4], all_ids)
        torch.testing.assert_close(l1[:4], all_l1, atol=1e-7, rtol=0)


def test_batches_are_filled_up_no_further_than_needed() -> None:
    gpu = torch.device("cuda")
    assert [padded_rows(count, 2, CPU) for count in (1, 2)] == [2, 2]
    assert [padded_rows(count, 1, CPU) for count in (1,)] == [2]
    assert [padded_rows(count, 16, CPU) for count in (1, 5, 16)] == [16, 16, 16]
    assert [padded_rows(count, 128, gpu) for count in (1, 2, 3, 5, 64, 65, 128)] == [1, 2, 4, 8, 64, 128, 128]
    assert [padded_rows(count, 100, gpu) for count in (64, 65, 100)] == [64, 100, 100]
    assert padded_rows(1, 1, gpu) == 1
