"""EmulationCheck: configs proved on the CPU, on small problems, each once a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces.problem import Problem
from templates.built import BuildError
from tuner.builder import Builder
from tuner.emulated import Emulated
from tuner.small_problem import SmallProblem, small_problem
from tuning_db.records import TrialStatus

BUDGET = 4_000_000  # warp instructions of a cohort: a small problem's take a fortieth of that


class EmulationCheck:
    """``builder`` compiles for the small problems: N and K are baked into a kernel.

    A verdict holds for the run: the same config is asked about in bucket after bucket.
    """

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._found: dict[tuple[SmallProblem, Any], Emulated] = {}

    def check(self, problem: Problem, configs: Sequence[Any], seed: int) -> dict[Any, Emulated]:
        """Every config's verdict, on operands drawn from ``seed`` where it is a new one.

        Raises UserError for PTX that the emulator does not know.
        """
        small = {config: small_problem(problem, config) for config in configs}
        new = [config for config in configs if (small[config], config) not in self._found]
        builds = {config: self._builder.submit(small[config].problem, config) for config in new}
        # Imports torch, which takes seconds: those in which the first one is compiled.
        from tuner.emulated_gemm import check_config

        for config, build in builds.items():  # one is emulated while the next are compiled
            [built] = build.result()
            if isinstance(built, BuildError):
                found = Emulated(TrialStatus.COMPILE_ERROR, built.log, None, None)
            else:
                at = small[config]
                found = check_config(at.problem, config, built, at.histogram, seed, budget=BUDGET)
            self._found[small[config], config] = found
        return {config: self._found[small[config], config] for config in configs}
