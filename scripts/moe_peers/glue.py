"""What lies between two grouped products, fused in Triton: one pass over memory each."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_COLUMNS = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _silu_and_mul_kernel(
    x: tl.tensor, out: tl.tensor, width: tl.tensor, block: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < width
    gate = tl.load(x + row * 2 * width + column, mask=inside).to(tl.float32)
    up = tl.load(x + (row * 2 + 1) * width + column, mask=inside).to(tl.float32)
    value = gate / (1 + tl.exp(-gate)) * up
    tl.store(out + row * width + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _combine_kernel(
    x: tl.tensor,
    inverse: tl.tensor,
    weights: tl.tensor,
    out: tl.tensor,
    width: tl.tensor,
    slots: tl.constexpr,
    block: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < width
    total = tl.zeros((block,), dtype=tl.float32)
    for slot in tl.static_range(slots):
        row = tl.load(inverse + token * slots + slot).to(tl.int64)
        weight = tl.load(weights + token * slots + slot)
        total += weight * tl.load(x + row * width + column, mask=inside).to(tl.float32)
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=inside)


def silu_and_mul(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """silu(gate) * up of x [R, 2I], gate columns first -> [R, I]."""
    rows, width = x.shape[0], x.shape[1] // 2
    result = x.new_empty(rows, width) if out is None else out
    kernel: Any = _silu_and_mul_kernel
    kernel[(rows, triton.cdiv(width, _COLUMNS))](x, result, width, block=_COLUMNS)
    return result


def combine(x: torch.Tensor, inverse: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum over j of weights[t, j] * x[inverse[t, j]]: [T * k, H] -> [T, H], summed in fp32."""
    tokens, slots = inverse.shape
    width = x.shape[1]
    out = x.new_empty(tokens, width)
    kernel: Any = _combine_kernel
    grid = (tokens, triton.cdiv(width, _COLUMNS))
    kernel[grid](x, inverse, weights, out, width, slots=slots, block=_COLUMNS)
    return out
