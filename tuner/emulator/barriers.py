"""Barriers: the sixteen barriers of every CTA of a cohort (PTX ISA 9.7.13.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.emulator.cohort import Cohort
from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.control import Barrier, barrier_number
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.ptx import Instruction

COUNT = 16


@dataclass(frozen=True)
class Arrival:
    """``passes``: the lanes that came go on at once. Of those that wait, ``released`` ones go on,
    who may have come just now; None for nobody."""

    passes: bool
    released: Array | None


@dataclass(frozen=True)
class _Waiting:
    """Who waits at one barrier: by lane; ``arrived`` threads [CTAs] that do not wait."""

    barrier: Barrier
    found: Instruction
    lanes: Array
    arrived: Array
    expected: Array | None


class Barriers:
    """Counts arrivals. A CTA's epoch grows with every barrier that all its threads passed."""

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort
        self._threads = cohort.alive.copy()
        self._waiting: dict[int, _Waiting] = {}
        self._came_from = np.zeros(cohort.lanes, np.int64)

    def arrive(self, barrier: Barrier, found: Instruction, pc: int, mask: Array) -> Arrival:
        """The lanes of ``mask`` come to ``barrier``. Raises EmulationFault for divergence."""
        cohort = self._cohort
        numbers = np.unique(cohort.broadcast(barrier.number(cohort))[mask])
        if barrier.action == "sync" and barrier.count is None and not self._waiting:
            by_cta, alive = self._by_cta(mask), self._by_cta(cohort.alive)
            came = np.asarray(by_cta.any(axis=1))
            if np.array_equal(by_cta[came], alive[came]):
                self._check_left(found, came)
                cohort.epoch += came.astype(np.uint32)
                return Arrival(True, None)
        self._came_from[mask] = pc
        released = np.zeros_like(mask)
        for value in numbers:
            number = barrier_number(int(value), found)
            here = mask & (cohort.broadcast(barrier.number(cohort)) == value)
            self._join(number, barrier, found, here)
            released |= self._open(number)
        return Arrival(barrier.action == "arrive", released)

    def after_exit(self) -> Array | None:
        """Lanes that go on because the threads they waited for have left; None for nobody."""
        if not self._waiting:
            return None
        released = np.zeros(self._cohort.lanes, np.bool_)
        for number in list(self._waiting):
            released |= self._open(number)
        return released

    def _join(self, number: int, barrier: Barrier, found: Instruction, mask: Array) -> None:
        cohort = self._cohort
        before = self._waiting.get(number)
        lanes = np.zeros_like(mask) if before is None else before.lanes
        arrived = np.zeros(len(cohort.ctas), np.int64) if before is None else before.arrived
        expected = None if before is None else before.expected
        if barrier.count is not None:
            count = np.where(mask, cohort.broadcast(barrier.count(cohort)), 0).astype(np.int64)
            named = self._by_cta(count).max(axis=1)
            expected = named if expected is None else np.maximum(expected, named)
        if barrier.action == "arrive":
            arrived = arrived + np.count_nonzero(self._by_cta(mask), axis=1)
        else:
            lanes = lanes | mask
        self._waiting[number] = _Waiting(barrier, found, lanes, arrived, expected)

    def _open(self, number: int) -> Array:
        """Lanes whose CTA's barrier is complete; they no longer wait."""
        at, cohort = self._waiting[number], self._cohort
        here = np.count_nonzero(self._by_cta(at.lanes), axis=1) + at.arrived
        alive = np.count_nonzero(self._by_cta(cohort.alive), axis=1)
        expected = alive if at.expected is None else np.where(at.expected > 0, at.expected, alive)
        complete = np.logical_and(here >= expected, here > 0)
        if not complete.any():
            return np.zeros_like(at.lanes)
        if at.expected is None:
            self._check_left(at.found, complete)
        released: Array = at.lanes & np.repeat(complete, cohort.width)
        if at.barrier.aligned:
            self._check_warps(at, released)
        if at.barrier.action == "red":
            self._reduce(at, released)
        cohort.epoch += complete.astype(np.uint32)
        left = at.lanes & ~released
        arrived = np.where(complete, 0, at.arrived)
        if left.any() or arrived.any():
            self._waiting[number] = _Waiting(at.barrier, at.found, left, arrived, at.expected)
        else:
            del self._waiting[number]
        return released

    def _reduce(self, at: _Waiting, lanes: Array) -> None:
        """``bar.red``: every thread gets the count, the and or the or of all predicates."""
        cohort, barrier = self._cohort, at.barrier
        assert barrier.operand is not None and barrier.result is not None
        mask, writes = cohort.mask, cohort.writes
        cohort.execute(lanes, lanes)
        holds = self._by_cta(cohort.broadcast(barrier.operand(cohort)) & lanes)
        count, of = np.count_nonzero(holds, axis=1), np.count_nonzero(self._by_cta(lanes), axis=1)
        value = {"popc": count.astype(np.uint32), "and": count == of, "or": count > 0}
        barrier.result(cohort, np.repeat(value[str(barrier.reduce)], cohort.width))
        cohort.execute(mask, writes)

    def _check_left(self, found: Instruction, complete: Array) -> None:
        """A barrier of all threads that some never reach: they have left the kernel."""
        cohort = self._cohort
        gone = self._by_cta(self._threads & ~cohort.alive) & complete[:, None]
        if gone.any():
            lane = int(np.flatnonzero(gone.reshape(-1))[0])
            what = f"left the kernel before the other {int((~gone).sum())} threads came here"
            raise EmulationFault(FaultKind.BARRIER, cohort, lane, found, what)

    def _check_warps(self, at: _Waiting, lanes: Array) -> None:
        """An aligned barrier has to be one instruction for all threads of a warp."""
        far = np.iinfo(np.int64).max
        places, here = self._came_from.reshape(-1, WARP), lanes.reshape(-1, WARP)
        first = places.min(axis=1, where=here, initial=far)
        torn = here & (places != first[:, None])
        if torn.any():
            lane = int(np.flatnonzero(torn.reshape(-1))[0])
            what = "and others of its warp came to different barrier instructions"
            raise EmulationFault(FaultKind.BARRIER, self._cohort, lane, at.found, what)

    def _by_cta(self, lanes: Array) -> Array:
        return np.asarray(lanes).reshape(len(self._cohort.ctas), -1)
