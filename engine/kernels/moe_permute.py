"""Permutation: what moe_permute's tensors must be, and its torch reference on a CPU."""

from __future__ import annotations

from typing import NoReturn, TypeAlias

import torch

from engine.kernels.checks import check_tensor
from engine.kernels.routing import MOST_SLOTS, Routing
from engine.kernels.work import Work
from search_spaces import UserError
from search_spaces.permute_problem import PermuteProblem
from templates.permute_reference import permute_reference

# The problem and T.
PermuteSizes: TypeAlias = "tuple[PermuteProblem, int]"


def check_permute(
    problem: PermuteProblem,
    ids: torch.Tensor,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None,
    device: torch.device,
) -> tuple[int, int, int, int]:
    """T, and where ids, slot_map and num_valid begin in device memory, 0 for what is None.

    ids [T, top_k], slot_map [E, R] where the problem has one, num_valid [1]: int32. Raises
    UserError for a wrong type, device, shape or layout, and for a map that is missing or
    superfluous.
    """
    try:
        tokens, top_k = ids.shape
        begins = ids.data_ptr(), 0 if slot_map is None else slot_map.data_ptr(), 0
        good = (
            top_k == problem.top_k
            and tokens * top_k <= MOST_SLOTS
            and ids.dtype is torch.int32
            and ids.device == device
            and ids.is_contiguous()
            and (slot_map is not None) == (problem.replicas > 0)
        )
        if slot_map is not None:
            good = (
                good
                and slot_map.shape == (problem.experts, problem.replicas)
                and slot_map.dtype is torch.int32
                and slot_map.device == device
                and slot_map.is_contiguous()
            )
        if num_valid is not None:
            begins = *begins[:2], num_valid.data_ptr()
            good = good and num_valid.shape == (1,) and num_valid.dtype is torch.int32
            good = good and num_valid.device == device
    except (AttributeError, ValueError, RuntimeError):  # no tensors, other ranks, no storage
        good = False
    if not good:
        _refuse(problem, ids, slot_map, num_valid, device)
    return (tokens, *begins)


def _refuse(
    problem: PermuteProblem,
    ids: torch.Tensor,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None,
    device: torch.device,
) -> NoReturn:
    """Raises UserError with the first rule that is broken."""
    check_tensor("ids", ids, torch.int32, 2, device)
    if ids.shape[1] != problem.top_k:
        raise UserError(f"ids has {ids.shape[1]} columns: {problem.key} has top_k={problem.top_k}")
    if ids.numel() > MOST_SLOTS:
        raise UserError(f"ids has {ids.numel()} slots: at most {MOST_SLOTS}, split the batch")
    if slot_map is None:
        if problem.replicas:
            raise UserError(
                f"slot_map is missing: {problem.key} has replicas, R={problem.replicas}"
            )
    elif not problem.replicas:
        raise UserError(f"slot_map is given: {problem.key} has none, all its experts are here")
    else:
        check_tensor("slot_map", slot_map, torch.int32, 2, device)
        if slot_map.shape != (problem.experts, problem.replicas):
            raise UserError(
                f"slot_map has shape {list(slot_map.shape)}: {problem.key} needs "
                f"{[problem.experts, problem.replicas]}"
            )
    if num_valid is not None:
        check_tensor("num_valid", num_valid, torch.int32, 1, device)
        raise UserError(f"num_valid has {num_valid.shape[0]} elements: it is one number of tokens")
    raise UserError("ids or slot_map has no memory of its own: give plain tensors")


def check_values(
    problem: PermuteProblem,
    ids: torch.Tensor,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None,
) -> None:
    """Raises UserError for ids outside -1..E - 1 among the valid tokens, for groups outside
    -1..groups - 1, and for more valid tokens than there are. Reads them back, which waits."""
    valid = ids.shape[0] if num_valid is None else int(num_valid)
    if not 0 <= valid <= ids.shape[0]:
        raise UserError(f"num_valid is {valid}: ids has {ids.shape[0]} tokens")
    _check_range("ids", ids[:valid], problem.experts, "experts, or is -1 for no expert")
    if slot_map is not None:
        _check_range("slot_map", slot_map, problem.groups, "groups, or is -1 for none here")


def _check_range(name: str, values: torch.Tensor, end: int, of_what: str) -> None:
    wrong = values[(values < -1) | (values >= end)]
    if wrong.numel():
        raise UserError(f"{name} holds {int(wrong[0])}: it names one of 0..{end - 1} {of_what}")


def permuted(
    out: Routing | None, problem: PermuteProblem, ids: torch.Tensor
) -> tuple[Routing, tuple[int, ...]]:
    """Memory for the answer, ``out`` or new, and where its offsets, rows, slots and inverse begin.

    ids is checked. Raises UserError for an ``out`` of other sizes, or whose ids are not these.
    """
    tokens, top_k = ids.shape
    if out is None:
        out = Routing(
            ids=ids,
            weights=None,
            offsets=ids.new_empty(problem.groups + 1),
            rows=ids.new_empty(tokens * top_k),
            slots=ids.new_empty(tokens * top_k),
            inverse=ids.new_empty(tokens, top_k),
            flag=None,
        )
    layout = out.layout
    if layout.pointers[0] != ids.data_ptr() or (layout.tokens, layout.slots) != (tokens, top_k):
        raise UserError(
            f"out is made for other ids: its own, {list(out.ids.shape)}, must be the tensor "
            f"{list(ids.shape)} that is permuted"
        )
    if layout.experts != problem.groups:
        raise UserError(
            f"out has offsets for {layout.experts} groups: {problem.key} needs {problem.groups}"
        )
    return out, layout.pointers[2:6]


def permute_work(sizes: PermuteSizes) -> Work:
    """What a call's sizes stand for."""
    problem, tokens = sizes
    return Work(problem, tokens, problem.top_k)


def permute_on_cpu(
    problem: PermuteProblem,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None,
    out: Routing,
) -> None:
    """Fills ``out`` from its ids as the kernel does: nothing beyond the last row."""
    found = permute_reference(out.ids, problem.groups, slot_map, num_valid)
    rows = found.rows.shape[0]
    out.offsets.copy_(found.offsets)
    out.rows[:rows].copy_(found.rows)
    out.slots[:rows].copy_(found.slots)
    out.inverse.copy_(found.inverse)
