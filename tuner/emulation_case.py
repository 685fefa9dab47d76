"""EmulationCase: a problem small enough to be emulated in a second, that proves a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.gate_problem import GateProblem
from search_spaces.problem import Problem
from search_spaces.problems import AnyProblem
from templates.built import Built
from tuner.emulated import Emulated
from tuner.small_gate import SmallGate, small_gate
from tuner.small_problem import SmallProblem, small_problem

BUDGET = 4_000_000  # warp instructions of a cohort: a small problem's take a fortieth of that


class EmulationCase(Protocol):
    """Hashable: equal cases prove the same. ``problem`` is what the config is built for."""

    @property
    def problem(self) -> AnyProblem:
        """The small problem."""

    def run(self, config: Any, built: Built, seed: int) -> Emulated:
        """Emulates on operands drawn from ``seed``. Raises PtxError for unknown PTX."""


@dataclass(frozen=True)
class GemmCase:
    """A grouped GEMM of a few tiles, that keeps the remainders of the real one."""

    small: SmallProblem

    @property
    def problem(self) -> AnyProblem:
        return self.small.problem

    def run(self, config: Any, built: Built, seed: int) -> Emulated:
        # Imports torch, which takes seconds: those in which the first kernel is compiled.
        from tuner.emulated_gemm import check_config

        small = self.small
        return check_config(small.problem, config, built, small.histogram, seed, budget=BUDGET)


@dataclass(frozen=True)
class GateCase:
    """A gate of a few tokens with fewer hidden elements; what it chooses by is the real one's."""

    small: SmallGate

    @property
    def problem(self) -> AnyProblem:
        return self.small.problem

    def run(self, config: Any, built: Built, seed: int) -> Emulated:
        from tuner.emulated_gate import check_gate

        small = self.small
        return check_gate(small.problem, config, built, small.tokens, seed, budget=BUDGET)


def case_of(problem: AnyProblem, config: Any) -> EmulationCase:
    """What proves that ``config`` is right for ``problem``."""
    if isinstance(problem, GateProblem):
        return GateCase(small_gate(problem, config))
    assert isinstance(problem, Problem), "a layer is proved part by part"
    return GemmCase(small_problem(problem, config))
