"""EmulatedRun: what ``python -m tuner.emulate`` runs for one config, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.problem import Problem
from templates.built import Built
from tuner.emulated import Emulated
from tuner.emulated_gemm import check_config
from tuner.ideal import Ideal, ideal_of
from tuner.patch import patches, spread
from tuner.small_problem import small_problem


@dataclass(frozen=True)
class EmulatedRun:
    """``parts`` of the ``all_parts`` tiles of C were computed; ``ideal`` is for these."""

    config: Any
    built: Built
    emulated: Emulated
    ideal: Ideal
    parts: int
    all_parts: int

    @property
    def verdict(self) -> str:
        """In one line."""
        found = self.emulated
        if found.emulation is None:
            return f"fault: {found.reason}"
        if not found.ok:
            return f"wrong: {found.reason}"
        where = "every element of C"
        if self.parts < self.all_parts:
            where = f"every element of {self.parts:,} of {self.all_parts:,} tiles of C"
        return f"right: {where} within its bound, relative error {found.rel_error:.2g}"


@dataclass(frozen=True)
class Task:
    """A problem with rows per expert, [E], and what to draw its operands from.

    At most ``most_parts`` tiles of C are computed, None meaning all, by ``processes``.
    """

    problem: Problem
    histogram: tuple[int, ...]
    seed: int
    most_parts: int | None = None
    processes: int = 1

    @classmethod
    def small(cls, problem: Problem, configs: Sequence[Any], seed: int, processes: int = 1) -> Task:
        """The small problem that suits all configs, whole."""
        small = small_problem(problem, *configs)
        return cls(small.problem, small.histogram, seed, processes=processes)

    def run(self, config: Any, built: Built) -> EmulatedRun:
        """Runs ``built``, made for this problem. Raises UserError for operands that are too large
        and PtxError for PTX that the emulator does not know."""
        found = patches(self.problem, config, self.histogram)
        chosen = found if self.most_parts is None else spread(found, self.most_parts)
        emulated = check_config(
            self.problem, config, built, self.histogram, self.seed,
            sample=chosen if len(chosen) < len(found) else None, count=True,
            processes=self.processes,
        )  # fmt: skip
        ideal = ideal_of(self.problem, config, chosen)
        return EmulatedRun(config, built, emulated, ideal, len(chosen), len(found))
