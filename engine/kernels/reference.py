"""Reference: the grouped GEMM in plain torch, on a CPU the answer, on a GPU the oracle."""

from __future__ import annotations

from itertools import pairwise

import torch


def grouped_gemm_reference(
    a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    """c[offsets[e]:offsets[e + 1]] = a[same rows] x b[e]^T, accumulated in fp32, rounded to fp16.

    a [rows, K] and b [E, N, K] fp16, offsets [E + 1] int32, ascending; returns c [rows, N] fp16.
    Rows outside ``offsets`` stay as they are in ``out``, and are zero without one. Reads the
    offsets on the host, and holds one expert's weights in fp32 at a time.
    """
    c = a.new_zeros((a.shape[0], b.shape[1])) if out is None else out
    bounds = offsets.tolist()
    for weights, (begin, end) in zip(b, pairwise(bounds), strict=True):
        if begin < end:
            c[begin:end] = a[begin:end].float() @ weights.float().T
    return c
