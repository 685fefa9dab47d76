"""Definitions: each op's schema, what it runs, and the shapes it makes of fake tensors.

Real tensors go to the TunedKernels whose handle the op is given: tuned kernels on a GPU, torch
references on a CPU. A gate's problem travels as its key. Only new tensors are written, and a
gate's flag. There are no gradients.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from engine.kernels.routing import Routing
from engine.ops.handles import kernels_of
from search_spaces.gate_problem import GateProblem
from search_spaces.permute_problem import PermuteProblem
from search_spaces.problem import GATED


@lru_cache
def _gate(key: str) -> GateProblem:
    return GateProblem.parse(key)


def _ints(like: torch.Tensor, *shape: int) -> torch.Tensor:
    return like.new_empty(shape, dtype=torch.int32)


@torch.library.custom_op("light_moe::fused_gate", mutates_args=("flag",))
def fused_gate(
    x: torch.Tensor,
    router: torch.Tensor | None,
    bias: torch.Tensor | None,
    flag: torch.Tensor,
    problem: str,
    scaling: float,
    kernels: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, weights, offsets, rows, slots and inverse, as :class:`Routing` has them.

    ``problem`` is a GateProblem's key; ``flag`` int32 [1] is OR-ed. Arguments are those of
    :meth:`engine.TunedKernels.fused_gate`, which says what they must be.
    """
    gate = _gate(problem)
    tensors = _empty_routing(gate, x)
    out = Routing(*tensors, flag)
    kernels_of(kernels).fused_gate(x, router, problem=gate, bias=bias, scaling=scaling, out=out)
    return tensors


@fused_gate.register_fake
def _(
    x: torch.Tensor,
    router: torch.Tensor | None,
    bias: torch.Tensor | None,
    flag: torch.Tensor,
    problem: str,
    scaling: float,
    kernels: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _empty_routing(_gate(problem), x)


def _empty_routing(
    gate: GateProblem, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens, slots = x.shape[0], gate.slots
    return (
        _ints(x, tokens, slots),
        x.new_empty((tokens, slots), dtype=torch.float32),
        _ints(x, gate.all_experts + 1),
        _ints(x, tokens * slots),
        _ints(x, tokens * slots),
        _ints(x, tokens, slots),
    )


@torch.library.custom_op("light_moe::grouped_gemm", mutates_args=())
def grouped_gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    rows: torch.Tensor | None,
    slots: torch.Tensor | None,
    weights: torch.Tensor | None,
    epilogue: str,
    combine: str,
    top_k: int,
    kernels: int,
) -> torch.Tensor:
    """c [rows, N], [rows, N / 2] with a gated epilogue, [tokens, N] with ``combine``.

    Arguments are those of :meth:`engine.TunedKernels.grouped_gemm`, which says what they must be.
    """
    return kernels_of(kernels).grouped_gemm(
        a, b, offsets, rows=rows, slots=slots, weights=weights, epilogue=epilogue,
        combine=combine, top_k=top_k,
    )  # fmt: skip


@grouped_gemm.register_fake
def _(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    rows: torch.Tensor | None,
    slots: torch.Tensor | None,
    weights: torch.Tensor | None,
    epilogue: str,
    combine: str,
    top_k: int,
    kernels: int,
) -> torch.Tensor:
    count = (a if rows is None else rows).shape[0]
    columns = b.shape[1] // 2 if epilogue in GATED else b.shape[1]
    return a.new_empty(count // top_k if combine else count, columns)


@torch.library.custom_op("light_moe::moe_permute", mutates_args=())
def moe_permute(
    ids: torch.Tensor,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None,
    experts: int,
    groups: int,
    kernels: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """offsets, rows, slots and inverse of given ids, as :class:`Routing` has them.

    ids int32 [T, k] of ``experts`` experts, ``slot_map`` int32 [experts, R] to ``groups`` groups.
    Arguments are those of :meth:`engine.TunedKernels.moe_permute`, which says what they must be.
    """
    replicas = 0 if slot_map is None else slot_map.shape[1]
    problem = PermuteProblem(experts, ids.shape[1], groups, replicas)
    tensors = _empty_permutation(ids, groups)
    offsets, rows, slots, inverse = tensors
    out = Routing(ids, None, offsets, rows, slots, inverse, None)
    kernels_of(kernels).moe_permute(ids, slot_map, num_valid=num_valid, problem=problem, out=out)
    return tensors


@moe_permute.register_fake
def _(
    ids: torch.Tensor,
    slot_map: torch.Tensor | None,
    num_valid: torch.Tensor | None,
    experts: int,
    groups: int,
    kernels: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _empty_permutation(ids, groups)


def _empty_permutation(
    ids: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens, slots = ids.shape
    shapes = ((groups + 1,), (tokens * slots,), (tokens * slots,), (tokens, slots))
    offsets, rows, its_slots, inverse = (_ints(ids, *shape) for shape in shapes)
    return offsets, rows, its_slots, inverse
