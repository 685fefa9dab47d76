"""Crew: the identical cards of a box, which share the work of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeVar

from tuner.backends.base import Fidelity, Measurement
from tuner.job import Job, Setting
from tuner.member import Deadlines, Member

T = TypeVar("T")


class Crew:
    """``submit`` goes to whichever card is free first, ``prepare`` and ``finals`` to each of them.

    ``cards`` maps a card's uuid to the arguments of its measurer's constructor; ``factory`` is
    "module:Class" of the measurer.
    """

    def __init__(
        self,
        factory: str,
        cards: Mapping[str, tuple[Any, ...]],
        deadlines: Deadlines | None = None,
    ) -> None:
        limits = deadlines or Deadlines()
        self._members = [Member(uuid, factory, args, limits) for uuid, args in cards.items()]
        self._idle: SimpleQueue[Member] = SimpleQueue()
        for member in self._members:
            self._idle.put(member)
        self._threads = ThreadPoolExecutor(len(self._members))
        self._setting: Setting | None = None

    def prepare(self, setting: Setting) -> None:
        """What later jobs are measured for. Raises UserError when it does not fit on a card."""
        self._setting = setting
        self._everyone(lambda member: member.prepare(setting))

    def submit(self, job: Job, fidelity: Fidelity) -> Future[Measurement]:
        """A config's failure is its Measurement; the future raises when the measurer is broken."""
        return self._threads.submit(self._evaluate, self._prepared(), job, fidelity)

    def finals(self, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        """Every job on every card, on inputs from a new seed: card by card, in the jobs' order."""
        setting = replace(self._prepared(), seed=seed)
        per_card = self._everyone(lambda member: member.finals(setting, jobs, seed))
        return [measurement for results in per_card for measurement in results]

    def close(self) -> None:
        """Kill the children; what waits is cancelled. May be called twice."""
        for member in self._members:
            member.close()
        self._threads.shutdown(cancel_futures=True)

    def _prepared(self) -> Setting:
        assert self._setting is not None, "prepare comes first"
        return self._setting

    def _evaluate(self, setting: Setting, job: Job, fidelity: Fidelity) -> Measurement:
        # As many threads as members: there is always an idle one.
        member = self._idle.get()
        try:
            return member.evaluate(setting, job, fidelity)
        finally:
            self._idle.put(member)

    def _everyone(self, action: Callable[[Member], T]) -> list[T]:
        with ThreadPoolExecutor(len(self._members)) as threads:
            return list(threads.map(action, self._members))
