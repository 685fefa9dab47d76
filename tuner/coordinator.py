"""Coordinator: keeps compilers and measuring slots busy for one place, and writes each trial.

Compiling runs ahead of measuring, so that a GPU never waits for a compiler. The coordinator is the
only one that writes: first the trial table, which is the truth, then Optuna.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeAlias

from templates.built import BuildError, Built
from tuner.backends.base import Backend, Candidate, Fidelity, Measurement
from tuner.builder import Builder
from tuner.ledger import Ledger
from tuner.study import Proposal, Study
from tuning_db.records import TrialRecord, TrialStatus

TICK_S = 0.2  # how soon Ctrl-C is noticed

OnTrial: TypeAlias = "Callable[[TrialRecord], None]"
BuildFuture: TypeAlias = "Future[list[Built | BuildError]]"


@dataclass(frozen=True)
class Limits:
    """When to stop proposing: after ``trials`` in all, at a deadline, on ``stop``.

    ``deadline`` (monotonic, None for none) is asked for once, as the first config is proposed: the
    start of a card's process and the making of inputs are not taken off the time to search in.
    ``over`` tells before that when there is none left.
    """

    stop: Event
    trials: int | None = None
    deadline: Callable[[], float | None] = lambda: None
    over: Callable[[], bool] = lambda: False

    def allow(self, trials: int, until: float | None) -> bool:
        """Whether one more may be proposed when there are ``trials``, before ``until``."""
        if self.stop.is_set() or (self.trials is not None and trials >= self.trials):
            return False
        return until is None or time.monotonic() < until


@dataclass(frozen=True)
class _Ready:
    """A built config on its way to a measuring slot."""

    proposal: Proposal
    built: Built
    fidelity: Fidelity


class Coordinator:
    """Searches one place. ``records`` holds its finished trials, resumed ones included."""

    def __init__(
        self,
        study: Study,
        builder: Builder,
        backend: Backend,
        ledger: Ledger,
        contender: float,
        records: Sequence[TrialRecord] = (),
    ) -> None:
        self._study, self._builder, self._backend = study, builder, backend
        self._ledger, self._contender = ledger, contender
        self.records = list(records)
        self._ready: deque[_Ready] = deque()
        self._building: dict[BuildFuture, Proposal] = {}
        self._running: dict[Future[Measurement], _Ready] = {}

    def run(self, first: Sequence[Any], limits: Limits, on_trial: OnTrial) -> None:
        """Tries ``first``, then what the sampler proposes, until the limits or the space end it.

        On ``limits.stop`` it leaves what is in flight; otherwise it waits for it.
        """
        wanted = deque(config for config in first if config not in self._study.tried)
        until = limits.deadline()
        while not limits.stop.is_set():
            self._dispatch()
            proposed = self._propose(wanted, limits, until)
            if not self._building and not self._running:
                return
            # A proposal costs the sampler some 50 ms, in which a card may fall idle: results are
            # looked at after each one, and waited for only when there is nothing to propose.
            futures: list[Future[Any]] = [*self._building, *self._running]
            pause = 0.0 if proposed else TICK_S
            done, _ = wait(futures, timeout=pause, return_when=FIRST_COMPLETED)
            for future in done:
                record = self._settle(future)
                if record is not None:
                    on_trial(record)
        self._drop()

    @property
    def best_us(self) -> float | None:
        """Best time so far."""
        times = [r.time_us for r in self.records if r.status is TrialStatus.OK and r.time_us]
        return min(times, default=None)

    def _propose(self, wanted: deque[Any], limits: Limits, until: float | None) -> bool:
        """Sends one more config to be built; False when that is enough for now."""
        ahead = len(self._building) + len(self._ready)
        in_flight = ahead + len(self._running)
        trials = len(self.records) + in_flight
        if ahead >= self._builder.depth or not limits.allow(trials, until):
            return False
        proposal = self._study.ask(wanted.popleft() if wanted else None)
        if proposal is None:
            return False
        future = self._builder.submit(self._ledger.place.problem, proposal.config)
        self._building[future] = proposal
        return True

    def _dispatch(self) -> None:
        while self._ready and len(self._running) < self._backend.slots:
            ready = self._ready.popleft()
            candidate = Candidate(ready.proposal.config, ready.built)
            self._running[self._backend.submit(candidate, ready.fidelity)] = ready

    def _settle(self, future: Future[Any]) -> TrialRecord | None:
        """Takes in one result; the trial it ends, if it ends one."""
        if future in self._building:
            proposal = self._building.pop(future)
            [built] = future.result()
            if isinstance(built, BuildError):
                return self._finish(proposal, self._ledger.failed_build(proposal.config, built))
            self._ready.append(_Ready(proposal, built, Fidelity.SHORT))
            return None
        ready, measurement = self._running.pop(future), future.result()
        if ready.fidelity is Fidelity.SHORT and self._contends(measurement):
            self._ready.appendleft(_Ready(ready.proposal, ready.built, Fidelity.FULL))
            return None
        return self._finish(ready.proposal, self._ledger.measured(measurement, ready.built))

    def _contends(self, measurement: Measurement) -> bool:
        if measurement.time_us is None:
            return False
        return self.best_us is None or measurement.time_us <= self._contender * self.best_us

    def _finish(self, proposal: Proposal, record: TrialRecord) -> TrialRecord:
        self.records.append(record)
        self._study.tell(proposal, record)
        return record

    def _drop(self) -> None:
        for ready in (*self._ready, *self._running.values()):
            self._study.drop(ready.proposal)
        for proposal in self._building.values():
            self._study.drop(proposal)
