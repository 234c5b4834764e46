"""Dynamic halting: planted probabilities and errors are halted as the paper says, and only in training."""

from __future__ import annotations

import torch

from alit_cli.training.stages.halting import LATENT_ERROR, PROBABILITY, halt, halted_by_error, halted_by_probability
from tests.model import tiny


def _logits(p: float, tokens: int, codes: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose true code has probability p, and the true codes."""
    target = torch.arange(tokens).remainder(codes).unsqueeze(0)
    probabilities = torch.full((1, tokens, codes), (1 - p) / (codes - 1))
    probabilities.scatter_(2, target.unsqueeze(2), p)
    return probabilities.log(), target


def _draw(target: torch.Tensor) -> torch.Tensor:
    return torch.rand(target.shape, generator=torch.Generator().manual_seed(0))


def test_confident_tokens_are_halted_at_the_rate_of_their_probability() -> None:
    for p in (PROBABILITY + 0.01, 0.75, 0.95):
        logits, target = _logits(p, 20_000)
        halted = halted_by_probability(logits, target, _draw(target))
        assert abs(halted.float().mean().item() - p) < 0.015


def test_doubtful_tokens_are_never_halted() -> None:
    logits, target = _logits(PROBABILITY - 0.01, 20_000)
    assert not halted_by_probability(logits, target, _draw(target)).any()


def test_a_wrong_confident_prediction_is_not_halted() -> None:
    logits, target = _logits(0.95, 1000)
    assert not halted_by_probability(logits, (target + 1) % 8, _draw(target)).any()


def test_latents_within_the_error_are_halted() -> None:
    target = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    latent = target.clone()
    latent[0, 1] += 2 * LATENT_ERROR
    latent[1, 3] -= 0.9 * LATENT_ERROR
    expected = torch.ones(2, 5, dtype=torch.bool)
    expected[0, 1] = False
    assert (halted_by_error(latent, target) == expected).all()


@torch.no_grad()
def test_a_halted_image_token_becomes_the_mask_at_its_place() -> None:
    model = tiny.model()
    state = model.encoder.advance(model.start(torch.rand(2, 3, 32, 32)))
    halted = torch.zeros(2, 16, dtype=torch.bool)
    halted[0, 5] = True
    after = halt(model.encoder, state, halted)
    mask = model.encoder.mask_token[0] + model.encoder.positions[6]
    assert torch.equal(after.x[0, 6], mask)
    same = torch.ones(after.x.shape[:2], dtype=torch.bool)
    same[0, 6] = False
    assert torch.equal(after.x[same], state.x[same])


@torch.no_grad()
def test_nothing_is_random_in_eval() -> None:
    for kind in ("vae", "vqgan"):
        model = tiny.model(kind)
        images = torch.rand(2, 3, 32, 32)
        once = [(r.latents.ids, r.reconstruction) for r in model.rollout(images)]
        torch.manual_seed(12345)
        again = [(r.latents.ids, r.reconstruction) for r in model.rollout(images)]
        for (ids, picture), (same_ids, same_picture) in zip(once, again, strict=True):
            assert ids is not None
            assert same_ids is not None
            assert torch.equal(ids, same_ids)
            assert torch.equal(picture, same_picture)
