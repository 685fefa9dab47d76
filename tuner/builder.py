"""Builder: configs in, machine code out, many at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from search_spaces.problems import AnyProblem
from templates.built import BuildError, Built, Target
from templates.pool import CompilePool
from templates.variant import Variant

MOST_AHEAD = 32
BUILDS_AHEAD = 8  # per compiler: one full batch


class Builder(Protocol):
    """Where a search gets its machine code from. ``depth`` builds are worth having in flight."""

    depth: int

    def submit(self, problem: AnyProblem, config: Any) -> Future[list[Built | BuildError]]:
        """One result, once it is there. The future raises UserError when nothing can be built."""


class PoolBuilder:
    """Renders here and compiles in the pool's processes, for the target given."""

    def __init__(
        self,
        pool: CompilePool,
        render: Callable[[Any, Any], Variant],
        target: Target,
    ) -> None:
        self._pool, self._render, self._target = pool, render, target
        # Enough to keep every compiler in full batches, and no more: a sampler that has to
        # propose far ahead of the results proposes blindly.
        self.depth = min(MOST_AHEAD, BUILDS_AHEAD * pool.workers)

    def submit(self, problem: AnyProblem, config: Any) -> Future[list[Built | BuildError]]:
        return self._pool.submit([self._render(problem, config)], self._target)


class RecordedBuilder:
    """For a replay: what was recorded was built back then, and is not needed now."""

    depth = 1

    def submit(self, problem: AnyProblem, config: Any) -> Future[list[Built | BuildError]]:
        variant = Variant(problem.op, f"recorded {config}", "", 0, 0, (), "sm_75")
        done: Future[list[Built | BuildError]] = Future()
        done.set_result([Built(variant, "", {}, 0.0)])
        return done
