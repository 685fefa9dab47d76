"""EmulationCheck: configs proved on the CPU, on small problems, each once a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces.problems import AnyProblem
from templates.built import BuildError
from tuner.builder import Builder
from tuner.emulated import Emulated
from tuner.emulation_case import EmulationCase, case_of
from tuning_db.records import TrialStatus


class EmulationCheck:
    """``builder`` compiles for the small problems: sizes are baked into a kernel.

    A verdict holds for the run: the same config is asked about in bucket after bucket.
    """

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._found: dict[tuple[EmulationCase, Any], Emulated] = {}

    def check(self, problem: AnyProblem, configs: Sequence[Any], seed: int) -> dict[Any, Emulated]:
        """Every config's verdict, on operands drawn from ``seed`` where it is a new one.

        Raises UserError for PTX that the emulator does not know.
        """
        cases = {config: case_of(problem, config) for config in configs}
        new = [config for config in configs if (cases[config], config) not in self._found]
        builds = {config: self._builder.submit(cases[config].problem, config) for config in new}
        for config, build in builds.items():  # one is emulated while the next are compiled
            [built] = build.result()
            if isinstance(built, BuildError):
                found = Emulated(TrialStatus.COMPILE_ERROR, built.log, None, None)
            else:
                found = cases[config].run(config, built, seed)
            self._found[cases[config], config] = found
        return {config: self._found[cases[config], config] for config in configs}
