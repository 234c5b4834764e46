"""Whether a depth estimator still sees the same space: its depth of a reconstruction against a reference.

Such networks give inverse depth up to an unknown scale and shift. Against the network's own view of the original, both
are of that kind: the reconstruction's is scaled and shifted onto the original's by least squares, and compared as it
is. `depth_raw` is the mean absolute difference of the two as the network gives them, without any fit: that is the scale
of the paper. Against maps of true depth, it is scaled and shifted onto the inverse of the map, turned into depth (at
most the map's largest), and the depths are compared. Networks of metric depth are scaled and shifted onto the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alit_cli.data.annotations.depth_maps import find_depth_maps, read_map
from alit_cli.data.tables.score_table import MAP_ERROR, Kind, Measure
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request, Task, Values, digest_of
from alit_cli.tasks.network import Network, load_network

FLOOR = 0.01
"""Share of the reference's median: smaller depths count as this much, so that no error is divided by nothing."""
DELTA = 1.25
"""The ratio of the usual δ1: depths within it count as right."""
METRIC = ("zoedepth", "glpn")
"""Families of transformers whose output is depth; Depth Anything says of each model which it is."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What depths are compared with, b h w.

    `values` is the reference, NaN where it is not known; `inverse` says that it is a true depth, onto whose inverse a
    prediction is fitted.
    """

    values: Tensor
    inverse: bool


class Depth(Task[Reference]):
    """Mean |a − b| / max(b, 1 % of the median of b) over the known pixels, and the share of pixels within 1.25 of b."""

    def __init__(self, network: Network, maps: Sequence[Path | None] | None, unit: str, request: Request) -> None:
        self.network, self.maps, self.unit = network, maps, unit
        self.info: TableInfo = request.info
        # Relative networks predict inverse depth, and a disparity map is inverse depth already: neither side is
        # inverted.
        self.inverse = not _is_metric(network) and unit != "disparity"
        self.threads = request.threads
        given = maps is not None
        fitted = (Measure("depth_error", original=given), Measure("depth_delta1", original=given))
        # True depth has another unit than the network's output, so that a difference without a fit means nothing.
        self.measures = fitted if given else (*fitted, Measure("depth_raw"))
        self.options = {"network": network.digest, "reference": "maps" if given else "predicted"}
        if given:
            self.extras: Mapping[str, Kind] = {MAP_ERROR: "string"}
            # The column is named, so that a run that an earlier version began without it is not resumed.
            digest = digest_of(list(map(str, maps or ())))
            self.options |= {"unit": unit, "maps_digest": digest, "columns": MAP_ERROR}

    def look(self, batch: Batch) -> tuple[Reference, Values]:
        """The maps, and the errors of the originals against them; or the depths of the originals."""
        depths = self._depths(batch.images)
        if self.maps is None:
            return Reference(depths, inverse=False), {}
        paths = [self.maps[row] for row in batch.rows]
        maps, errors = zip(*self.threads.map(self._map, paths), strict=True)
        reference = Reference(torch.from_numpy(np.stack(maps)).to(depths), self.inverse)
        originals = {f"{name}_original": value for name, value in compare(depths, reference).items()}
        return reference, {**originals, MAP_ERROR: errors}

    def score(self, seen: Reference, pictures: Tensor, budget: int) -> Values:
        """Relative error and δ1; against the network's own view also the raw error."""
        depths = self._depths(pictures)
        values = compare(depths, seen)
        if self.maps is None:
            values["depth_raw"] = (depths - seen.values).abs().mean(dim=(1, 2)).tolist()
        return values

    @torch.no_grad()
    def _depths(self, images: Tensor) -> Tensor:
        """b 3 h w → b h w float64, what the network predicts at every pixel."""
        depth: Tensor = self.network.model(pixel_values=self.network.pixels(images)).predicted_depth
        # The prediction has the size of the network's input; maps and originals have that of the batch.
        depth = F.interpolate(depth[:, None].float(), images.shape[-2:], mode="bilinear", align_corners=False)
        # Least squares need float64, which some devices (mps) do not have; the work is small enough for the CPU.
        return depth[:, 0].to("cpu", torch.float64)

    def _map(self, path: Path | None) -> tuple[NDArray[np.float32], str | None]:
        """A fitted map, unknown everywhere where it is not there or cannot be read; and why it cannot."""
        side, error = self.info.image_size, None
        if path is not None:
            # One damaged map must not end the scoring of a whole table: its image has no numbers.
            try:
                return read_map(path, side, self.info.fit), None
            except InputError as problem:
                error = str(problem)
        return np.full((side, side), np.nan, np.float32), error


def build(request: Request) -> Depth:
    """The task, against maps where a folder of them is given."""
    network = load_network(request, "AutoModelForDepthEstimation")
    if request.depth_maps is None:
        return Depth(network, None, "", request)
    if request.info.fit == "centre":
        # A map of another resolution than its image could not be cut at the same place.
        raise InputError("Depth maps cannot be used with a table of --fit centre; make the table with --fit crop.")
    if request.depth_unit == "disparity" and _is_metric(network):
        raise InputError(
            f"'{request.model}' gives depth, which cannot be fitted to maps of disparity: give maps of depth."
        )
    return Depth(network, find_depth_maps(request.depth_maps, request.images), request.depth_unit or "mm", request)


def compare(prediction: Tensor, reference: Reference) -> dict[str, list[float]]:
    """Depth error and δ1 of each image, NaN where fewer than two pixels of the reference are known.

    Args:
        prediction: b h w, right up to a scale and a shift per image.
        reference: of the same shape.
    """
    known = torch.isfinite(reference.values)
    # Unknown pixels get 1, so that 1 / target is finite everywhere; every mean below leaves them out.
    target = torch.where(known, reference.values, 1.0).double()
    if reference.inverse:
        # A fitted inverse depth may be near 0 or negative, a depth without bound. The map's largest depth is the limit.
        least = torch.where(known, 1 / target, torch.inf).amin(dim=(1, 2), keepdim=True)
        ours = 1 / torch.maximum(align(prediction, 1 / target, known), least)
    else:
        ours = align(prediction, target, known)
    # A few pixels with almost no depth would otherwise decide the mean of the relative errors.
    median = torch.where(known, target, torch.nan).flatten(1).nanmedian(dim=1).values[:, None, None]
    floor = FLOOR * median.abs().clamp(min=torch.finfo(torch.float64).tiny)
    error = (ours - target).abs() / torch.maximum(target, floor)
    # Both sides of a ratio must be positive, and a fitted depth need not be.
    a, b = torch.maximum(ours, floor), torch.maximum(target, floor)
    near = (torch.maximum(a / b, b / a) < DELTA).double()
    # Two unknowns, the scale and the shift, cannot be fitted to fewer than two pixels.
    enough = known.sum(dim=(1, 2)) >= 2
    means = {"depth_error": _mean(error, known), "depth_delta1": _mean(near, known)}
    return {name: torch.where(enough, value, torch.nan).tolist() for name, value in means.items()}


def align(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """s · prediction + t with the s and t of each image that come nearest to the target, by least squares; b h w.

    A prediction without any contrast becomes the target's mean.
    """
    x, y = prediction.double(), target.double()
    mean_x, mean_y = (_mean(values, known)[:, None, None] for values in (x, y))
    spread = _mean((x - mean_x).square(), known)
    shared = _mean((x - mean_x) * (y - mean_y), known)
    # torch.where computes both of its branches, so the divisor is kept above 0 even where its result is not used.
    scale = torch.where(spread > 0, shared / spread.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return scale[:, None, None] * (x - mean_x) + mean_y


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """b h w → b, over the known pixels."""
    return torch.where(known, values, 0.0).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)


def _is_metric(network: Network) -> bool:
    """Whether the network gives depth, not its inverse."""
    config = network.model.config
    return config.model_type in METRIC or getattr(config, "depth_estimation_type", "relative") == "metric"
