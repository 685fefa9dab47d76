"""MoEConfig: an MoE layer's sizes and rules, as its model's config.json gives them."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces import UserError
from search_spaces.layer_problem import LayerProblem
from search_spaces.problem import ALIGNMENT


@dataclass(frozen=True)
class MoEConfig:
    """A layer's problem, and what its kernels take as an argument or do not see.

    ``scaling`` multiplies the weights of chosen experts. ``shared_intermediate`` is the size of
    all always-on experts together, of which the problem makes experts of its own size, the last
    filled up with zeros; 0 stands for experts that are full. Raises UserError where it does not
    fit the problem's number of shared experts.
    """

    problem: LayerProblem
    scaling: float = 1.0
    shared_intermediate: int = 0

    def __post_init__(self) -> None:
        shared, size = self.problem.gate.shared, self.problem.intermediate
        if self.shared_intermediate == 0:
            object.__setattr__(self, "shared_intermediate", shared * size)
        needed = -(-self.shared_intermediate // size)
        if needed != shared:
            raise UserError(
                f"a shared size of {self.shared_intermediate} needs {needed} experts of {size}: "
                f"the gate has {shared} shared ones"
            )
        if self.shared_intermediate % ALIGNMENT:
            raise UserError(
                f"a shared size of {self.shared_intermediate} is no multiple of {ALIGNMENT}: rows "
                "are read 16 bytes at a time"
            )
