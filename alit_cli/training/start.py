"""The model that a run starts from: a fresh one, a base tokenizer with fresh transformers, or a model made to fit.

A model that was trained at another size is not lost. Its transformers are the same at every size; only their positions
and latent tokens belong to a grid and to a number of tokens. They can be tiled (every tile of a larger image is a copy
of the smaller model) or resampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from alit_cli.config import BaseKind, ModelConfig, preset
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, read_alit, read_base_weights, read_record
from alit_cli.model.initialization import RMS_OF_WAVES, sincos, spread_places
from alit_cli.model.rollout import Alit

Fitting = Literal["fresh", "base", "same", "tile", "resample"]
FIXED = ("width", "layers", "heads", "codes", "token_dim")
"""Sizes that a trained model keeps: they are the shapes of its weights."""


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        config: of the model to train.
        preset: the preset whose recipe is followed.
        path: the checkpoint to start from, or None.
        fitting: what is taken of it: nothing (fresh), the base tokenizer alone (base), or everything: as it is (same),
            tiled or resampled.
        sentence: the same in one line, for the first lines of a run and its record.
        trained: stages whose work is taken over.
    """

    config: ModelConfig
    preset: str
    path: Path | None = None
    fitting: Fitting = "fresh"
    sentence: str = "from random weights"
    trained: tuple[str, ...] = ()


def choose_start(
    path: Path | None,
    preset_name: str | None,
    sizes: Mapping[str, Any],
    base: BaseKind | None = None,
    continuous: bool = False,
    fit: Literal["tile", "resample"] | None = None,
) -> Start:
    """Decide what to start from; only the checkpoint's metadata is read.

    Args:
        path: a model to start from, or None.
        preset_name: a preset; the default is nano, or that of the model to start from.
        sizes: fields of ModelConfig that the user gives; None leaves the preset's, or that of a whole model.
        base: vqgan or vae.
        continuous: leave the 1D latents unquantized.
        fit: how a model of another size is made to fit; the default is tile where the sizes allow it.

    Raises:
        InputError: a size does not fit, or the model to start from cannot be used at these sizes.
    """
    given = {key: value for key, value in sizes.items() if value is not None}
    record = None if path is None else read_record(path)
    if record is None or record.stages == ("base",):
        name = preset_name or "nano"
        if record is None:
            return Start(dataclasses.replace(preset(name, base, continuous), **given), name)
        wanted = preset(name, None, continuous)
        config = dataclasses.replace(wanted, **{"base": record.base_config, **given})
        return Start(config, name, path, "base", f"from the base tokenizer of {path}", ("base",))
    old = record.alit_config
    name = preset_name or _preset_of(record)
    # The authors' files hold a fully trained model.
    stages = ("base", "distill", "finetune") if "imported" in record.stages else record.stages
    for key in FIXED:
        if key in given and given[key] != getattr(old, key):
            raise InputError(
                f"{path} has {key} {getattr(old, key)}, which cannot become {given[key]}. "
                f"Leave --{key.replace('_', '-')} out, or start from a base tokenizer alone."
            )
    config = dataclasses.replace(old, **given)
    same = ("image_size", "tokens_per_iteration", "iterations")
    if all(getattr(config, key) == getattr(old, key) for key in same):
        return Start(config, name, path, "same", f"from {path}", stages)
    described = f"{old.image_size} px, {old.tokens_per_iteration} tokens per iteration, {old.iterations} iterations"
    change = f"from {path} ({described})"
    tiles = _tiles(old, config)
    if fit == "tile" and tiles is None:
        raise InputError(
            f"{path} cannot be tiled: the image must be a whole number of times as large ({old.image_size} px now), "
            f"the tokens per iteration that number squared times as many ({old.tokens_per_iteration} now), and the "
            "iterations as many. Change the sizes, or give --init-fit resample."
        )
    if tiles is not None and fit != "resample":
        tiled_config = dataclasses.replace(config, tiles=tiles)
        return Start(tiled_config, name, path, "tile", f"{change}, tiled {tiles}×{tiles}", stages)
    if old.tiles > 1:
        raise InputError(f"{path} is made of {old.tiles}×{old.tiles} tiles already, so its sizes cannot be changed.")
    return Start(config, name, path, "resample", f"{change}, its positions resampled", stages)


def load_start(start: Start) -> tuple[Alit, Record]:
    """The model, in torch's current random state where anything is fresh, and the record that it continues."""
    if start.path is None:
        return Alit(start.config), Record(start.config)
    if start.fitting == "base":
        # Only the base is read: the file may be a base tokenizer alone, without anything of ALIT's.
        model = Alit(start.config)
        model.base.load_state_dict(read_base_weights(start.path))
        return model, dataclasses.replace(read_record(start.path), config=start.config)
    old, record = read_alit(start.path)
    record = dataclasses.replace(record, config=start.config)
    if start.fitting == "same":
        # Nothing but the name can differ here.
        old.config = start.config  # a new name at most
        return old, record
    model = Alit(start.config)
    weights = tiled(old, start.config.tiles) if start.fitting == "tile" else resampled(old, start.config)
    # What is in neither, a tiled model's separation of its tiles, stays as a new model has it.
    model.load_state_dict({**model.state_dict(), **old.state_dict(), **weights})
    return model, record


@torch.no_grad()
def tiled(old: Alit, tiles: int) -> dict[str, Tensor]:
    """Positions and latents of a model for an image of tiles × tiles copies; all other weights stay as they are.

    The latents of an iteration lie tile after tile (model/tiles.py). The class token remains one. All tiles begin with
    the same positions: a vector that told them apart would be noise to weights that never saw it.
    """
    config, weights = old.config, old.state_dict()
    m, count = config.tokens_per_iteration, tiles**2
    cell = torch.arange(tiles * config.grid_side) % config.grid_side
    place_of = (config.grid_side * cell[:, None] + cell).flatten()
    changed = {}
    for part in ("encoder", "decoder"):
        positions = weights[f"{part}.positions"]
        changed[f"{part}.positions"] = torch.cat([positions[:1], positions[1:][place_of]])
    for name in ("latent_tokens", "latent_positions"):
        changed[f"encoder.{name}"] = weights[f"encoder.{name}"].repeat(count, 1)
    changed["encoder.iteration_embedding"] = weights["encoder.iteration_embedding"].repeat(1, count, 1)
    latents = weights["decoder.latent_positions"]
    changed["decoder.latent_positions"] = repeat(latents, "(t m) w -> (t q m) w", m=m, q=count)
    return changed


@torch.no_grad()
def resampled(old: Alit, config: ModelConfig) -> dict[str, Tensor]:
    """Positions and latents of a model for another grid and other numbers of tokens and iterations.

    Grid positions are interpolated. A new latent starts as the old one of the same iteration (or the last one) whose
    place on the image was nearest when training began, moved to its own place.
    """
    weights, before = old.state_dict(), old.config
    changed = {}
    for part in ("encoder", "decoder"):
        positions = weights[f"{part}.positions"]
        grid = rearrange(positions[1:], "(y x) w -> 1 w y x", y=before.grid_side)
        grid = F.interpolate(grid, (config.grid_side, config.grid_side), mode="bicubic", align_corners=False)
        changed[f"{part}.positions"] = torch.cat([positions[:1], rearrange(grid, "1 w y x -> (y x) w")])
    nearest, moved = _nearest_latents(before, config)
    of_iteration = nearest[: config.tokens_per_iteration] % before.tokens_per_iteration
    changed["encoder.latent_tokens"] = weights["encoder.latent_tokens"][of_iteration]
    changed["encoder.latent_positions"] = weights["encoder.latent_positions"][of_iteration]
    embeddings = rearrange(weights["encoder.iteration_embedding"], "t m w -> (t m) w")[nearest] + moved
    changed["encoder.iteration_embedding"] = rearrange(embeddings, "(t m) w -> t m w", t=config.iterations)
    changed["decoder.latent_positions"] = weights["decoder.latent_positions"][nearest] + moved
    return changed


def _nearest_latents(before: ModelConfig, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """For each new latent of all iterations: the old one it starts from, and how the waves of their places differ."""
    places = [torch.stack(spread_places(c.budgets[-1], c.grid_side), dim=1) / c.grid_side for c in (before, config)]
    old_iteration = torch.arange(before.budgets[-1]) // before.tokens_per_iteration
    new_iteration = (torch.arange(config.budgets[-1]) // config.tokens_per_iteration).clamp(max=before.iterations - 1)
    distance = torch.cdist(places[1], places[0])
    # A latent stays in its iteration: later ones have learned to refine.
    distance[new_iteration[:, None] != old_iteration] = torch.inf
    # Distances are shares of the image, so two grids can be compared.
    nearest = distance.argmin(dim=1)
    # Both on the new grid, where a token is the unit of length.
    at = [place * config.grid_side for place in (places[0][nearest], places[1])]
    old_waves, new_waves = (sincos(p[:, 0], p[:, 1], config.width, config.grid_side) for p in at)
    return nearest, config.width**-0.5 / RMS_OF_WAVES * (new_waves - old_waves)


def _tiles(old: ModelConfig, config: ModelConfig) -> int | None:
    """How many times as large the image is, where all sizes fit a tiling; else None."""
    # A tile must be exactly what the small model has seen.
    tiles, rest = divmod(config.image_size, old.image_size)
    if old.tiles > 1 or rest or tiles < 2 or config.iterations != old.iterations:
        return None
    return tiles if config.tokens_per_iteration == tiles**2 * old.tokens_per_iteration else None


def _preset_of(record: Record) -> str:
    """The preset that a model was trained by; files of earlier releases have it as their name."""
    presets = [str(entry["preset"]) for entry in record.training if "preset" in entry]
    return presets[-1] if presets else record.config.name
