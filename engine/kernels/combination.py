"""Combination: slots and weights of a grouped GEMM that combines, checked for a launch."""

from __future__ import annotations

import torch

from engine.kernels.checks import check_offsets, check_rows, check_tensor
from search_spaces.errors import UserError
from search_spaces.problem import COMBINES

_F32, _I32 = torch.float32, torch.int32


def check_combination(
    slots: torch.Tensor | None,
    weights: torch.Tensor | None,
    combine: str,
    top_k: int | None,
    shape: tuple[int, int],
    out: torch.Tensor | None,
    device: torch.device,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shape of c, and where slots, int32 [rows], and weights, fp32 [tokens, top_k], begin.

    ``shape`` is that of c if its rows stayed apart. Raises UserError for an unknown ``combine``,
    where one of the tensors or ``top_k`` is missing, for a wrong type, device or layout, for
    shapes that do not agree, and for an ``out`` that shares memory with the tensors.
    """
    if combine not in COMBINES or slots is None or weights is None or top_k is None:
        _refuse(combine, slots, weights, top_k)
    assert slots is not None and weights is not None and top_k is not None
    rows, columns = shape
    try:
        good = (
            slots.shape == (rows,)
            and weights.shape == (rows // top_k, top_k)
            and not rows % top_k
            and slots.dtype is _I32
            and weights.dtype is _F32
            and slots.device == weights.device == device
            and slots.is_contiguous()
            and weights.is_contiguous()
        )
    except (AttributeError, ZeroDivisionError):  # no tensors, no slots
        good = False
    if not good:
        _refuse_tensors(slots, weights, rows, top_k, device)
    begins, tokens = (slots.data_ptr(), weights.data_ptr()), rows // top_k
    if isinstance(out, torch.Tensor):
        _check_apart(out.data_ptr(), 2 * tokens * columns, begins, 4 * rows)
    return (tokens, columns), begins


def _refuse(
    combine: str, slots: torch.Tensor | None, weights: torch.Tensor | None, top_k: int | None
) -> None:
    """Raises UserError for arguments that do not go together."""
    if combine == "":
        raise UserError("slots and weights say how rows are combined: give combine='ordered' too")
    if combine not in COMBINES:
        raise UserError(f"unknown combine '{combine}': choose one of {', '.join(COMBINES)}")
    named = (("slots", slots), ("weights", weights), ("top_k", top_k))
    missing = [name for name, value in named if value is None]
    raise UserError(f"combine='{combine}' needs {' and '.join(missing)}: a routing has them")


def _refuse_tensors(
    slots: torch.Tensor, weights: torch.Tensor, rows: int, top_k: int, device: torch.device
) -> None:
    """Raises UserError with the first rule that is broken."""
    check_tensor("slots", slots, _I32, 1, device)
    if weights.ndim != 2 or weights.dtype is not _F32 or weights.device != device:
        check_tensor("weights", weights, _F32, 2, device)
    if top_k < 1 or rows % top_k:
        raise UserError(
            f"a has {rows} rows, no whole tokens of top_k={top_k}: every slot of a token that is "
            "combined needs its row"
        )
    if slots.shape[0] != rows:
        raise UserError(f"slots has {slots.shape[0]} elements: a has {rows} rows, one each")
    if tuple(weights.shape) != (rows // top_k, top_k):
        raise UserError(
            f"weights has shape {list(weights.shape)}: {rows} rows with top_k={top_k} are "
            f"{[rows // top_k, top_k]}"
        )
    raise UserError("weights is not contiguous: call .contiguous() once and keep the result")


def _check_apart(out: int, out_bytes: int, inputs: tuple[int, int], input_bytes: int) -> None:
    """Raises UserError when ``out``, where c goes, shares memory with one of the inputs."""
    for begin in inputs:
        if out < begin + input_bytes and begin < out + out_bytes:
            raise UserError(
                "out shares memory with slots or weights, which are read while out is written: "
                "give out memory of its own"
            )


def check_contents(
    offsets: torch.Tensor,
    count: int,
    rows: torch.Tensor | None,
    tokens: int,
    slots: torch.Tensor | None,
) -> None:
    """Reads what says where rows go, which waits for a GPU. Raises UserError for what lies beyond
    ``count`` sorted rows, or ``tokens`` rows of a."""
    check_offsets(offsets, count)
    if rows is not None:
        check_rows(rows, offsets, tokens)
    if slots is not None:
        check_slots(slots, offsets)


def check_slots(slots: torch.Tensor, offsets: torch.Tensor) -> None:
    """Reads both, which waits for a GPU. Raises UserError unless each slot has one row.

    A token waits for all of its slots: with one missing, its row of c is never written and the
    next launch goes wrong too.
    """
    rows, first, last = slots.shape[0], int(offsets[0]), int(offsets[-1])
    if (first, last) != (0, rows):
        raise UserError(
            f"offsets run from {first} to {last}: rows that are combined are all needed, 0 to "
            f"{rows}"
        )
    wrong = torch.nonzero((slots < 0) | (slots >= rows))
    if wrong.shape[0]:
        place = int(wrong[0])
        raise UserError(f"slots[{place}] is {int(slots[place])}: must lie in 0..{rows - 1}")
    counts = torch.bincount(slots, minlength=rows)
    if rows and int(counts.max()) > 1:
        slot = int(torch.nonzero(counts > 1)[0])
        raise UserError(f"slot {slot} has {int(counts[slot])} rows: each slot has one")
