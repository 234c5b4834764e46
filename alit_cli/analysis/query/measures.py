"""What the measures of token and score tables mean: which way is better, how they are written, who makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureInfo:
    """One measure of score tables.

    Attributes:
        task: `alit score --task …` makes it; `tokenize` for the token table's own.
        operator: how a threshold is compared where none is written: losses and errors `<`, ranks `<=`, gains `>=`.
        label: for an axis, with its unit.
    """

    task: str
    operator: str
    label: str

    @property
    def lower_is_better(self) -> bool:
        """Whether less of it is better."""
        return self.operator.startswith("<")


MEASURES = {
    "l1": MeasureInfo("tokenize", "<", "mean L1 (pixels in 0–1)"),
    "mse": MeasureInfo("recon", "<", "mean squared error (pixels in 0–1)"),
    "psnr": MeasureInfo("recon", ">=", "PSNR (dB)"),
    "ssim": MeasureInfo("recon", ">=", "SSIM"),
    "lpips": MeasureInfo("recon", "<", "LPIPS"),
    "class_rank": MeasureInfo("classify", "<=", "rank of the true class"),
    "class_prob": MeasureInfo("classify", ">=", "probability of the true class"),
    "depth_error": MeasureInfo("depth", "<", "depth error (relative)"),
    "depth_raw": MeasureInfo("depth", "<", "depth error (the network's own scale)"),
    "depth_delta1": MeasureInfo("depth", ">=", "depth δ1 (share of pixels)"),
    # Features are a vector per image; the operator and the label are those of the distance made of them.
    "features": MeasureInfo("features", "<", "Fréchet distance"),
    "answer_agreement": MeasureInfo("language", ">=", "answers as expected (share)"),
    "caption_loglik": MeasureInfo("language", ">=", "caption log-likelihood (nats per token)"),
}

TASKS = {"recon": "l1", "classify": "class_rank", "depth": "depth_error", "language": "answer_agreement"}
"""The measure that a task's name stands for in `--tsc`."""

MODELS = {
    "classify": " --model microsoft/resnet-18",
    "depth": " --model depth-anything/Depth-Anything-V2-Small-hf",
    "features": " --model facebook/dinov2-small",
    "language": " --model Salesforce/blip-vqa-base",
}
"""What a task is asked with where an example is needed; `recon` needs no model."""


def bare(name: str) -> str:
    """The measure's own name: `class_rank` of `class_rank@resnet-18`."""
    return name.partition("@")[0]


def measure_info(name: str) -> MeasureInfo:
    """What a measure means; one we do not know is a loss."""
    # A user whose own column is a gain writes the sign, as in `quality>`; most own columns are losses.
    return MEASURES.get(bare(name), MeasureInfo("", "<", bare(name)))


def how_to_make(name: str, tokens: str) -> str:
    """The line that makes a measure, as the end of a sentence; empty for one that is not ours."""
    known = MEASURES.get(bare(name))
    # The token table's own measure is made with the tokens, so `alit score` could not add it later.
    if known is None or known.task == "tokenize":
        return ""
    return f"`alit score {tokens} --task {known.task}{MODELS.get(known.task, '')}` makes it"
