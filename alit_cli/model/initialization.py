"""The weights that a fresh distillation network starts from, so that the rollout learns within minutes.

Two ideas. Every latent token begins at a place on the image's grid, so that its first job is clear. And attention
begins by averaging over tokens that are alike (Trockman & Kolter, "Mimetic Initialization of Self-Attention Layers",
ICML 2023). An untrained model is then a crude thumbnail, which training refines. The authors' code starts from plain
random weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from alit_cli.config import ModelConfig
from alit_cli.model.layers import Block, Transformer

if TYPE_CHECKING:  # the network initializes itself, so at run time it imports this module
    from alit_cli.model.rollout import DistillationDecoder, DistillationEncoder

SHARPNESS = 1.5
"""Scale of queries and keys: how much more attention near places get than far ones."""

ENCODER_ATTENTION, ENCODER_MLP = 0.05, 0.0
"""Strength of both branches of the encoder's layers. The encoder is applied to its own output up to eight times, so
what a layer adds must stay small against what it passes on: at full strength the image fades in a few iterations."""

DECODER_ATTENTION, DECODER_MLP = 0.5, 1.0
"""Strength of both branches of the decoder's layers. It runs once, and starts as an average of nearby latents."""

TOKEN_SCALE = 0.1
"""Learned tokens start small beside their positions: the place alone tells tokens apart and decides what attends to
what."""

HEAD_SCALE = 0.1
"""The decoder's last layer starts small, so that the first predictions are near its bias and the first loss is finite
and smooth."""

RMS_OF_WAVES = 0.5**0.5
"""Root mean square of a sine; positions are divided by it, to have the scale of every other token."""

PLASTIC_NUMBER = 1.32471795724474602596
"""The real root of x³ = x + 1, on which the R2 sequence of evenly spread points rests."""


@torch.no_grad()
def initialize(encoder: DistillationEncoder, decoder: DistillationDecoder, config: ModelConfig) -> None:
    """Fill every weight of both transformers, in place, from torch's generator."""
    std = config.width**-0.5  # image tokens have unit length, so everything they meet starts with it
    strengths = ((encoder, ENCODER_ATTENTION, ENCODER_MLP), (decoder, DECODER_ATTENTION, DECODER_MLP))
    for module, attention, mlp in strengths:
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=std)
        start_near_identity(module.blocks, attention, mlp)
        grid = sincos(*grid_places(config.grid_side), config.width, config.grid_side)
        module.positions[1:] = std / RMS_OF_WAVES * grid  # row 0 is the class token's, which has no place
    # A latent has few numbers (token_dim) of order 1, so a fan-in scale would drown the positions.
    nn.init.trunc_normal_(decoder.from_latent.weight, std=std)
    # The latents of each iteration fill the gaps between those of the iterations before it.
    places = spread_places(config.budgets[-1], config.grid_side)
    waves = std / RMS_OF_WAVES * sincos(*places, config.width, config.grid_side)
    decoder.latent_positions.copy_(waves)
    encoder.iteration_embedding.copy_(rearrange(waves, "(t m) w -> t m w", t=config.iterations))
    for parameter in (encoder.latent_tokens, encoder.latent_positions, decoder.mask_token, decoder.class_token):
        parameter.mul_(TOKEN_SCALE)
    head = decoder.head[-1]
    assert isinstance(head, nn.Linear)
    head.weight.mul_(HEAD_SCALE)


@torch.no_grad()
def start_near_identity(transformer: Transformer, attention: float, mlp: float) -> None:
    """Start every layer with keys equal to queries, values undone by the output, and an MLP that adds little.

    With Q ≈ K and V·O ≈ attention·I, attention begins by averaging over similar tokens, which halves the steps to a
    useful rollout.

    Args:
        transformer: changed in place; its weights are random already.
        attention: how much of the average each layer adds.
        mlp: factor of the last weights of each MLP.
    """
    for block in transformer:
        assert isinstance(block, Block)
        # The three chunks are views, so that what follows changes the weight itself.
        q, k, v = block.attention.qkv.weight.chunk(3)
        q.mul_(SHARPNESS)
        k.copy_(q)
        nn.init.orthogonal_(v)
        block.attention.out.weight.copy_(attention * v.T)
        narrow = block.mlp[-1]
        assert isinstance(narrow, nn.Linear)
        narrow.weight.mul_(mlp)


def sincos(rows: Tensor, columns: Tensor, width: int, side: int) -> Tensor:
    """Sine–cosine embedding of places on a grid, s × width, root mean square √½.

    Frequencies fall from one radian per token to a quarter turn over the grid. The usual 10000-fold range is made for
    long texts: on a small grid most of its waves stand still, all places look alike, and attention learns slowly.

    Args:
        rows: s numbers, in grid tokens.
        columns: s numbers, in grid tokens.
        width: numbers per place; a remainder modulo 4 is filled with zeros.
        side: grid tokens along one side.
    """
    quarter = width // 4  # a sine and a cosine for each of two axes
    # The device is named, because `with torch.device("meta")` does not reach linspace once transformers has loaded a
    # network: it replaces the function for a moment, and torch remembers the replacement.
    frequency = (math.pi / (2 * side)) ** torch.linspace(0, 1, quarter, device=rows.device)
    angles = [axis.float().reshape(-1, 1) * frequency for axis in (rows, columns)]
    waves = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return F.pad(waves, (0, width - 4 * quarter))


def grid_places(side: int) -> tuple[Tensor, Tensor]:
    """Row and column of every grid token, row-major."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return rows.flatten(), columns.flatten()


def spread_places(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of `count` points such that every prefix covers the grid evenly (the R2 sequence)."""
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    rows, columns = ((0.5 + steps / PLASTIC_NUMBER**power) % 1 for power in (1, 2))
    return rows * side - 0.5, columns * side - 0.5  # the middle of the first grid token is at 0, not at ½
