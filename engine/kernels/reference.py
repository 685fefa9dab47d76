"""Reference: the grouped GEMM in plain torch, on a CPU the answer, on a GPU the oracle."""

from __future__ import annotations

from itertools import pairwise

import torch

from search_spaces.problem import GATED
from templates.glu import glu


def grouped_gemm_reference(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    out: torch.Tensor | None = None,
    *,
    rows: torch.Tensor | None = None,
    epilogue: str = "plain",
) -> torch.Tensor:
    """c[offsets[e]:offsets[e + 1]] = a[same rows] x b[e]^T, accumulated in fp32, rounded to fp16.

    a [rows, K] and b [E, N, K] fp16, offsets [E + 1] int32, ascending; returns c [rows, N] fp16.
    With ``rows`` int32 [rows], a is [tokens, K] and row r of c reads row rows[r] of it. With a
    gated ``epilogue`` c is act(gate) x up, [rows, N / 2], of interleaved columns; what exceeds
    65504 becomes 65504. Rows outside ``offsets`` stay as they are in ``out``, and are zero
    without one. Reads the offsets on the host, and holds one expert's weights in fp32 at a time.
    """
    gated = epilogue in GATED
    shape = (a if rows is None else rows).shape[0], b.shape[1] // (2 if gated else 1)
    c = a.new_zeros(shape) if out is None else out
    bounds = offsets.tolist()
    for weights, (begin, end) in zip(b, pairwise(bounds), strict=True):
        if begin < end:
            chosen = a[begin:end] if rows is None else a[rows[begin:end]]
            sums = chosen.float() @ weights.float().T
            c[begin:end] = glu(sums, epilogue) if gated else sums
    return c
