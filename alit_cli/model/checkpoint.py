"""One self-describing safetensors file: weights, configuration and training record."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from alit_cli.config import BaseConfig, ModelConfig
from alit_cli.data.files import open_output
from alit_cli.errors import InputError
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import TokenizerConfig, TokenizerModel
from alit_cli.model.tokenizers.grid import GridConfig, GridTokenizer
from alit_cli.model.tokenizers.titok import TiTok, TiTokConfig

FORMAT = "alit-model"
VERSION = 2
ALIT_VERSION = 1
"""What ALIT models are still written as, so that an older alit reads them; it refuses other kinds by their version."""
METADATA_KEY = "alit"
EMBEDDED = "nano"
"""Name of the model inside the package."""


@dataclass(frozen=True)
class Kind:
    """How a kind of tokenizer is read from the configuration in its file.

    Attributes:
        config: plain values → the configuration.
        model: plain values → the network, its weights being whatever they start with.
    """

    config: Callable[[dict[str, Any]], TokenizerConfig]
    model: Callable[[dict[str, Any]], TokenizerModel]


KINDS: dict[str, Kind] = {
    "alit": Kind(ModelConfig.from_dict, lambda values: Alit(ModelConfig.from_dict(values))),
    "titok": Kind(TiTokConfig.from_dict, lambda values: TiTok(TiTokConfig.from_dict(values))),
    "grid": Kind(GridConfig.from_dict, lambda values: GridTokenizer(GridConfig.from_dict(values))),
}


@dataclass(frozen=True)
class Record:
    """What a checkpoint says of itself.

    Attributes:
        config: the model's configuration.
        stages: training stages finished, in order: base, distill, finetune; imported files say `imported`.
        training: one entry per stage: options, data, steps, seconds, losses, validation L1 per budget.
    """

    config: TokenizerConfig
    stages: tuple[str, ...] = ()
    training: tuple[Mapping[str, Any], ...] = field(default=())

    def to_json(self) -> str:
        """Versioned JSON."""
        values = {
            "format": FORMAT,
            "version": ALIT_VERSION if self.config.kind == "alit" else VERSION,
            "config": self.config.to_dict(),
            "stages": list(self.stages),
            "training": list(self.training),
        }
        return json.dumps(values)

    def headline(self) -> str:
        """One line: name, sizes, budgets, stages done."""
        # A stage may have been trained on several times: `base, distill, finetune ×6`.
        runs = [(stage, len(list(same))) for stage, same in groupby(self.stages)]
        stages = ", ".join(f"{stage} ×{count}" if count > 1 else stage for stage, count in runs) or "none"
        if self.stages == ("base",) and self.config.kind == "alit":
            stages += " (a base tokenizer alone: its 1D tokens mean nothing before distillation)"
        return f"{self.config.summary()}; stages: {stages}"

    @property
    def alit_config(self) -> ModelConfig:
        """The configuration of an ALIT model.

        Raises:
            InputError: it is another tokenizer.
        """
        if self.config.kind != "alit":
            raise InputError(f"{self.config.name} is no ALIT model ({self.config.kind}), which is needed here.")
        # The way through plain values gives the precise type without a cast.
        return ModelConfig.from_dict(self.config.to_dict())

    @property
    def base_config(self) -> BaseConfig:
        """The configuration of the base tokenizer inside.

        Raises:
            InputError: there is none.
        """
        if self.config.kind == "grid":
            return GridConfig.from_dict(self.config.to_dict()).base
        return self.alit_config.base

    @staticmethod
    def from_json(text: str) -> Record:
        """The inverse of to_json.

        Raises:
            InputError: the text is no record, or one of a newer alit, or of a model that there cannot be.
        """
        try:
            values = json.loads(text)
            if values["format"] != FORMAT or values["version"] > VERSION:
                raise InputError(f"This model file is of format version {values['version']}: upgrade alit to read it.")
            config = kind_of(values["config"]).config(values["config"])
            return Record(config, tuple(map(str, values["stages"])), tuple(values.get("training", ())))
        # Whatever is not there, of another type or nested without end: the file was not written by alit, or damaged.
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError("The description inside the model file is not one of alit.") from error


@dataclass(frozen=True)
class Checkpoint:
    """A model read from disk.

    Attributes:
        model: in eval mode, float32, on the CPU.
        record: what the file says of itself.
        sha256: hex digest of the file's bytes.
    """

    model: TokenizerModel
    record: Record
    sha256: str


def write_checkpoint(path: Path, model: TokenizerModel, record: Record, dtype: torch.dtype = torch.float32) -> str:
    """Write atomically: a temporary file, fsynced, then renamed.

    Args:
        path: where the file goes.
        model: its weights are stored in `dtype`.
        record: written beside them.
        dtype: float16 halves the file.

    Returns: the file's sha256.

    Raises:
        InputError: the folder cannot be written.
    """
    # safetensors takes contiguous tensors only, which those in channels-last layout are not.
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    data = save(tensors, metadata={METADATA_KEY: record.to_json()})
    with open_output(path, "model", tidy=True) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def read_record(path: Path) -> Record:
    """Only the metadata of a checkpoint; no tensor is read.

    Raises:
        InputError: the file is missing, is no safetensors file, or is not ours.
    """
    if not path.is_file():
        hint = f"leave --checkpoint out for the model {EMBEDDED} inside the package" if path.name == EMBEDDED else ""
        raise InputError(f"There is no model file {path}: {hint or 'alit train and alit import write them'}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}); `alit import` reads the authors' .pth.") from error
    if METADATA_KEY not in metadata:
        raise InputError(f"{path} is a safetensors file, but alit did not write it: it has no alit metadata.")
    return Record.from_json(metadata[METADATA_KEY])


def read_checkpoint(path: Path) -> Checkpoint:
    """The whole model.

    Raises:
        InputError: as read_record, or the weights do not fit the configuration.
    """
    record = read_record(path)
    return Checkpoint(build(record.config, read_weights(path)), record, file_sha256(path))


def read_alit(path: Path) -> tuple[Alit, Record]:
    """An ALIT model whose training is to continue.

    Raises:
        InputError: as read_checkpoint, or the file holds another tokenizer.
    """
    record = read_record(path)
    with torch.device("meta"):
        model = Alit(record.alit_config)
    load_weights(model, read_weights(path))
    return model.eval(), record


def read_base_weights(path: Path) -> dict[str, Tensor]:
    """The weights of the base tokenizer inside a checkpoint, by their names in it."""
    return {name.removeprefix("base."): tensor for name, tensor in read_weights(path).items() if name[:5] == "base."}


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, as float32."""
    with safe_open(path, framework="pt") as file:
        # A file may store float16, but every model starts from float32.
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)


def describe(path: Path) -> dict[str, Any]:
    """Everything `alit info` says of a checkpoint, as plain values."""
    record = read_record(path)
    with safe_open(path, framework="pt") as file:
        # A slice knows its shape and type without reading the tensor.
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (no mapping)
        parameters = sum(math.prod(part.get_shape()) for part in slices)
        stored = sorted({part.get_dtype() for part in slices})
    return {
        "file": str(path),
        "model": record.headline(),
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "parameters": parameters,
        "stored": stored,
        "budgets": record.config.budgets,
        "config": record.config.to_dict(),
        "stages": record.stages,
        "training": record.training,
    }


def embedded() -> AbstractContextManager[Path]:
    """The path of the checkpoint inside the package."""
    # A package may be imported from a zip; as_file then unpacks the model for as long as it is used.
    return as_file(files("alit_cli.weights") / f"{EMBEDDED}.safetensors")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(values: Mapping[str, Any]) -> Kind:
    """The kind that a configuration's plain values name; those of ALIT models name none.

    Raises:
        InputError: this alit does not know it.
    """
    name = values.get("kind", "alit") if isinstance(values, Mapping) else None
    if name not in KINDS:
        raise InputError(f"This model file holds a tokenizer of the kind {name!r}: upgrade alit to read it.")
    return KINDS[name]


def build(config: TokenizerConfig, weights: Mapping[str, Tensor]) -> TokenizerModel:
    """A model in eval mode with the given weights.

    Raises:
        InputError: names or shapes do not fit the configuration.
    """
    values = config.to_dict()
    # On the meta device nothing is allocated or drawn: the weights are put in place of what would be.
    with torch.device("meta"):
        model = kind_of(values).model(values)
    load_weights(model, weights)
    return model.eval()


def load_weights(model: TokenizerModel, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model of the meta device.

    Raises:
        InputError: names or shapes do not fit the configuration.
    """
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    # The loop ends at its first name; names are sorted so that the same file always gives the same sentence.
    for name in sorted(expected.keys() ^ weights.keys()):
        raise InputError(f"The weights do not fit the configuration: {name!r} is {_which(name in expected)}.")
    for name, shape in expected.items():
        if shape != weights[name].shape:
            raise InputError(
                f"{name!r} has shape {tuple(weights[name].shape)}, the configuration wants {tuple(shape)}."
            )
    # Tensors of the meta device have no memory to copy into, so they are replaced.
    model.load_state_dict(weights, assign=True)


def _which(missing: bool) -> str:
    return "missing from the file" if missing else "unknown to it"
