"""Everything random of one training step, decided once, from the seed and the number of the step alone.

So a resumed run repeats what an unbroken one would have done, and every process knows the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alit_cli.config import StageName
from alit_cli.training.crops import CropDataset
from alit_cli.training.recipe import Recipe

# Each kind of draw has a stream of its own, so that one more of one kind changes no other.
TORCH, ITERATION, PASSES, CRITIC, HALTING, NOISE = range(6)


@dataclass(frozen=True, eq=False)
class StepPlan:
    """What is drawn for one optimizer step.

    Attributes:
        step: the number of the step in its stage, from 0.
        share: step / steps, how much of the stage is done.
        rows: the crops of the whole batch, of all processes, ascending; B.
        iteration: the iteration that is trained, from 0 (0 in the base stage).
        reads: after which iterations a sampled rollout reads the sequence, ascending; the last is `iteration`. Early
            in distillation this is `iteration` alone: all latents then read the image in one pass.
        trained: those of `reads` that have a loss.
        critic_rows: the crops of each update of the critic, update after update.
        seed: of the whole run.
    """

    step: int
    share: float
    rows: np.ndarray
    iteration: int
    reads: tuple[int, ...]
    trained: tuple[int, ...]
    critic_rows: tuple[np.ndarray, ...]
    seed: int

    @property
    def torch_seed(self) -> int:
        """Seed of torch's own generator, the same in every process."""
        return int(np.random.default_rng([self.seed, self.step, TORCH, 0]).integers(2**31))

    def halting_draws(self, rows: np.ndarray, iterations: int, tokens: int) -> Tensor:
        """Uniform draws for some of `rows`, t b n. They belong to the row, however the batch is split."""
        draws = np.random.default_rng([self.seed, self.step, HALTING]).random(
            (iterations, len(self.rows), tokens), dtype=np.float32
        )
        return torch.from_numpy(draws[:, np.searchsorted(self.rows, rows)])

    def noise(self, rows: np.ndarray, shape: tuple[int, ...], update: int | None = None) -> Tensor:
        """Standard normal draws for some rows, b and `shape`; they belong to the row, as those of halting do.

        Args:
            rows: ascending.
            shape: of one row's draws.
            update: the number of the critic's update whose rows they are; None for rows of the step's batch.
        """
        whole = self.rows if update is None else np.sort(self.critic_rows[update])
        stream = [NOISE] if update is None else [NOISE, update]
        draws = np.random.default_rng([self.seed, self.step, *stream]).standard_normal(
            (len(whole), *shape), dtype=np.float32
        )
        return torch.from_numpy(draws[np.searchsorted(whole, rows)])


def plan_step(step: int, name: StageName, recipe: Recipe, iterations: int, crops: CropDataset) -> StepPlan:
    """Decide one step.

    Args:
        step: from 0, in its stage.
        name: the stage.
        recipe: of the whole run.
        iterations: of the model's rollout.
        crops: whose rows are drawn.
    """
    stage = recipe.stage(name)
    share = step / stage.steps
    iteration = 0 if name == "base" else _iteration(step, name, recipe, iterations)
    rng = np.random.default_rng([recipe.seed, step, PASSES])
    reads = _reads(share, recipe, iterations, iteration, rng)
    # Beside the last iteration a random one that the same rollout passes through: a second lesson for little more.
    earlier = rng.choice(reads[:-1], 1).tolist() if len(reads) > 1 else []
    return StepPlan(
        step=step,
        share=share,
        rows=batch_rows(step, stage.batch_size, recipe.seed, crops),
        iteration=iteration,
        reads=reads,
        trained=(*earlier, iteration),
        critic_rows=_critic_rows(step, name, recipe, crops),
        seed=recipe.seed,
    )


def batch_rows(step: int, batch_size: int, seed: int, crops: CropDataset) -> np.ndarray:
    """The crops of a step's batch, ascending; the photographs that an epoch's last batch would lack are left out."""
    size = min(batch_size, crops.photos)
    # An epoch has as many steps as full batches; the order is new in each.
    epoch, place = divmod(step, crops.photos // size)
    return np.sort(crops.order(epoch, seed, place * size, (place + 1) * size))


def _iteration(step: int, name: StageName, recipe: Recipe, iterations: int) -> int:
    """Drawn with the stage's odds, or with a weight of (t + 1) ** late_bias; fine-tuning takes iterations in turn where
    it has neither.
    """
    stage = recipe.stage(name)
    if name == "finetune" and not stage.late_bias and not stage.iteration_odds:
        return step % iterations
    odds = stage.iteration_odds or tuple(float(t) ** stage.late_bias for t in range(1, iterations + 1))
    weights = np.array(odds, dtype=np.float64)
    rng = np.random.default_rng([recipe.seed, step, ITERATION])
    return int(rng.choice(iterations, p=weights / weights.sum()))


def _reads(share: float, recipe: Recipe, iterations: int, last: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Where a sampled rollout to iteration `last` reads the sequence.

    The number of passes grows from one, at parallel_until, to as many as there are iterations, at full_rollouts_from.
    """
    if share >= recipe.full_rollouts_from:
        return tuple(range(last + 1))
    grown = (share - recipe.parallel_until) / (recipe.full_rollouts_from - recipe.parallel_until)
    passes = 1 + int(max(grown, 0.0) * (iterations - 1))
    before = rng.permutation(last)[: passes - 1]
    return (*sorted(before.tolist()), last)


def _critic_rows(step: int, name: StageName, recipe: Recipe, crops: CropDataset) -> tuple[np.ndarray, ...]:
    """The critic sees photographs of its own, other ones at every update, so that it does not judge by heart."""
    # Before the critic joins, it needs none.
    if name not in recipe.gan or not recipe.adversarial_weight(step / recipe.stage(name).steps):
        return ()
    size = min(recipe.stage(name).batch_size, crops.photos)
    batches = []
    for number in range(recipe.critic_steps):
        rng = np.random.default_rng([recipe.seed, step, CRITIC, number])
        photos = rng.choice(crops.photos, size, replace=False)
        batches.append(photos * crops.per_photo + rng.integers(crops.per_photo, size=size))
    return tuple(batches)
