"""Our model against numbers recorded from the authors' code, for all four variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from alit_cli.model.checkpoint import Record
from alit_cli.model.losses import l1_per_image, mse_per_image
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.training.stages.losses import grid_loss, quantization_loss
from tests.model import golden


@dataclass(frozen=True)
class Case:
    """One variant: our model, what the authors' code gave, and the two images."""

    model: Alit
    recorded: dict[str, np.ndarray]
    images: torch.Tensor
    features: torch.Tensor

    @property
    def quantized(self) -> bool:
        return "tokens_0" in self.recorded


@pytest.fixture(scope="module", params=golden.VARIANTS)
def case(request: pytest.FixtureRequest) -> Case:
    model, images = golden.model(request.param), golden.images()
    with torch.no_grad():
        features = model.base.encode(images)
    return Case(model, golden.recorded(request.param), images, features)


def test_base_tokenizer(case: Case) -> None:
    if "base_indices" in case.recorded:
        ids = case.model.base.target(case.features).numpy()
        assert (ids == case.recorded["base_indices"]).all()
    else:
        np.testing.assert_allclose(case.features, case.recorded["base_features"], atol=1e-5)


@torch.no_grad()
def test_latents_and_ids(case: Case) -> None:
    for latents in case.model.iterate(case.model.start(case.images, case.features)):
        np.testing.assert_allclose(latents.values, case.recorded[f"latents_{latents.t}"], atol=1e-5)
        assert (latents.ids is not None) == case.quantized
        if latents.ids is not None:
            assert (latents.ids.numpy() == case.recorded[f"tokens_{latents.t}"]).all()


@torch.no_grad()
@pytest.mark.parametrize(
    "decoded",
    [{0: [0], 7: [1]}, pytest.param({t: [0, 1] for t in range(8)}, marks=pytest.mark.slow)],
    ids=["ends", "all"],
)
def test_errors_and_reconstructions(case: Case, decoded: Mapping[int, Sequence[int]]) -> None:
    """Decoding takes seconds, so the fast test decodes one image at each end: `decoded` says which, by iteration."""
    for latents in case.model.iterate(case.model.start(case.images, case.features)):
        t = latents.t
        if t not in decoded:
            continue
        some = decoded[t]
        reconstruction, images = case.model.decode(latents.vectors[some]), case.images[some]
        np.testing.assert_allclose(l1_per_image(reconstruction, images), case.recorded["l1"][some, t], atol=2e-6)
        np.testing.assert_allclose(mse_per_image(reconstruction, images), case.recorded["mse"][some, t], atol=2e-6)
        if f"reconstruction_{t}" in case.recorded:
            pooled = torch.nn.functional.avg_pool2d(reconstruction, 4)
            np.testing.assert_allclose(pooled, case.recorded[f"reconstruction_{t}"][some], atol=1e-4)


@torch.no_grad()
def test_attention(case: Case) -> None:
    *_, latents = case.model.iterate(case.model.start(case.images, case.features), 3)
    attention = case.model.decoder.attention(latents.vectors[:1], layer=-1).mean(dim=1)[0]
    np.testing.assert_allclose(attention, case.recorded["attention_iter2_last_layer"], atol=1e-5)
    tokenizer = Tokenizer(case.model, Record(case.model.config, ()), "", torch.device("cpu"), "bf16")
    assert (tokenizer.attention(latents.vectors[:1], layer=-1)[0] == attention).all()  # float32 at any precision


def test_distillation_loss_and_gradients(case: Case) -> None:
    model, recorded = case.model, case.recorded
    model.zero_grad()
    target = model.base.target(case.features)
    total = torch.zeros(())
    for latents in model.iterate(model.start(case.images, case.features)):
        loss = grid_loss(model.base, model.decoder(latents.vectors), target)
        parts = {"code": loss.main} if loss.code is None else {"nll": loss.main, "code": loss.code}
        quantization = quantization_loss(model.codebook, latents)
        if case.quantized:
            parts["quantization"] = quantization
        for name, value in parts.items():
            assert value.item() == pytest.approx(recorded[f"pretrain_{name}_loss_{latents.t}"].item(), rel=1e-5)
        total = total + loss.weighted(latents.t) + quantization
    assert total.item() == pytest.approx(recorded["pretrain_total_loss"].item(), rel=1e-5)
    total.backward()
    parameters = dict(model.encoder.named_parameters())
    for key, name in (("blocks.0.mlp.0.weight", "encoder_layer0_c_fc"), ("latent_tokens", "latent_tokens")):
        parameter = parameters[key]
        assert parameter.grad is not None
        norm = parameter.grad.norm().item()
        assert norm == pytest.approx(recorded[f"pretrain_grad_norm_{name}"].item(), rel=1e-4)
