"""Shape: what one mma instruction multiplies, read from its opcode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")


@dataclass(frozen=True)
class MmaShape:
    """D[m, n] = A[m, k] B[k, n] + C, per warp."""

    m: int
    n: int
    k: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each element of A times each column of B."""
        return 2 * self.m * self.n * self.k

    def __str__(self) -> str:
        return f"m{self.m}n{self.n}k{self.k}"


def mma_shape(modifiers: Sequence[str]) -> MmaShape | None:
    """The shape among an opcode's modifiers (``m16n8k8``), if there is one."""
    for modifier in modifiers:
        found = _SHAPE.fullmatch(modifier)
        if found:
            m, n, k = map(int, found.groups())
            return MmaShape(m, n, k)
    return None
