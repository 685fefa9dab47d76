"""Ops: the template of any op, chosen by its problem."""

from __future__ import annotations

from typing import Any

from search_spaces.gate_problem import GateProblem
from search_spaces.permute_problem import PermuteProblem
from search_spaces.problem import Problem
from search_spaces.problems import KernelProblem
from templates import fused_gate, grouped_gemm, moe_permute
from templates.launch_shape import LaunchShape
from templates.variant import Variant


def render(problem: KernelProblem, config: Any) -> Variant:
    """Source of the kernel for a valid config of the problem's op."""
    if isinstance(problem, GateProblem):
        return fused_gate.render(problem, config)
    if isinstance(problem, PermuteProblem):
        return moe_permute.render(problem, config)
    assert isinstance(problem, Problem), "a layer is built part by part"
    return grouped_gemm.render(problem, config)


def launch_shape(problem: KernelProblem, config: Any, count: int) -> LaunchShape:
    """Passes and scratch for ``count`` sorted rows of a grouped GEMM, tokens of another op."""
    if isinstance(problem, GateProblem):
        return fused_gate.launch_shape(problem, config, count)
    if isinstance(problem, PermuteProblem):
        return moe_permute.launch_shape(problem, config, count)
    assert isinstance(problem, Problem), "a layer is launched part by part"
    return grouped_gemm.launch_shape(problem, config, count)
