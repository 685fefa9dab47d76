"""Spaces: the search space of each op."""

from __future__ import annotations

from search_spaces.errors import UserError
from search_spaces.gate_space import FUSED_GATE
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.space import SearchSpace

SPACES = {space.op: space for space in (GROUPED_GEMM, FUSED_GATE)}


def space_for(op: str) -> SearchSpace:
    """The search space of an op. Raises UserError naming the ops there are."""
    if op not in SPACES:
        raise UserError(f"unknown op '{op}': choose one of {', '.join(SPACES)}")
    return SPACES[op]
