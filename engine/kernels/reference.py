"""Reference: the grouped GEMM in plain torch, on a CPU the answer, on a GPU the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch

from search_spaces.problem import GATED
from templates.glu import LARGEST_F16, glu


def grouped_gemm_reference(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    out: torch.Tensor | None = None,
    *,
    rows: torch.Tensor | None = None,
    epilogue: str = "plain",
    slots: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """c[offsets[e]:offsets[e + 1]] = a[same rows] x b[e]^T, accumulated in fp32, rounded to fp16.

    a [rows, K] and b [E, N, K] fp16, offsets [E + 1] int32, ascending; returns c [rows, N] fp16.
    With ``rows`` int32 [rows], a is [tokens, K] and row r of c reads row rows[r] of it. With a
    gated ``epilogue`` c is act(gate) x up, [rows, N / 2], of interleaved columns; what exceeds
    65504 becomes 65504. Rows outside ``offsets`` stay as they are in ``out``, and are zero
    without one.

    With ``slots`` int32 [rows] and ``weights`` fp32 [tokens, top_k] c is [tokens, N]: each row
    times the weight of its slot, token x top_k + j, rounded to fp16, then summed in fp32 with
    j = 0 first; what exceeds 65504 on the way becomes 65504. Every slot has a row then.

    Reads the offsets on the host, and holds one expert's weights in fp32 at a time.
    """
    gated = epilogue in GATED
    products = _products(a, b, offsets, rows)
    if slots is not None and weights is not None:
        return _combined(products, a.new_empty(a.shape[0], b.shape[1]), slots, weights, out)
    shape = (a if rows is None else rows).shape[0], b.shape[1] // (2 if gated else 1)
    c = a.new_zeros(shape) if out is None else out
    for part, sums in products:
        c[part] = glu(sums, epilogue) if gated else sums
    return c


def _products(
    a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, rows: torch.Tensor | None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The rows of each expert that has some, and their sums in fp32, [rows, N]."""
    for expert, (begin, end) in zip(b, pairwise(offsets.tolist()), strict=True):
        if begin < end:
            part = slice(begin, end)
            chosen = a[part] if rows is None else a[rows[part]]
            yield part, chosen.float() @ expert.float().T


def _combined(
    products: Iterable[tuple[slice, torch.Tensor]],
    parts: torch.Tensor,
    slots: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """``parts``, fp16 [slots, N], is where weighted rows go before they are summed."""
    for part, sums in products:
        slot = slots[part].long()
        parts[slot] = _saturated(sums * weights.flatten()[slot, None])
    total = torch.zeros(weights.shape[0], parts.shape[1], device=parts.device)
    for part_of_token in parts.view(*weights.shape, parts.shape[1]).unbind(1):
        total += part_of_token
    result = _saturated(total)
    return result if out is None else out.copy_(result)


def _saturated(values: torch.Tensor) -> torch.Tensor:
    return values.clamp(-LARGEST_F16, LARGEST_F16).half()
