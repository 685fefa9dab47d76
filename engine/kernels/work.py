"""Work: what a call asks of a kernel, as far as sizes go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.kernels.problems import problem_of_shape
from search_spaces import Numerics, Problem
from search_spaces.gate_problem import GateProblem
from search_spaces.problems import KernelProblem
from templates import LaunchShape, fused_gate, launch_shape

# rows of C before they are combined, E, N, K, top_k, epilogue, whether rows are gathered, combine
GemmSizes = tuple[int, int, int, int, "int | None", str, bool, str]


@dataclass(frozen=True)
class Work:
    """A problem, and how much of it: sorted rows of a grouped GEMM, tokens of another op.

    ``top_k`` is None when the caller does not know it; ``scaling`` is a gate's, on its weights.
    """

    problem: KernelProblem
    count: int
    top_k: int | None
    scaling: float = 1.0

    def launch_shape(self, config: Any) -> LaunchShape:
        """Passes of a valid config, and the scratch memory that they need."""
        if isinstance(self.problem, GateProblem):
            return fused_gate.launch_shape(self.problem, config, self.count, self.scaling)
        return launch_shape(self.problem, config, self.count)


def gemm_work(sizes: GemmSizes, numerics: Numerics) -> Work:
    """Raises UserError for sizes that no kernel has."""
    rows, experts, n, k, top_k, epilogue, gather, combine = sizes
    problem = problem_of_shape(experts, n, k, top_k, numerics, epilogue, gather, combine)
    return Work(problem, rows, top_k)


def gemm_sizes(problem: Problem, rows: int, top_k: int | None) -> GemmSizes:
    """What ``gemm_work`` makes the problem of again."""
    shape = (problem.experts, problem.n, problem.k)
    return (rows, *shape, top_k, problem.epilogue, problem.gather, problem.combine)
