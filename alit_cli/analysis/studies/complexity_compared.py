"""Several tokenizers on the same scored images: how closely each follows the scores, by the bits it spends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alit_cli.analysis.query.matched import ALL, Choices, Matched
from alit_cli.analysis.selection.decide import quartiles
from alit_cli.analysis.studies.complexity import OVERALL, Complexity, Row, correlate_complexity
from alit_cli.analysis.studies.complexity_scores import Scores
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.analysis.studies.scored_images import Study, join_scores


@dataclass(frozen=True, kw_only=True)
class TokenizerRow(Row):
    """A row of one tokenizer, or of the needs of all of them, each image at its cheapest choice.

    Attributes:
        tokenizer: its name, or `ALL`.
        tokens, bits: per image: of the budget of a loss, and on average of the tokens needed; None for a measure of
            the image alone. `ALL` has only bits, since tokens of different codebooks do not add up.
    """

    tokenizer: str
    tokens: float | None
    bits: float | None


@dataclass(frozen=True)
class ComparedComplexity:
    """The outcome.

    Attributes:
        rows: those of `Complexity`, tokenizer by tokenizer, then the needs of all together.
        bins: by tokenizer, the mean L1 by complexity, as `Complexity.bins`.
        thresholds: of L1, those that needs were counted at, the same for all.
        group: the scope and the name of the rows that stand for all images.
        study: that of the first tokenizer; all have the same images and scores.
    """

    names: tuple[str, ...]
    rows: tuple[TokenizerRow, ...]
    bins: dict[str, pd.DataFrame]
    thresholds: tuple[float, ...]
    group: tuple[str, str]
    study: Study

    def of(self, tokenizer: str, *kinds: str) -> list[TokenizerRow]:
        """The rows of a tokenizer over all images, of these kinds of measures."""
        rows = [row for row in self.rows if row.tokenizer == tokenizer and (row.scope, row.group) == self.group]
        return [row for row in rows if row.kind in kinds]


def compare_complexity(
    matched: Matched,
    scores: Scores,
    thresholds: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ComparedComplexity:
    """Correlate the scores with what every tokenizer makes of the images that all tables have.

    Without thresholds, the quartiles of L1 at the middle budgets of all tokenizers are taken. Raises InputError where
    no score belongs to an image, and for a threshold that is none.
    """
    studies = [join_scores(tokenizer.tables.path, scores, tokenizer.rows) for tokenizer in matched.tokenizers]
    at = tuple(thresholds) if thresholds else quartiles(*(study.losses for study in studies))
    rows: list[TokenizerRow] = []
    results: list[Complexity] = []
    for tokenizer, study in zip(matched.tokenizers, studies, strict=True):
        results.append(correlate_complexity(study, at, resamples, seed))
        # A tokenizer of one budget gives every image the same, which follows nothing.
        wanted = [row for row in results[-1].rows if tokenizer.adaptive or "tokens" not in row.kind]
        rows += _rows(tokenizer.name, wanted, study.info.bits_per_token)
    together = _needs_of_all(matched, studies)
    needs = correlate_complexity(together, at, resamples, seed).rows
    rows += _rows(ALL, [row for row in needs if row.kind == "tokens"], None)
    # With several groups, the row that stands for all images is pooled within them; else there is one group.
    scopes = {(row.scope, row.group) for row in results[0].rows}
    group = next((scope for scope in scopes if scope[0] == OVERALL), next(iter(scopes)))
    bins = {tokenizer.name: result.bins for tokenizer, result in zip(matched.tokenizers, results, strict=True)}
    return ComparedComplexity(matched.names, tuple(rows), bins, results[0].thresholds, group, studies[0])


def _rows(tokenizer: str, rows: Sequence[Row], bits_per_token: float | None) -> Iterator[TokenizerRow]:
    """The rows with their costs; without `bits_per_token`, budgets are bits already."""
    for row in rows:
        spent = row.mean if row.kind.endswith("tokens") else row.budget
        tokens = None if bits_per_token is None else spent
        bits = spent if bits_per_token is None or spent is None else spent * bits_per_token
        yield TokenizerRow(**vars(row), tokenizer=tokenizer, tokens=tokens, bits=bits)


def _needs_of_all(matched: Matched, studies: Sequence[Study]) -> Study:
    """The images as if every number of bits that some tokenizer can spend were a budget of one, counted in bits."""
    choices = Choices.of(matched.tokenizers)
    # Of choices that cost the same, an image needs the one of its lower L1.
    bits, first = np.unique(np.round(choices.bits).astype(np.int64), return_index=True)
    losses = np.minimum.reduceat(choices.together([study.losses for study in studies]), first, axis=1)
    info = dataclasses.replace(studies[0].info, budgets=tuple(bits.tolist()), codes=2)  # such a token has one bit
    # Measures of the image alone are in the rows of the tokenizers.
    return dataclasses.replace(studies[0], info=info, losses=losses, measures={})


def save_compared(result: ComparedComplexity, folder: Path) -> list[Path]:
    """Write the rows as complexity_compared.csv and .parquet; raises what `open_output` raises."""
    # Numbers that some rows do not have are None, of which pandas would make objects.
    floats = dict.fromkeys(("threshold", "share_largest", "tokens", "bits"), float)
    table = pd.DataFrame(result.rows).astype(floats).astype({"budget": "Int64"})
    first = ["tokenizer", "tokens", "bits"]
    table = table[[*first, *(name for name in table.columns if name not in first)]]
    return [
        save_csv(table, folder / "complexity_compared.csv"),
        save_parquet(table, folder / "complexity_compared.parquet"),
    ]
