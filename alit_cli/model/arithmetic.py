"""How much arithmetic some work takes, whichever kernels do it: multiplications and additions of all products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flop(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in `work`, which is run once."""
    with FlopCounterMode(display=False, custom_mapping=_uncounted()) as counter:
        work()
    flop: int = counter.get_total_flops()
    return flop


def _uncounted() -> dict[Any, Any]:
    """Operations of a CPU that torch's counter does not know: fused attention, and the product of layers.Linear."""
    aten = torch.ops.aten
    found = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        found[torch.ops.mkldnn._linear_pointwise] = _linear_flop
    return found


def _linear_flop(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """Of a layer, from the shapes of its input … d and its weight d' d."""
    return 2 * math.prod(x) * weight[0]


def _attention_flop(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object) -> int:
    """Of two products, from the shapes of queries b a s c, keys and values."""
    return 2 * math.prod(q[:3]) * k[2] * (q[3] + v[3])


def _attention_backward_flop(
    _gradient: Sequence[int], q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object
) -> int:
    """Of five products: the scores are computed again, and both products of the forward pass have two gradients."""
    return 2 * math.prod(q[:3]) * k[2] * (3 * q[3] + 2 * v[3])
