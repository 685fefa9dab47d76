"""Checks: what a grouped GEMM's tensors must be, asked without waiting for the device."""

from __future__ import annotations

from itertools import pairwise
from typing import NoReturn, TypeAlias

import torch

from search_spaces.errors import UserError

ALIGNMENT_BYTES = 16  # one 128-bit load
_F16, _I32 = torch.float16, torch.int32


# Rows of c, E, N, K, and where a, b, offsets and the index of a's rows, if there is one, begin in
# device memory. A plain tuple: a named one takes 0.3 us to make, a fifth of the whole check.
Checked: TypeAlias = "tuple[int, int, int, int, int, int, int, int | None]"


def check_operands(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    device: torch.device,
    index: torch.Tensor | None = None,
    top_k: int | None = None,
) -> Checked:
    """Sizes and pointers of a [rows, K] fp16, b [E, N, K] fp16 and offsets [E + 1] int32.

    With ``index``, int32 [rows], a is [tokens, K]; rows are then tokens x top_k if that is known.
    Raises UserError for a wrong type, device, number of dimensions, layout or alignment, for
    shapes that do not agree, and where a gradient would be expected. On the way to a launch each
    attribute of a tensor costs a tenth of a microsecond: good ones are asked for once, here, and
    only bad ones are looked at again, to say what is wrong.
    """
    try:
        rows, k = a.shape
        experts, n, depth = b.shape
        (ends,) = offsets.shape
        a_begin, b_begin, index_begin = a.data_ptr(), b.data_ptr(), None
        good = (
            depth == k
            and ends == experts + 1
            and a.dtype is b.dtype is _F16
            and offsets.dtype is _I32
            and a.device == b.device == offsets.device == device
            and a.is_contiguous()
            and b.is_contiguous()
            and offsets.is_contiguous()
            and not (a_begin | b_begin) % ALIGNMENT_BYTES
            and not ((a.requires_grad or b.requires_grad) and torch.is_grad_enabled())
        )
        if index is not None:
            tokens = rows
            (rows,) = index.shape
            index_begin = index.data_ptr()
            good = (
                good
                and index.dtype is _I32
                and index.device == device
                and index.is_contiguous()
                and (top_k is None or rows == tokens * top_k)
            )
    except (AttributeError, ValueError, RuntimeError):  # no tensors, other ranks, no storage
        good = False
    if not good:
        _refuse_operands(a, b, offsets, device, index, top_k)
    return rows, experts, n, k, a_begin, b_begin, offsets.data_ptr(), index_begin


def _refuse_operands(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    device: torch.device,
    index: torch.Tensor | None,
    top_k: int | None,
) -> NoReturn:
    """Raises UserError with the first rule that is broken."""
    check_tensor("a", a, _F16, 2, device)
    check_tensor("b", b, _F16, 3, device)
    check_tensor("offsets", offsets, _I32, 1, device)
    if index is not None:
        check_tensor("rows", index, _I32, 1, device)
    (tokens, k), (experts, _, depth) = a.shape, b.shape
    if depth != k:
        raise UserError(f"a has K={k} columns and b has K={depth}: they must be equal")
    if offsets.shape[0] != experts + 1:
        raise UserError(
            f"offsets has {offsets.shape[0]} elements: b has {experts} experts, so it needs "
            f"{experts + 1}, the row where each expert begins and the end of the last"
        )
    if index is not None and top_k is not None and index.shape[0] != tokens * top_k:
        raise UserError(
            f"rows has {index.shape[0]} elements: {tokens} tokens with top_k={top_k} have "
            f"{tokens * top_k}, one each"
        )
    raise UserError(
        "a or b requires a gradient, and this kernel has none: call it under "
        "torch.inference_mode() or torch.no_grad()"
    )


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


def check_out(
    out: torch.Tensor,
    operands: Checked,
    tokens: int,
    shape: tuple[int, int],
    device: torch.device,
) -> None:
    """Raises UserError unless ``out`` can take c of this shape without touching the operands.

    ``tokens`` are the rows of a.
    """
    rows, experts, n, k, a, b, offsets, index = operands
    try:
        begin = out.data_ptr()
        good = (
            out.shape == shape
            and out.dtype is _F16
            and out.device == device
            and out.is_contiguous()
            and not begin % ALIGNMENT_BYTES
        )
    except (AttributeError, RuntimeError):
        good = False
    if not good:
        check_tensor("out", out, _F16, 2, device)
        raise UserError(f"out has shape {list(out.shape)}: must be {list(shape)}")
    end = begin + 2 * shape[0] * shape[1]
    if (
        (begin < a + 2 * tokens * k and a < end)
        or (begin < b + 2 * experts * n * k and b < end)
        or (begin < offsets + 4 * (experts + 1) and offsets < end)
        or (index is not None and begin < index + 4 * rows and index < end)
    ):
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
            f"offsets run from {values[0]} to {values[-1]}: must lie in 0..{rows}, the rows of c"
        )


def check_rows(index: torch.Tensor, offsets: torch.Tensor, tokens: int) -> None:
    """Reads the index, which waits for a GPU. Raises UserError unless what is used is a token.

    ``offsets`` have been checked: they say which part of the index the experts read.
    """
    used = index[int(offsets[0]) : int(offsets[-1])]
    wrong = torch.nonzero((used < 0) | (used >= tokens))
    if wrong.shape[0]:
        place = int(offsets[0]) + int(wrong[0])
        raise UserError(
            f"rows[{place}] is {int(index[place])}: must lie in 0..{tokens - 1}, the rows of a"
        )
