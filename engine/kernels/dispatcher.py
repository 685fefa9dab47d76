"""Dispatcher: from (problem, rows) to the config to run on one GPU model, with its reason."""

from __future__ import annotations

import shlex
import sys
import threading
import warnings
from dataclasses import replace

from engine.kernels.selection import Choice, select
from engine.kernels.tunings import ShapeTuning, Tunings
from search_spaces import GpuSpec, Numerics, Problem, Skew, UserError, space_for
from search_spaces.problems import AnyProblem


class NotTunedWarning(UserWarning):
    """A default config runs where a search could find a faster one."""


class Dispatcher:
    """Looks problems up in the tunings of one GPU model. Safe to share between threads.

    ``skew`` says whose winners are preferred where several skews were tuned. ``target`` are the
    flags that make ``tuner.search`` tune for this GPU, ``db`` the database the user named.
    """

    def __init__(
        self, tunings: Tunings, skew: Skew, *, target: str = "", db: str | None = None
    ) -> None:
        self.tunings = tunings
        self.gpu: GpuSpec = tunings.gpu
        self._skew, self._target, self._db = skew, target, db
        self._shapes: dict[Problem, ShapeTuning] = {}
        self._warned: set[Problem] = set()
        self._forced: dict[AnyProblem, str] = {}
        self._lock = threading.Lock()

    def tuning(self, problem: Problem) -> ShapeTuning:
        """What the tuning DB has for the problem's shape; read at the first question."""
        key = replace(problem, top_k=1)
        with self._lock:
            if key not in self._shapes:
                self._shapes[key] = self.tunings.of_shape(problem)
            return self._shapes[key]

    def force(self, problem: AnyProblem, config: str | None) -> None:
        """This config whatever was tuned, from now on; None goes back to what was tuned.

        Raises UserError for a name that is no config of the op, or one that cannot run here.
        """
        if config is None:
            self._forced.pop(problem, None)
            return
        view = space_for(problem.op).view(problem, self.gpu)
        broken = view.explain(view.space.config_type.parse(config))
        if broken:
            raise UserError(f"{config} cannot run {problem.key} on {self.gpu.name}: {broken[0]}")
        self._forced[problem] = config

    def choose(self, problem: Problem, rows: int, *, top_k: int | None) -> Choice:
        """The config for ``rows`` >= 1 rows; ``top_k`` is None when the caller does not know it."""
        if problem in self._forced:
            return Choice(self._forced[problem], "forced by the caller")
        tuning = self.tuning(problem)
        return select(tuning.buckets, rows, tuning.default, skew=self._skew, top_k=top_k)

    def search_command(self, problem: Problem, buckets: str = "all") -> str:
        """The command that tunes the problem for this GPU, into the DB that was asked."""
        shape = f"E={problem.experts},N={problem.n},K={problem.k},top_k={problem.top_k}"
        words = ["python -m tuner.search", f"--op {problem.op}", f"--shape {shape}"]
        if problem.numerics is not Numerics.PROMOTED:
            words.append(f"--numerics {problem.numerics.value}")
        if problem.gated:
            words.append(f"--epilogue {problem.epilogue}")
        if problem.gather:
            words.append("--gather")
        words.append(f"--buckets {buckets}")
        if self._skew != Skew():
            words.append(f"--skew {self._skew}")
        if self._target:
            words.append(self._target)
        if self._db is not None:
            words.append(f"--db {shlex.quote(self._db)}")
        return " ".join(words)

    def warn_once(self, problem: Problem) -> None:
        """Warn, once a shape, when nothing is tuned for it or what is no longer runs."""
        tuning, key = self.tuning(problem), replace(problem, top_k=1)
        if tuning.buckets and not tuning.outdated:
            return
        with self._lock:
            if key in self._warned:
                return
            self._warned.add(key)
        if tuning.outdated:
            count = len(tuning.outdated)
            why = f"{count} tuned config(s) of {problem.key} cannot run: {tuning.outdated[0]}"
        elif self.tunings.exists:
            why = f"{self.tunings.name} has nothing for {problem.key} on {self.gpu.name}"
        else:
            why = f"there is no tuning DB at {self.tunings.name}"
        warnings.warn(
            f"{why}: the default config runs. Tune it with: {self.search_command(problem)}",
            NotTunedWarning,
            stacklevel=_frames_of_ours(),
        )


def _frames_of_ours() -> int:
    """Stack level of the first caller outside this package, as the warnings module counts."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(__package__ or ""):
        level, frame = level + 1, frame.f_back
    return level
