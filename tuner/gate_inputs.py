"""GateInputs: fresh random operands of a fused gate on one device, and where its results go."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from search_spaces.errors import UserError
from search_spaces.gate_problem import GateProblem

POISON = 0x7EA57EA5  # no expert and no row; as fp32 larger than any weight
GUARD = 1024  # int32 before and after each result that nothing may write
LARGEST_SCALING = 4.0
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
_SPREAD = 0.5  # of the correction bias: as wide as sigmoids of normal logits


@dataclass(frozen=True)
class GateInputs:
    """x[T, H] or logits[T, E], router and bias, and the results of :attr:`names` in guards.

    x ~ N(0, 1) and router ~ N(0, 1/H), so that logits ~ N(0, 1) whether given or not. ``guarded``
    are int32 buffers, ``scaling`` multiplies the weights.
    """

    problem: GateProblem
    tokens: int
    x: torch.Tensor
    router: torch.Tensor | None
    bias: torch.Tensor | None
    scaling: float
    guarded: Mapping[str, torch.Tensor]

    def result(self, name: str) -> torch.Tensor:
        """One result, in its shape and dtype: int32, but fp32 ``weights``."""
        inside = self.guarded[name][GUARD:-GUARD]
        if name == "weights":
            inside = inside.view(torch.float32)
        slots = self.problem.slots
        return inside.view(-1, slots) if name in ("ids", "weights", "inverse") else inside

    @property
    def operands(self) -> tuple[torch.Tensor | None, ...]:
        """The kernel's pointers in the order of its parameters."""
        return self.x, self.router, self.bias, *map(self.result, self.guarded)

    def poison(self) -> None:
        """Fill results and guards with what tells that nobody wrote them; the flag is cleared."""
        for buffer in self.guarded.values():
            buffer.fill_(POISON)
        self.result("flag").zero_()


def draw_gate_inputs(
    problem: GateProblem, tokens: int, seed: int, device: torch.device
) -> GateInputs:
    """Draw operands from ``seed``. Raises UserError when they do not fit the device's memory."""
    if device.type == "cuda":
        _require_memory(problem, tokens, device)
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int, dtype: torch.dtype = DTYPES[problem.dtype]) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device).normal_(generator=generator)

    hidden, router = problem.hidden, None
    if hidden:
        router = normal(problem.router_rows, hidden).mul_(hidden**-0.5)
    bias = normal(problem.experts, dtype=torch.float32).mul_(_SPREAD) if problem.bias else None
    rows = tokens * problem.slots
    sizes = {
        "ids": rows,
        "weights": rows,
        "offsets": problem.all_experts + 1,
        "rows": rows,
        "slots": rows,
        "inverse": rows,
        "flag": 1,
    }
    return GateInputs(
        problem=problem,
        tokens=tokens,
        x=normal(tokens, hidden or problem.experts),
        router=router,
        bias=bias,
        scaling=random.Random(seed).uniform(1.0, LARGEST_SCALING),
        guarded={
            name: torch.empty(size + 2 * GUARD, dtype=torch.int32, device=device)
            for name, size in sizes.items()
        },
    )


def _require_memory(problem: GateProblem, tokens: int, device: torch.device) -> None:
    """Three times the traffic: operands, their reference in fp32, and what is made on the way."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    needed = 3 * (problem.traffic(tokens) + 4 * tokens * problem.experts) + (1 << 30)
    if needed > free:
        raise UserError(
            f"{problem} with {tokens} tokens needs {needed / 1e9:.1f} GB of GPU memory and "
            f"{free / 1e9:.1f} GB are free: choose smaller buckets"
        )
