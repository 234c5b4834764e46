"""torch.compile of a rollout: few graphs for all of its sequence lengths, and the same results."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from alit_cli.config import BaseKind
from alit_cli.model.device import autocast, compile_transformers
from alit_cli.model.layers import checkpointed
from alit_cli.model.rollout import Alit
from tests.model import tiny


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
@pytest.mark.parametrize("kind", ["vae", "vqgan"])
def test_a_whole_rollout_takes_few_graphs(kind: BaseKind) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = tiny.config(kind, iterations=8)
    model = Alit(config)
    images = torch.rand(3, 3, 32, 32)

    def trained(checkpointing: bool = False) -> tuple[torch.Tensor, ...]:
        """The loss of a rollout with eight lengths in the encoder and eight in the decoder, and two gradients."""
        model.zero_grad()
        state = model.start(images)
        loss = torch.zeros(())
        for _ in range(config.iterations):
            state, latents = model.advance(state)
            loss = loss + checkpointed(checkpointing, model.decoder, latents.vectors).square().mean()
        loss.backward()
        gradients = [model.encoder.latent_tokens.grad, model.decoder.mask_token.grad]
        return loss.detach(), *(gradient.clone() for gradient in gradients if gradient is not None)

    def inferred() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return tuple(iteration.reconstruction for iteration in model.rollout(images))

    expected = [trained(), inferred()]
    counter = CompileCounter()
    compile_transformers(model, counter)
    torch.testing.assert_close(trained(), expected[0])
    assert counter.frame_count == 1
    torch.testing.assert_close(trained(checkpointing=True), expected[0])
    assert counter.frame_count == 1
    torch.testing.assert_close(inferred(), expected[1])
    with torch.no_grad():
        list(model.rollout(images[:2]))
    assert counter.frame_count == 2, "a graph for training and one for inference, whatever the batch"
    with torch.no_grad(), autocast(images.device, "bf16"):
        list(model.rollout(images))
    assert counter.frame_count == 3
    torch._dynamo.reset()
