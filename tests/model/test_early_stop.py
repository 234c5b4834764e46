"""Early stop decodes pixels only where a criterion reads them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer import Tokenizer, load
from tests.model import tiny


@pytest.mark.parametrize(("budgets", "decoded"), [((4,), [4]), ((2, 6), [2, 6]), ((2, 4, 6), [2, 4, 6])])
def test_no_pixels_between_the_budgets_that_are_wanted(
    budgets: tuple[int, ...],
    decoded: list[int],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = load(tiny.checkpoint(tmp_path_factory.mktemp("model")), device="cpu")
    found: list[int] = []
    plain = Tokenizer.reconstruct

    def reconstruct(self: Tokenizer, vectors: Tensor) -> Tensor:
        found.append(vectors.shape[1])
        return plain(self, vectors)

    monkeypatch.setattr(Tokenizer, "reconstruct", reconstruct)
    # No L1 is below 0, so every image goes through every budget.
    scheduler = RolloutScheduler(tokenizer, budgets, 0.0, 2)
    (finished,) = [batch for batch in scheduler.run_batch(torch.rand(2, 3, 32, 32)) if batch]
    assert found == decoded
    assert [len(image.l1) for image in finished] == [len(budgets)] * 2
