"""GemmTask: a grouped GEMM for ``python -m tuner.emulate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces.problem import Problem
from templates.built import Built
from tuner.emulated_gemm import check_config, require_size
from tuner.emulated_run import EmulatedRun
from tuner.ideal import ideal_of
from tuner.patch import patches, spread
from tuner.small_problem import rows_text, small_problem


@dataclass(frozen=True)
class GemmTask:
    """A :class:`tuner.emulated_run.Task`: a problem with rows per expert, [E].

    At most ``most_parts`` tiles of C are computed, None meaning all, by ``processes``. Raises
    UserError when the operands are too large to be emulated.
    """

    problem: Problem
    histogram: tuple[int, ...]
    seed: int
    most_parts: int | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        require_size(self.problem, sum(self.histogram))  # before anything is compiled

    @classmethod
    def small(
        cls, problem: Problem, configs: Sequence[Any], seed: int, processes: int = 1
    ) -> GemmTask:
        """The small problem that suits all configs, whole."""
        small = small_problem(problem, *configs)
        return cls(small.problem, small.histogram, seed, processes=processes)

    @property
    def size(self) -> tuple[str, str]:
        return "rows", f"{rows_text(self.histogram)} by expert"

    @property
    def size_data(self) -> dict[str, Any]:
        return {"rows": list(self.histogram)}

    def run(self, config: Any, built: Built) -> EmulatedRun:
        found = patches(self.problem, config, self.histogram)
        chosen = found if self.most_parts is None else spread(found, self.most_parts)
        whole = len(chosen) == len(found)
        emulated = check_config(
            self.problem, config, built, self.histogram, self.seed,
            sample=None if whole else chosen, count=True, processes=self.processes,
        )  # fmt: skip
        tiles = f"{len(chosen):,} of {len(found):,} tiles of C"
        return EmulatedRun(
            config=config,
            built=built,
            emulated=emulated,
            ideal=asdict(ideal_of(self.problem, config, chosen)),
            proved=f"every element of {'C' if whole else tiles} within its bound",
            ran=tiles,
            extent={"tiles": len(chosen), "all_tiles": len(found)},
        )
