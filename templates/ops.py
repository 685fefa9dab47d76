"""Ops: the template of any op, chosen by its problem."""

from __future__ import annotations

from typing import Any

from search_spaces.problems import AnyProblem
from templates import grouped_gemm
from templates.launch_shape import LaunchShape
from templates.variant import Variant


def render(problem: AnyProblem, config: Any) -> Variant:
    """Source of the kernel for a valid config of the problem's op."""
    return grouped_gemm.render(problem, config)


def launch_shape(problem: AnyProblem, config: Any, count: int) -> LaunchShape:
    """Passes and scratch for ``count`` sorted rows of a grouped GEMM, tokens of a gate."""
    return grouped_gemm.launch_shape(problem, config, count)
