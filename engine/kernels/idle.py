"""Idle operands: the smallest that a kernel can be launched on, which makes the driver load it."""

from __future__ import annotations

import torch

from engine.kernels.gate import DTYPES
from engine.kernels.routing import Routing
from search_spaces import Problem
from search_spaces.gate_problem import GateProblem
from search_spaces.permute_problem import PermuteProblem
from search_spaces.problems import KernelProblem


def idle_operands(
    problem: KernelProblem, device: torch.device
) -> tuple[int, tuple[torch.Tensor | None, ...]]:
    """The count of a launch on one token, and a tensor or None for each pointer of the op.

    A grouped GEMM finds no rows in its offsets, and so reads none of b, which can be large.
    """

    def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    if isinstance(problem, GateProblem):
        dtype, width = DTYPES[problem.dtype], problem.hidden or problem.experts
        out = Routing.empty(1, problem, device)
        router = zeros(problem.router_rows, problem.hidden, dtype=dtype)
        bias = zeros(problem.experts, dtype=torch.float32)
        given = (zeros(1, width, dtype=dtype), router, bias)
        return 1, (
            *given, out.ids, out.weights, out.offsets, out.rows, out.slots, out.inverse, out.flag,
        )  # fmt: skip
    top_k = problem.top_k
    if isinstance(problem, PermuteProblem):
        slot_map = zeros(problem.experts, problem.replicas) if problem.replicas else None
        offsets, others = zeros(problem.groups + 1), (zeros(top_k) for _ in range(3))
        return 1, (zeros(1, top_k), slot_map, None, offsets, *others)
    assert isinstance(problem, Problem)
    a = zeros(top_k, problem.k, dtype=torch.float16)
    c = zeros(top_k, problem.columns, dtype=torch.float16)
    weights = zeros(top_k, dtype=torch.float32)
    return top_k, (a, None, c, zeros(problem.experts + 1), zeros(top_k), zeros(top_k), weights)
