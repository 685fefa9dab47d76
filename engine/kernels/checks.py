"""Checks: what a grouped GEMM's tensors must be, asked without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from search_spaces.errors import UserError

ALIGNMENT_BYTES = 16  # one 128-bit load


def check_operands(
    a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, device: torch.device
) -> tuple[int, int, int, int]:
    """(rows, E, N, K) of a [rows, K] fp16, b [E, N, K] fp16 and offsets [E + 1] int32.

    Costs about 2 microseconds. Raises UserError for a wrong type, device, number of dimensions,
    layout or alignment, for shapes that do not agree, and where a gradient would be expected.
    """
    check_tensor("a", a, torch.float16, 2, device)
    check_tensor("b", b, torch.float16, 3, device)
    check_tensor("offsets", offsets, torch.int32, 1, device)
    rows, k = a.shape
    experts, n, depth = b.shape
    if depth != k:
        raise UserError(f"a has K={k} columns and b has K={depth}: they must be equal")
    if offsets.shape[0] != experts + 1:
        raise UserError(
            f"offsets has {offsets.shape[0]} elements: b has {experts} experts, so it needs "
            f"{experts + 1}, the row where each expert begins and the end of the last"
        )
    if (a.requires_grad or b.requires_grad) and torch.is_grad_enabled():
        raise UserError(
            "a or b requires a gradient, and this kernel has none: call it under "
            "torch.inference_mode() or torch.no_grad()"
        )
    return rows, experts, n, k


def check_tensor(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, ndim: int, device: torch.device
) -> None:
    """Raises UserError unless the tensor is what a kernel can read in place."""
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{name} is a {type(tensor).__name__}: give a torch.Tensor")
    if tensor.dtype is not dtype:
        raise UserError(f"{name} is {tensor.dtype}: must be {dtype}, convert it with .to({dtype})")
    if tensor.device != device:
        raise UserError(f"{name} is on {tensor.device}: must be on {device}, move it there")
    if tensor.ndim != ndim:
        raise UserError(f"{name} has shape {list(tensor.shape)}: must have {ndim} dimensions")
    if not tensor.is_contiguous():
        raise UserError(
            f"{name} has strides {list(tensor.stride())}: must be contiguous, row by row; call "
            ".contiguous() once and keep the result"
        )
    if ndim > 1 and tensor.data_ptr() % ALIGNMENT_BYTES:
        raise UserError(
            f"{name} starts {tensor.data_ptr() % ALIGNMENT_BYTES} bytes past a multiple of "
            f"{ALIGNMENT_BYTES}: the kernel loads {ALIGNMENT_BYTES} bytes at a time; slice at "
            "multiples of 8 elements, or .clone() it"
        )


def check_out(out: torch.Tensor, shape: tuple[int, int], inputs: Sequence[torch.Tensor]) -> None:
    """Raises UserError unless ``out`` can take c [rows, N] without touching the inputs."""
    check_tensor("out", out, torch.float16, 2, inputs[0].device)
    if out.shape != shape:
        raise UserError(f"out has shape {list(out.shape)}: must be {list(shape)}, rows x N")
    begin, end = _span(out)
    for tensor in inputs:
        first, last = _span(tensor)
        if begin < last and first < end:
            raise UserError(
                "out shares memory with an input, which is read while out is written: give out "
                "memory of its own"
            )


def check_offsets(offsets: torch.Tensor, rows: int) -> None:
    """Reads the offsets, which waits for a GPU. Raises UserError unless they ascend in 0..rows."""
    values = offsets.tolist()
    for expert, (begin, end) in enumerate(pairwise(values)):
        if begin > end:
            raise UserError(
                f"offsets descend from {begin} to {end} at expert {expert}: must be ascending, "
                "with equal neighbours for an expert without rows"
            )
    if values[0] < 0 or values[-1] > rows:
        raise UserError(
            f"offsets run from {values[0]} to {values[-1]}: must lie in 0..{rows}, the rows of a"
        )


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    begin = tensor.data_ptr()
    return begin, begin + tensor.numel() * tensor.element_size()
