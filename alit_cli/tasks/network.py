"""Networks of the transformers library: found in a folder or on the hub, loaded whole, fed with pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alit_cli.errors import InputError
from alit_cli.tasks.base import Request


@dataclass(frozen=True, eq=False)
class Network:
    """A model in eval mode with the image processor that belongs to it.

    Attributes:
        source: the hub id or folder it came from.
        model: on the device.
        processor: of transformers' PIL backend.
        digest: first 16 hex of the weights' sha256, so that two networks are never taken for one.
        whole: every weight was in the files; none is random.
        threads, workers: what prepares pictures, and how many at a time.
    """

    source: str
    model: Any
    processor: Any
    device: torch.device
    digest: str
    whole: bool
    threads: Executor
    workers: int = 1

    def pixels(self, images: Tensor) -> Tensor:
        """b 3 h w in [0, 1] → what the model takes, on its device: the 8-bit pictures that `alit decode` would write,
        resized and normalised by the model's own processor."""
        # The network sees the rounded pixels that a user would save, and the processor expects 8-bit pictures.
        pictures = images.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        # There are never more shares than pictures: array_split would make empty ones, of which no batch can be made.
        shares = np.array_split(pictures, min(self.workers, len(pictures)))
        return torch.cat(list(self.threads.map(self._processed, shares))).to(self.device)

    def _processed(self, pictures: NDArray[np.uint8]) -> Tensor:
        made: Tensor = self.processor(list(pictures), return_tensors="pt")["pixel_values"]
        return made


def load_network(request: Request, auto: str, fresh: tuple[str, ...] = ()) -> Network:
    """A model and its image processor, from a folder or by a hub id.

    Nothing but the user's own id is ever looked for on the hub, `HF_HUB_OFFLINE` keeps even that to its cache, and code
    that lies beside the weights is never run.

    Args:
        request: its model is a folder that `save_pretrained` wrote, or a hub id.
        auto: the class of transformers that reads it, such as AutoModelForImageClassification.
        fresh: parts of names of weights that may be missing (and are then random); any other is an error.

    Raises:
        InputError: transformers is not installed, there is no such model, or it lacks weights for the task.
    """
    transformers, source, device = quiet_transformers(), request.model, request.tokenizer.device
    # A mistyped path must not be looked up on the hub.
    if _looks_like_a_path(source) and not Path(source).is_dir():
        raise InputError(f"There is no folder '{source}' with a model; give a folder that save_pretrained wrote.")
    try:
        model, report = getattr(transformers, auto).from_pretrained(
            source, trust_remote_code=False, output_loading_info=True
        )
        # Pillow's backend needs no torchvision, and so gives the same pixels whether that is installed or not.
        processor = transformers.AutoImageProcessor.from_pretrained(source, trust_remote_code=False, backend="pil")
    except Exception as problem:  # OSError, ValueError, KeyError, … as the files are missing, foreign or damaged
        raise InputError(_why(source, auto, problem)) from problem
    # transformers only warns of missing weights and draws them at random; scores of those would mean nothing.
    missing = sorted(report["missing_keys"])
    wanted = [name for name in missing if not any(part in name for part in fresh)]
    if wanted:
        raise InputError(
            f"'{source}' has no trained weights for '{wanted[0]}': it was not trained for this task, or is not whole; "
            "choose a model that was."
        )
    # Random weights differ each time, so that the digest leaves them out; it is of the weights before the cast below.
    digest, workers = weights_digest(model, missing), max(1, request.workers)
    # A file in half precision is computed with in single precision, as pictures come in float32.
    model = model.eval().float().to(device)
    return Network(source, model, processor, device, digest, not missing, request.threads, workers)


def quiet_transformers() -> Any:
    """The library, with its progress bars and messages off. Raises InputError where it is not installed."""
    try:
        import transformers
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    except ImportError as problem:
        raise InputError("This task needs transformers: pip install 'alit[tasks]'.") from problem
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    return transformers


def weights_digest(model: nn.Module, without: Sequence[str] = ()) -> str:
    """First 16 hex of the sha256 of every weight and buffer that is saved, by name, `without` some."""
    digest = hashlib.sha256()
    # Sorted by name, as the order of a state dict depends on the version of the code that defines the model.
    for name, tensor in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(name.encode())
        # As bytes, because numpy has no bfloat16; flattened, because a tensor without dimensions has no other view.
        digest.update(np.ascontiguousarray(tensor.detach().cpu().flatten().view(torch.uint8).numpy()).data)
    return digest.hexdigest()[:16]


def _looks_like_a_path(source: str) -> bool:
    """Whether a name cannot be a hub id (`name` or `owner/name`)."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or source.endswith("/")


def _why(source: str, auto: str, problem: Exception) -> str:
    """One sentence about a model that could not be loaded."""
    what = auto.removeprefix("AutoModelFor").removeprefix("AutoModel") or "backbone"
    if not Path(source).is_dir() and isinstance(problem, OSError):
        from huggingface_hub.constants import HF_HUB_OFFLINE

        reason = "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else "it could not be fetched from the Hugging Face hub"
        return f"There is no folder '{source}', it is not in the Hugging Face cache, and {reason}; check the name."
    if "Unrecognized configuration class" in str(problem):
        return f"'{source}' is another kind of model than this task takes ({what}); choose one that was trained for it."
    if "image processor" in str(problem) and Path(source).is_dir():
        return (
            f"'{source}' holds weights but no image processor, which says how pixels are prepared; save that of the "
            f"model it was trained from beside them: AutoImageProcessor.from_pretrained(…).save_pretrained('{source}')."
        )
    # Errors of transformers run over many lines; the first sentence is what a user can act on.
    first = " ".join(str(problem).split()).split(". ")[0].rstrip(".")[:200]
    return f"'{source}' cannot be used as a model of transformers for this task ({what}): {first}."
