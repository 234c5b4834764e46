"""Contact sheets of attention: an image's tokens as heat over the picture, one row per iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, zoom

from alit_cli.analysis.attention.binding import Keep, Segments, overlaps, regions
from alit_cli.analysis.attention.sparsity import correlations, top_share
from alit_cli.analysis.figures.style import GREY, INK
from alit_cli.data.files import open_output
from alit_cli.data.marks import figure_metadata
from alit_cli.data.pictures.fitting import Pixels
from alit_cli.data.tables.token_maps import Maps, TokenMaps
from alit_cli.errors import InputError

Canvas = NDArray[np.float32]

# Inferno grows evenly lighter, also for people who do not see all colours.
HEAT = matplotlib.colormaps["inferno"]
TILE, GAP, BREAK = 128, 5, 26  # canvas pixels: a picture, between pictures, between blocks
CYAN, WHITE = (0.2, 1.0, 1.0), (1.0, 1.0, 1.0)  # outlines of segments and of tokens' regions
LEFT = 92  # for what is written
HEADINGS = 42  # over the rows
FOLLOWED, MARKED = 4, 4  # tokens in a row
FIRST_ACROSS = 8  # tokens in a row of the first iteration's
ALIKE = 0.6  # maps that correlate more show the same thing twice


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet: canvas pixels of its top left corner, and what is written on it."""

    x: int
    y: int
    picture: Canvas
    text: str = ""


@dataclass(frozen=True)
class Mark:
    """A token worth showing at an iteration: its number, what is written on it; a segment and the token's region."""

    token: int
    text: str
    segment: NDArray[np.bool_] | None = None
    region: NDArray[np.bool_] | None = None


def followed(maps: TokenMaps, chosen: Sequence[int] | None = None) -> list[int]:
    """The tokens that are shown at every iteration: those chosen, at most four.

    None are chosen: the narrowest of those that are there at the first iteration. Raises InputError for a token that
    is not there yet.
    """
    there = len(maps.maps[0])
    if chosen is None:
        return narrowest(maps.maps[-1][:there], FOLLOWED)
    if len(chosen) > FOLLOWED or not all(0 <= token < there for token in chosen):
        raise InputError(
            f"A sheet follows at most {FOLLOWED} tokens that are there from its first iteration on: choose from "
            f"0 … {there - 1}."
        )
    return list(chosen)


def narrow_marks(maps: TokenMaps, chosen: Sequence[int] | None = None) -> list[list[Mark]]:
    """At each iteration, the narrowest of the tokens that are not followed."""
    same = followed(maps, chosen)
    return [[Mark(j, f"{j}") for j in narrowest(values, MARKED, without=same)] for values in maps.maps]


def segment_marks(maps: TokenMaps, wanted: Segments, keep: Keep) -> list[list[Mark]]:
    """At each iteration, the best token of each of the largest segments, with its overlap at its best share."""
    # A stable sort gives equal segments the same order on every machine.
    largest = np.argsort(-wanted.masks.sum(axis=1), kind="stable")[:MARKED]
    side = len(maps.pixels)
    rows = []
    for values in maps.maps:
        kept = regions(values, side, keep)
        shares = np.stack([overlaps(region, wanted) for region in kept])  # shares k s
        marks = []
        for index in largest:
            share, j = np.unravel_index(shares[:, :, index].argmax(), shares.shape[:2])
            segment, region = (flat.reshape(side, side) for flat in (wanted.masks[index], kept[share][j]))
            marks.append(Mark(int(j), f"{j}: {shares[share, j, index]:.2f}", segment, region))
        rows.append(marks)
    return rows


def draw_sheet(
    maps: TokenMaps,
    marks: Sequence[Sequence[Mark]],
    heading: tuple[str, str],
    source: str,
    path: Path,
    chosen: Sequence[int] | None = None,
) -> None:
    """The picture; then per iteration its reconstruction, the followed tokens and the marked ones.

    Args:
        maps: of one image.
        marks: for each iteration, at most four; `heading` says what they are, and what is written on them.
        source: under the title: which model and layer it is.
        path: its suffix is the format. Raises what `open_output` raises.
        chosen: the tokens that are followed; None for the narrowest.
    """
    # The same call as for the marks, so both agree on which tokens are followed.
    same = followed(maps, chosen)
    shown = [[*map(_plain, same), *row] for row in marks]
    heat = [densities(values[[m.token for m in row]]) for values, row in zip(maps.maps, shown, strict=True)]
    # One scale for all pictures of a sheet, so that their colours can be compared.
    top = _top_of_scale(heat)
    columns = [_column(0), *(_column(1 + index, 1 + index // FOLLOWED) for index in range(FOLLOWED + MARKED))]
    tiles = [Tile(LEFT, _row(0), tile_of(maps.pixels))]
    for index, (pictures, row) in enumerate(zip(heat, shown, strict=True)):
        y = _row(index + 1) + HEADINGS
        if maps.decoded:
            tiles.append(Tile(columns[0], y, tile_of(maps.decoded[index])))
        # A small image may have fewer segments than there are columns; the rest of its row stays white.
        for column, density, mark in zip(columns[1:], pictures, row, strict=False):
            tiles.append(Tile(column, y, overlay(maps.pixels, density, top, mark.segment, mark.region), mark.text))
    with matplotlib.rc_context({"font.size": 9, "text.color": INK}):
        figure, axes = _page(columns[-1] + TILE + GAP, _row(len(shown) + 1) + HEADINGS, tiles)
        _write_headings(axes, columns, same, heading, bool(maps.decoded))
        for index, (iteration, tokens) in enumerate(zip(maps.iterations, maps.tokens, strict=True), 1):
            _write(axes, GAP, _row(index) + HEADINGS + 60, f"{tokens} tokens", weight="bold")
            _write(axes, GAP, _row(index) + HEADINGS + 78, f"iteration {iteration}", color=GREY)
        _write(axes, columns[1], 24, maps.image, size=13, weight="bold")
        _write(axes, columns[1], 46, source, color=GREY)
        _scale(figure, axes, columns[1], 82, top)
        _save(figure, path)


def _plain(token: int) -> Mark:
    return Mark(token, "")


def _write_headings(
    axes: Axes, columns: Sequence[int], same: Sequence[int], heading: tuple[str, str], decoded: bool
) -> None:
    """What stands over the columns of a sheet."""
    line = _row(1) + HEADINGS - 8
    if decoded:
        _write(axes, columns[0], line, "decoded")
    # `columns` goes on to the marked tokens, which have no fixed name over them.
    for column, token in zip(columns[1:], same, strict=False):
        _write(axes, column, line, f"token {token}")
    _write(axes, columns[1], line - 22, "the same tokens at every iteration", weight="bold")
    _write(axes, columns[1 + FOLLOWED], line - 22, heading[0], weight="bold")
    _write(axes, columns[1 + FOLLOWED], line, heading[1], color=GREY)


def draw_overview(images: Sequence[TokenMaps], source: str, path: Path) -> None:
    """One row per image: the picture and its eight narrowest tokens at the last iteration. Raises as `open_output`."""
    chosen = [(maps, narrowest(maps.maps[-1], 8)) for maps in images]
    top = _top_of_scale([densities(maps.maps[-1][tokens]) for maps, tokens in chosen])
    # The overview has nothing written at its left, so all columns move by the room that sheets leave there.
    left, tiles = GAP - LEFT, []
    for index, (maps, tokens) in enumerate(chosen):
        y = _row(index) + HEADINGS
        tiles.append(Tile(_column(0) + left, y, tile_of(maps.pixels), _short(maps.image)))
        for place, token in enumerate(tokens, 1):
            heat = overlay(maps.pixels, densities(maps.maps[-1][[token]])[0], top)
            tiles.append(Tile(_column(place, 1) + left, y, heat, f"{token}"))
    with matplotlib.rc_context({"font.size": 9, "text.color": INK}):
        bottom = _row(len(chosen)) + HEADINGS
        figure, axes = _page(_column(8, 1) + left + TILE + GAP, bottom + 46, tiles)
        what = f"the narrowest maps of each image at {images[0].tokens[-1]} tokens; on the pictures: which token"
        _write(axes, GAP, 19, "Attention to single tokens", size=13, weight="bold")
        _write(axes, GAP, 37, f"{what} · {source}", color=GREY)
        _scale(figure, axes, GAP, bottom + 16, top)
        _save(figure, path)


def draw_first_tokens(maps: TokenMaps, source: str, path: Path) -> None:
    """All tokens of the first iteration, after it and after the last one side by side, as in the paper's Figure 12.

    The picture stands above; every token keeps its place in both blocks, so that one sees which maps grow narrow.
    Raises what `open_output` raises.
    """
    count = len(maps.maps[0])
    across = min(count, FIRST_ACROSS)
    ends = (0, len(maps.maps) - 1)
    heat = [densities(maps.maps[end][:count]) for end in ends]
    top = _top_of_scale(heat)
    block = across * (TILE + GAP)
    tiles = [Tile(GAP, _row(0), tile_of(maps.pixels))]
    for number, pictures in enumerate(heat):
        left = GAP + number * (block + BREAK)
        for token, density in enumerate(pictures):
            x, y = left + (token % across) * (TILE + GAP), _row(1 + token // across) + HEADINGS
            tiles.append(Tile(x, y, overlay(maps.pixels, density, top), f"{token}"))
    rows = 1 + -(-count // across)
    with matplotlib.rc_context({"font.size": 9, "text.color": INK}):
        figure, axes = _page(2 * block + BREAK + GAP, _row(rows) + HEADINGS, tiles)
        beside = 2 * GAP + TILE + 12
        _write(axes, beside, 24, f"The first {count} tokens of {maps.image}", size=13, weight="bold")
        _write(axes, beside, 46, source, color=GREY)
        _scale(figure, axes, beside, 82, top)
        for number, end in enumerate(ends):
            text = f"after iteration {maps.iterations[end]} ({maps.tokens[end]} tokens)"
            _write(axes, GAP + number * (block + BREAK), _row(1) + HEADINGS - 10, text, weight="bold")
        _save(figure, path)


def narrowest(maps: Maps, count: int, without: Sequence[int] = ()) -> list[int]:
    """Which tokens' maps (k g g) are the narrowest and differ from each other, narrowest first.

    Tokens that hardly anything attends to (a quarter of the mean or less) come last, as do maps like one that is
    already there.
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    mass = flat.sum(axis=1)
    # A share of mass is at most 1, so this 1 puts every token that is attended to before all of the others.
    narrow = np.where(mass > mass.mean() / 4, 1, 0) + top_share(flat / mass[:, None])
    order = [int(token) for token in np.argsort(-narrow, kind="stable") if token not in without]
    # A constant map correlates with nothing (NaN), so it is like no other map.
    alike = np.nan_to_num(correlations(flat, flat))
    chosen: list[int] = []
    spare: list[int] = []
    for token in order:
        other = all(alike[token, seen] < ALIKE for seen in [*chosen, *without])
        (chosen if other else spare).append(token)
    # Where too few maps differ, similar ones fill the row, because a gap would look like an error.
    return [*chosen, *spare][:count]


def densities(maps: Maps) -> Canvas:
    """k g g → the attention at each position as a multiple of what an even map of the same mass has."""
    relative: Canvas = maps / maps.mean(axis=(1, 2), keepdims=True)
    return relative


def overlay(
    pixels: Pixels,
    density: Canvas,
    top: float,
    segment: NDArray[np.bool_] | None = None,
    region: NDArray[np.bool_] | None = None,
) -> Canvas:
    """Heat over a greyed picture, TILE TILE 3 in 0–1: nothing where there is no attention, full from `top` on.

    Outlines of a segment and of a token's region (S S each) are drawn in cyan and white, which the heat does not have.
    """
    # Cubic splines overshoot below 0, which the clipping takes away.
    heat = np.clip(zoom(density, TILE / len(density), order=3, mode="nearest", grid_mode=True) / top, 0, 1)
    # These are the weights of brightness of ITU-R BT.601: what the eye sees of red, green and blue.
    grey = tile_of(pixels) @ np.array([0.299, 0.587, 0.114], np.float32)
    # The power makes weak attention visible, and 0.85 leaves a little of the picture under the strongest.
    strength = (0.85 * heat**0.7)[..., None]
    # The lowest colours of the map are nearly black and would look like dark parts of the picture.
    colour = HEAT(0.15 + 0.85 * heat)[..., :3]
    blended: Canvas = ((1 - strength) * 0.8 * grey[..., None] + strength * colour).astype(np.float32)
    # The segment is drawn last, so its outline stays whole where both meet.
    for mask, colour in ((region, WHITE), (segment, CYAN)):
        if mask is not None:
            large = zoom(mask.astype(np.float32), TILE / len(mask), order=1, mode="nearest", grid_mode=True) > 0.5
            blended[large & ~binary_erosion(large)] = colour
    return blended


def tile_of(pixels: Pixels) -> Canvas:
    """A fitted picture (S S 3 uint8) as TILE TILE 3 in 0–1."""
    factor = TILE / len(pixels)
    return np.clip(zoom(pixels / np.float32(255), (factor, factor, 1), order=1, mode="nearest", grid_mode=True), 0, 1)


def _top_of_scale(shown: Sequence[Canvas]) -> float:
    """Where the colours of a sheet end: nearly the strongest that it shows."""
    # A few extreme positions would make all the rest dark, so half a per cent of them may be cut.
    return float(np.quantile(np.concatenate([values.reshape(-1) for values in shown]), 0.995))


def _column(index: int, breaks: int = 0) -> int:
    # A break between two blocks takes the place of the gap that stands there anyway.
    return LEFT + index * (TILE + GAP) + breaks * (BREAK - GAP)


def _short(name: str) -> str:
    """The end of an image's name, as much as a picture is wide."""
    return name if len(name) <= 20 else f"…{name[-19:]}"


def _row(index: int) -> int:
    return GAP + index * (TILE + GAP)


def _page(width: int, height: int, tiles: Sequence[Tile]) -> tuple[Figure, Axes]:
    """A white page of so many canvas pixels with the tiles on it."""
    canvas = np.ones((height, width, 3), np.float32)
    for tile in tiles:
        canvas[tile.y : tile.y + TILE, tile.x : tile.x + TILE] = tile.picture
    # With 100 dots per inch one pixel of the canvas is one pixel of the file.
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    # The extent makes data coordinates equal to canvas pixels, so texts can be placed by them.
    axes.imshow(canvas, interpolation="antialiased", extent=(0, width, height, 0))
    axes.set_axis_off()
    box: dict[str, Any] = {"facecolor": "black", "alpha": 0.55, "pad": 1.5, "linewidth": 0}
    for tile in tiles:
        if tile.text:
            axes.text(tile.x + 5, tile.y + 6, tile.text, color="white", size=8, va="top", bbox=box)
    return figure, axes


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, va="baseline", **style)


def _scale(figure: Figure, axes: Axes, x: int, y: int, top: float) -> None:
    """The colour bar, at a place of the canvas."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    bar = figure.add_axes((x / width, 1 - (y + 10) / height, 2 * TILE / width, 10 / height))
    # The bar begins where the overlay's colours begin.
    colours = matplotlib.colors.ListedColormap(HEAT(np.linspace(0.15, 1, 256)))
    figure.colorbar(ScalarMappable(Normalize(0, top), colours), cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=8, colors=GREY, length=2)
    bar.set_title("attention to the token; 1: as if spread evenly", size=8, color=GREY, loc="left", pad=3)


def _save(figure: Figure, path: Path) -> None:
    with open_output(path, "figure") as file:
        figure.savefig(file, format=path.suffix[1:], metadata=figure_metadata(path.suffix[1:]))
