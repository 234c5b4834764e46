"""Models named on the Hugging Face hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME/FILE` for one file of several."""

from __future__ import annotations

import os
import re
from pathlib import Path

from alit_cli.errors import InputError
from alit_cli.model.checkpoint import write_checkpoint
from alit_cli.model.released.files import CONFIG_NAME, WEIGHT_SUFFIXES
from alit_cli.model.released.importing import import_released

PREFIX = "hf:"
# OWNER/NAME, then perhaps a file in any folder; the hub's own rule for names is no wider.
NAME = re.compile(r"hf:([\w.-]+/[\w.-]+?)(?:/(.+))?")


def fetch(name: str | Path) -> Path:
    """The local file or folder behind a name; what is no name on the hub is a path already.

    Raises:
        InputError: huggingface-hub is not installed, there is no such model, or the hub cannot be reached.
    """
    text = _hub_name(name)
    if text is None:
        return Path(name)
    match = NAME.fullmatch(text)
    if match is None or ".." in text:
        raise InputError(f"{text!r} is no name on the hub; write hf:OWNER/NAME or hf:OWNER/NAME/FILE.")
    repository, file = match[1], match[2]
    try:
        from huggingface_hub import snapshot_download
    # The package is optional, since most users have their model files on disk.
    except ImportError as error:
        raise InputError(
            f"{text} needs the package huggingface-hub (pip install huggingface-hub). Or download the model's files "
            "and give their folder."
        ) from error
    try:
        # One file is asked for in the same way as all: without a network this gives up within seconds, while a
        # download of one file is tried for half a minute.
        wanted = [file] if file else [CONFIG_NAME, *(f"*{suffix}" for suffix in WEIGHT_SUFFIXES)]
        folder = Path(snapshot_download(repository, allow_patterns=wanted))
    # The hub's client raises errors of its own, of its HTTP library and of the system, which differ by version. All
    # of them mean that the files could not be had.
    except Exception as error:
        reason = type(error).__name__
        raise InputError(
            f"{text} cannot be fetched from the Hugging Face hub ({reason}). Without a network, download the model's "
            "files elsewhere and give their folder."
        ) from error
    return folder / file if file else folder


def checkpoint_file(name: str | Path) -> Path:
    """The checkpoint to load: a path as it is; a name on the hub is fetched and imported once, into the user's cache.

    Raises:
        InputError: as fetch and import_released.
    """
    text = _hub_name(name)
    if text is None:
        return Path(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alit"
    path = cache / (re.sub(r"[^\w.-]+", "--", text.removeprefix(PREFIX)) + ".safetensors")
    if not path.is_file():
        imported = import_released(fetch(text))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, imported.model, imported.record)
    return path


def _hub_name(name: str | Path) -> str | None:
    """The name on the hub, with one slash where a Path made one of two; None for anything else."""
    text = str(name)
    return text if text.startswith(PREFIX) else None
