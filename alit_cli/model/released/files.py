"""Reading what others released: a safetensors file, a pickled state dict, or a folder with one, and its config.json."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alit_cli.data.files import readable
from alit_cli.errors import InputError

# In a folder, the names that the hub gives weights, in the order in which they are preferred.
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
CONFIG_NAME = "config.json"
# Where training code keeps the weights inside a pickle, best first: averaged weights are what its authors evaluate.
WRAPPERS = ("ema", "model", "state_dict")
# A config.json of the hub has a few hundred bytes.
MOST_CONFIG_BYTES = 2**20


@dataclass(frozen=True)
class ReleasedFile:
    """What lies on disk, not yet understood.

    Attributes:
        path: the file with the weights.
        weights: tensors by their authors' names.
        config: the config.json beside it; empty where there is none.
        model: `args.model` of a training checkpoint, for instance alit_small; None where it has none.
        epoch: the epoch of a training checkpoint, None where it has none.
    """

    path: Path
    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    model: str | None = None
    epoch: int | None = None


def read_released(path: Path) -> ReleasedFile:
    """Read weights and configuration; nothing in them is run.

    Raises:
        InputError: there is no such file, it is damaged, or it is a pickle that could run code.
    """
    file = _weights_in(path) if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There is no file '{readable(str(file))}'; give the file or folder that was released.")
    config = _config_beside(file)
    if file.suffix == ".safetensors":
        return ReleasedFile(file, _read_safetensors(file), config)
    stored = _read_pickle(file)
    args, epoch = stored.get("args"), stored.get("epoch")
    weights = next((stored[key] for key in WRAPPERS if isinstance(stored.get(key), dict)), stored)
    tensors = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    model = str(args.model) if args is not None and hasattr(args, "model") else None
    return ReleasedFile(file, tensors, config, model, epoch if isinstance(epoch, int) else None)


def _weights_in(folder: Path) -> Path:
    """The one file of a folder that holds weights."""
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if len(files) != 1:
        said = f"holds {len(files)} files of weights; name one of them" if files else "holds no file of weights"
        raise InputError(f"The folder '{readable(str(folder))}' {said} ({', '.join(WEIGHT_SUFFIXES)}).")
    return files[0]


def _config_beside(file: Path) -> Mapping[str, Any]:
    path = file.with_name(CONFIG_NAME)
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES:
            raise ValueError("it is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    # A file of a thousand nested brackets ends in a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{readable(str(path))}' cannot be read as a configuration: {error}.") from error
    if not isinstance(config, dict):
        raise InputError(f"'{readable(str(path))}' holds no configuration, which would be a JSON object.")
    return config


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    name = readable(str(path))
    try:
        with safe_open(path, framework="pt") as file:
            if "alit" in (file.metadata() or {}):
                raise InputError(f"'{name}' is a model of alit already; use it with --checkpoint.")
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"'{name}' is no safetensors file, or is damaged: {error}.") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        # The one class that training checkpoints hold besides tensors; it only stores attributes.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            # torch warns of pickles that it did not write, which are refused in one sentence below.
            warnings.simplefilter("ignore")
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError, OSError) as error:
        held = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds {held[1]}, and could run code" if held else "it is not what torch.save writes, or damaged"
        raise InputError(f"'{readable(str(path))}' cannot be read safely as a checkpoint: {reason}.") from error
    if not isinstance(stored, dict):
        kind = type(stored).__name__
        raise InputError(f"'{readable(str(path))}' holds a {kind}, not a dictionary of weights.")
    return stored
