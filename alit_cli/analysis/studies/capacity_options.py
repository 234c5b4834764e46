"""What the capacity of one tokenizer, or of several, is swept over; nothing heavy is imported here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CapacityOptions:
    """Which criteria are swept, and what is looked at.

    Attributes:
        tsc, toi: criteria that are swept, and outcomes that are looked at.
        thr: thresholds of one criterion; None: `points` of them are spread over the data.
        optimum: measures whose best allocation is a line too.
        share_of: tokens per image that a capacity of 100 % stands for; None: the largest budget of the table.
        by: how images are grouped; few_samples: whether a biased Fréchet distance is wanted.
        bootstrap: resamples of the 95 % intervals, 0 for none; seed: of the resampling.
    """

    tsc: tuple[str, ...] = ("recon",)
    toi: tuple[str, ...] = ("recon",)
    thr: tuple[float, ...] | None = None
    points: int = 12
    optimum: tuple[str, ...] = ()
    share_of: int | None = None
    by: str | None = None
    few_samples: bool = False
    bootstrap: int = 1000
    seed: int = 0
