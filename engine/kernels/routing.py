"""Routing: which token goes to which expert, with which weight, in which row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from engine.kernels.checks import check_tensor
from search_spaces import UserError
from search_spaces.gate_problem import GateProblem

MOST_SLOTS = 1 << 30  # kernels count them in 32 bits


class Layout(NamedTuple):
    """What of a Routing a launch needs: sizes, and where its tensors begin, 0 for none."""

    tokens: int
    slots: int
    experts: int
    device: torch.device
    pointers: tuple[int, ...]


@dataclass(frozen=True)
class Routing:
    """What a gate or a permutation of T tokens says, and what the grouped GEMMs read of it.

    A token becomes k slots: its chosen experts, then the shared ones, which are E and up. Slot d
    is token * k + j. Rows are slots sorted by (expert, d), so that equal ids give equal rows.
    ``ids`` int32 [T, k] and ``weights`` fp32 [T, k] (None where nobody gave any) belong to slots.
    ``offsets`` int32 [experts + 1] is the first row of each expert, and at last the number of
    rows that are valid; ``rows`` and ``slots``, int32 [T * k], the token and the slot of each row;
    ``inverse`` int32 [T, k] the row of each slot, -1 where it has none. ``flag`` int32 [1] has bit
    0 set by a NaN among the logits; kernels never clear it. All on one device, contiguous.
    """

    ids: torch.Tensor
    weights: torch.Tensor | None
    offsets: torch.Tensor
    rows: torch.Tensor
    slots: torch.Tensor
    inverse: torch.Tensor
    flag: torch.Tensor | None

    @classmethod
    def empty(cls, tokens: int, problem: GateProblem, device: torch.device) -> Routing:
        """Memory for ``tokens`` tokens, which a gate fills; only the flag is cleared."""
        slots = problem.slots

        def ints(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=torch.int32, device=device)

        return cls(
            ids=ints(tokens, slots),
            weights=torch.empty(tokens, slots, dtype=torch.float32, device=device),
            offsets=ints(problem.all_experts + 1),
            rows=ints(tokens * slots),
            slots=ints(tokens * slots),
            inverse=ints(tokens, slots),
            flag=torch.zeros(1, dtype=torch.int32, device=device),
        )

    def first(self, tokens: int) -> Routing:
        """The same memory seen as that of the first ``tokens`` tokens."""
        rows = tokens * self.ids.shape[1]
        return Routing(
            ids=self.ids[:tokens],
            weights=None if self.weights is None else self.weights[:tokens],
            offsets=self.offsets,
            rows=self.rows[:rows],
            slots=self.slots[:rows],
            inverse=self.inverse[:tokens],
            flag=self.flag,
        )

    @cached_property
    def layout(self) -> Layout:
        """Read once: looking at seven tensors takes longer than launching a kernel.

        Raises UserError unless the tensors are what the class says.
        """
        device = self.ids.device
        check_tensor("ids", self.ids, torch.int32, 2, device)
        tokens, slots = self.ids.shape
        token_wise, row_wise = (tokens, slots), (tokens * slots,)
        shapes: dict[str, tuple[int, ...]] = {
            "ids": token_wise,
            "weights": token_wise,
            "offsets": tuple(self.offsets.shape[:1]),
            "rows": row_wise,
            "slots": row_wise,
            "inverse": token_wise,
            "flag": (1,),
        }
        pointers = tuple(self._pointer(name, shape, device) for name, shape in shapes.items())
        return Layout(tokens, slots, self.offsets.shape[0] - 1, device, pointers)

    def _pointer(self, name: str, shape: tuple[int, ...], device: torch.device) -> int:
        tensor: torch.Tensor | None = getattr(self, name)
        if tensor is None:
            return 0
        dtype = torch.float32 if name == "weights" else torch.int32
        check_tensor(name, tensor, dtype, len(shape), device)
        if tuple(tensor.shape) != shape:
            raise UserError(
                f"{name} has shape {list(tensor.shape)}: ids of {list(self.ids.shape)} need "
                f"{list(shape)}"
            )
        return tensor.data_ptr()
