"""PermuteProblem: the permutation of one rank's slots, with what a placement of experts fixes."""

from __future__ import annotations

from dataclasses import dataclass, field

from search_spaces.errors import UserError
from search_spaces.gate_problem import MOST_CHOSEN, MOST_EXPERTS

MOST_GROUPS = MOST_EXPERTS + MOST_CHOSEN  # routed and shared experts


@dataclass(frozen=True)
class PermuteProblem:
    """Ids [T, top_k] among ``experts`` experts -> rows in ``groups`` groups, those of one rank.

    With ``replicas`` > 0 a map [experts, replicas] says which group, if any, each replica of an
    expert is here, and slot d of a token uses replica d % replicas. Without a map every expert is
    here: group e is expert e. Nothing of this is in the machine code. Raises UserError for what
    the kernel has no room for.
    """

    experts: int
    top_k: int
    groups: int
    replicas: int = 0
    op: str = field(default="moe_permute", init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= MOST_CHOSEN:
            raise UserError(f"top_k={self.top_k}: a token has 1..{MOST_CHOSEN} slots")
        for name, value in (("E", self.experts), ("groups", self.groups)):
            if not 1 <= value <= MOST_GROUPS:
                raise UserError(f"{name}={value}: slots are sorted among 1..{MOST_GROUPS}")
        if self.replicas < 0:
            raise UserError(f"replicas={self.replicas}: give at least 1, or 0 for no map")
        if self.replicas == 0 and self.groups != self.experts:
            raise UserError(
                f"{self.groups} groups of E={self.experts} experts without a map: give a slot_map "
                "of where each expert lives"
            )

    @property
    def key(self) -> str:
        """``moe_permute/E64.top6.G10.R2``."""
        replicas = f".R{self.replicas}" if self.replicas else ""
        return f"moe_permute/E{self.experts}.top{self.top_k}.G{self.groups}{replicas}"

    def __str__(self) -> str:
        return self.key

    def traffic(self, tokens: int) -> int:
        """Fewest bytes through device memory: ids and the map once, then the permutation."""
        slots = tokens * self.top_k
        return 4 * (4 * slots + self.experts * self.replicas + self.groups + 1)
