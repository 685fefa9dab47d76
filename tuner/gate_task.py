"""GateTask: a fused gate for ``python -m tuner.emulate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import UserError
from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from templates.built import Built
from tuner.emulated_gate import check_gate
from tuner.emulated_run import EmulatedRun
from tuner.small_gate import small_gate

LARGEST_BYTES = 1 << 28  # of operands and results: minutes


@dataclass(frozen=True)
class GateTask:
    """A :class:`tuner.emulated_run.Task`: a gate with ``tokens``, all of which are computed.

    Raises UserError when there are too many to be emulated.
    """

    problem: GateProblem
    tokens: int
    seed: int

    def __post_init__(self) -> None:
        needed = self.problem.traffic(self.tokens)
        if needed > LARGEST_BYTES:
            raise UserError(
                f"{self.problem} moves {needed / 1e9:.1f} GB for {self.tokens} tokens, and at most "
                f"{LARGEST_BYTES / 1e9:.1f} GB are emulated: choose a smaller --bucket"
            )

    @classmethod
    def small(cls, problem: GateProblem, configs: Sequence[GateConfig], seed: int) -> GateTask:
        """The small problem that suits all configs."""
        small = small_gate(problem, *configs)
        return cls(small.problem, small.tokens, seed)

    @property
    def size(self) -> tuple[str, str]:
        return "tokens", f"{self.tokens:,}"

    @property
    def size_data(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def run(self, config: GateConfig, built: Built) -> EmulatedRun:
        tokens = f"{self.tokens:,} tokens"
        return EmulatedRun(
            config=config,
            built=built,
            emulated=check_gate(self.problem, config, built, self.tokens, self.seed, count=True),
            ideal=self._ideal(config),
            proved=f"experts, weights and sorted rows of {tokens}",
            ran=tokens,
            extent=self.size_data,
        )

    def _ideal(self, config: GateConfig) -> dict[str, int]:
        """Bytes in and out once each; what tensor cores have to do, where they are used."""
        problem, tokens = self.problem, self.tokens
        written = 4 * (5 * tokens * problem.slots + problem.all_experts + 1)
        bias = 4 * problem.experts * problem.bias
        ideal = {
            "read_bytes": problem.traffic(tokens) - written + bias,
            "written_bytes": written,
        }
        if config.router == "mma":
            ideal["flops"] = problem.flops(tokens)
        return ideal
