"""Problems: any op's problem from its key."""

from __future__ import annotations

from typing import TypeAlias

from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.permute_problem import PermuteProblem
from search_spaces.problem import Problem

AnyProblem: TypeAlias = "Problem | GateProblem | LayerProblem"
# Nobody searches for a permutation's config: there is a kernel for it, but no key in a DB.
KernelProblem: TypeAlias = "AnyProblem | PermuteProblem"


def parse_problem(text: str) -> AnyProblem:
    """Read back a problem's ``key`` or ``str()``. Raises UserError when the text is neither."""
    if text.startswith("moe_layer/"):
        return LayerProblem.parse(text)
    return GateProblem.parse(text) if text.startswith("fused_gate/") else Problem.parse(text)
