"""Dispatcher: from (problem, rows, skew) to the config of one GPU model, with its reason."""

from __future__ import annotations

import shlex
import sys
import threading
import warnings
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import pairwise

from search_spaces import GpuSpec, Numerics, Problem, Skew, UserError
from search_spaces.problems import AnyProblem
from search_spaces.views import view_of
from tuning_db.selection import Choice, select
from tuning_db.tunings import ShapeTuning, Tunings, shape_of


class NotTunedWarning(UserWarning):
    """A default config runs where a search could find a faster one."""


def preferred_skew(text: str) -> Skew | None:
    """``uniform``, ``zipf:X``, or None for ``auto``. Raises UserError for anything else."""
    if text == "auto":
        return None
    try:
        return Skew.parse(text)
    except UserError as error:
        raise UserError(f"{error}, or auto to follow the loads") from None


class Dispatcher:
    """Looks problems up in the tunings of one GPU model. Safe to share between threads.

    ``skew`` says whose winners are preferred where several skews were tuned; None: those nearest
    to the skew of each question. ``target`` are the flags that make ``tuner.search`` tune for this
    GPU, ``db`` the database the user named.
    """

    def __init__(
        self, tunings: Tunings, skew: Skew | None, *, target: str = "", db: str | None = None
    ) -> None:
        self.tunings = tunings
        self.gpu: GpuSpec = tunings.gpu
        self._skew, self._target, self._db = skew, target, db
        self._borders = tunings.borders if skew is None else ()
        # One skew for each index, well within its range: all of the range choose as it does.
        self.skews = (skew or Skew(), *_within(self._borders))
        self._shapes: dict[AnyProblem, ShapeTuning] = {}
        self._warned: set[AnyProblem] = set()
        self._forced: dict[AnyProblem, str] = {}
        self._lock = threading.Lock()

    def tuning(self, problem: AnyProblem) -> ShapeTuning:
        """What the tuning DB has for the problem's shape; read at the first question."""
        key = shape_of(problem)
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
        view = view_of(problem, self.gpu)
        broken = view.explain(view.space.config_type.parse(config))
        if broken:
            raise UserError(f"{config} cannot run {problem.key} on {self.gpu.name}: {broken[0]}")
        self._forced[problem] = config

    def is_forced(self, problem: AnyProblem) -> bool:
        """Whether the caller has named the config that runs."""
        return problem in self._forced

    def skew_index(self, skew: Skew | None) -> int:
        """0, 1 ... for skews that are served alike; a table of choices needs one entry for each.

        None counts as uniform. Takes a fraction of a microsecond.
        """
        return bisect(self._borders, skew.exponent) if skew is not None else 0

    def choose(
        self, problem: AnyProblem, rows: int, *, top_k: int | None, skew: Skew | None = None
    ) -> Choice:
        """The config for ``rows`` >= 1 rows of a grouped GEMM, or as many tokens of another op.

        ``top_k`` is None when the caller does not know it. ``skew`` is how rows fall on experts,
        as far as is known; a dispatcher that was made for one skew keeps to that.
        """
        if problem in self._forced:
            return Choice(self._forced[problem], "forced by the caller")
        tuning = self.tuning(problem)
        wanted = self.skews[self.skew_index(skew)]
        return select(tuning.buckets, rows, tuning.default, skew=wanted, top_k=top_k)

    def search_command(self, problem: AnyProblem, buckets: str = "all") -> str:
        """The command that tunes the problem for this GPU, into the DB that was asked."""
        words = ["python -m tuner.search", f"--op {problem.op}"]
        if isinstance(problem, Problem):
            words += _gemm_flags(problem)
        else:
            words.append(f"--shape {problem.key}")
        words.append(f"--buckets {buckets}")
        if self._skew not in (None, Skew()):
            words.append(f"--skew {self._skew}")
        if self._target:
            words.append(self._target)
        if self._db is not None:
            words.append(f"--db {shlex.quote(self._db)}")
        return " ".join(words)

    def warn_once(self, problem: AnyProblem) -> None:
        """Warn, once a shape, when nothing is tuned for it or what is no longer runs."""
        tuning, key = self.tuning(problem), shape_of(problem)
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


def _gemm_flags(problem: Problem) -> list[str]:
    shape = f"E={problem.experts},N={problem.n},K={problem.k},top_k={problem.top_k}"
    words = [f"--shape {shape}"]
    if problem.numerics is not Numerics.PROMOTED:
        words.append(f"--numerics {problem.numerics.value}")
    if problem.gated:
        words.append(f"--epilogue {problem.epilogue}")
    if problem.gather:
        words.append("--gather")
    if problem.combine:
        words.append(f"--combine {problem.combine}")
    return words


def _within(borders: Sequence[float]) -> Iterator[Skew]:
    """A skew above each border and below the next one."""
    for low, high in pairwise([*borders, borders[-1] + 2] if borders else []):
        yield Skew("zipf", (low + high) / 2)


def _frames_of_ours() -> int:
    """Stack level of the first caller outside the engine, as the warnings module counts."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("engine."):
        level, frame = level + 1, frame.f_back
    return level
