"""Replay: a recorded run, searched as if it were the GPU."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from search_spaces.bucket import Bucket
from search_spaces.constraint import Violation
from search_spaces.errors import UserError
from search_spaces.gpu import GpuSpec, find_gpu
from search_spaces.parameter import Parameter
from search_spaces.problems import AnyProblem
from search_spaces.space import SearchSpace
from tuner.backends.base import Candidate, Fidelity, Measurement
from tuner.recording import RecordedTrial, Recording, Trials
from tuning_db.records import Source, TrialStatus, Verified


class RecordedView:
    """The recorded configs as a search space: what was not recorded does not exist."""

    def __init__(
        self, space: SearchSpace, problem: AnyProblem, gpu: GpuSpec, names: Iterable[str]
    ) -> None:
        self._configs = [space.config_type.parse(name) for name in names]
        self._known = frozenset(self._configs)
        self._full = space.view(problem, gpu)
        seen = {p.name: {getattr(c, p.name) for c in self._configs} for p in space.parameters}
        kept = (
            replace(p, values=tuple(v for v in p.values if v in seen[p.name]))
            for p in space.parameters
        )
        self.space = replace(space, parameters=tuple(kept), constraints=())

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the space, with the values that were recorded."""
        return self.space.parameters

    @property
    def count(self) -> int:
        """Number of recorded configs."""
        return len(self._configs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._configs)

    def default(self) -> Any:
        """The space's default, or the recorded config nearest to it."""
        return self.snap(self._full.default(), (), random.Random(0))

    def sample(self, rng: random.Random) -> Any:
        """Any recorded config."""
        return rng.choice(self._configs)

    def neighbours(self, config: Any) -> list[Any]:
        """The recorded configs that differ in one parameter."""
        return [other for other in self._configs if self._distance(config, other) == 1]

    def explain(self, config: Any) -> list[Violation]:
        """Says so when the config was not recorded."""
        if config in self._known:
            return []
        return [Violation("recorded", f"{config} was not recorded")]

    def snap(self, config: Any, tried: Container[Any], rng: random.Random) -> Any | None:
        """The untried recorded config that differs in the fewest parameters."""
        if config in self._known and config not in tried:
            return config
        left = [other for other in self._configs if other not in tried]
        return min(left, key=lambda c: (self._distance(config, c), rng.random()), default=None)

    def _distance(self, a: Any, b: Any) -> int:
        return sum(getattr(a, p.name) != getattr(b, p.name) for p in self.space.parameters)


class ReplayBackend:
    """Answers with what was recorded. Needs no build, no process and no device.

    Raises UserError when the recording's GPU is unknown here.
    """

    source = Source.REPLAYED
    archs: tuple[str, ...] = ()
    slots = 1

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.gpu = find_gpu(recording.gpu)
        self._trials: Trials = {}

    def prepare(self, problem: AnyProblem, bucket: Bucket, seed: int) -> None:
        """Opens the table of (problem, bucket); inputs were made when it was recorded."""
        if (problem, bucket) not in self.recording.trials:
            raise UserError(f"the recording has no trials of {problem.key} at {bucket}")
        self._trials = self.recording.trials[problem, bucket]

    def submit(self, candidate: Candidate, fidelity: Fidelity) -> Future[Measurement]:
        done: Future[Measurement] = Future()
        done.set_result(self._look_up(candidate))
        return done

    def finals(self, candidates: Sequence[Candidate], seed: int) -> list[Measurement]:
        """The same figures again: a recording holds one per config."""
        return [self._look_up(candidate) for candidate in candidates]

    def close(self) -> None:
        """Nothing to end."""

    def optimum_us(self) -> float | None:
        """The best recorded time of what was prepared; None when nothing worked."""
        times = (trial.time_us for trial in self._trials.values())
        return min((time for time in times if time is not None), default=None)

    def _look_up(self, candidate: Candidate) -> Measurement:
        trial: RecordedTrial = self._trials[str(candidate.config)]
        proved = trial.status is TrialStatus.OK
        return Measurement(
            candidate.config,
            trial.status,
            self.source,
            Verified.GPU if proved else Verified.NONE,
            time_us=trial.time_us,
            spread_us=trial.spread_us,
            rel_error=trial.rel_error,
            error=None if proved else f"recorded as {trial.status.value}",
        )
