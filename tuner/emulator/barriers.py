"""Barriers: the sixteen barriers of every CTA of a cohort (PTX ISA, "bar, barrier")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.emulator.cohort import Cohort
from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.control import Barrier
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.ptx import Instruction

COUNT = 16
_NOWHERE = -1


@dataclass(frozen=True)
class Arrival:
    """``passes``: the lanes that came go on at once. Of those that wait, ``released`` ones go on,
    who may have come just now; None for nobody."""

    passes: bool
    released: Array | None


class Barriers:
    """Counts arrivals. CTAs and warps may come to one barrier by different instructions.

    A CTA's epoch grows with each barrier that opens, even one that only a part of its threads came
    to: what the others do next counts as ordered too, so that a race with them may be missed.
    """

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort
        self._threads = cohort.alive.copy()
        # By lane: the barrier it waits at, where it came to it, what it brought to a bar.red.
        self._number = np.full(cohort.lanes, _NOWHERE, np.int8)
        self._place = np.zeros(cohort.lanes, np.int64)
        self._holds = np.zeros(cohort.lanes, np.bool_)
        # By barrier and CTA: arrivals that do not wait, and the count named; 0 means everyone.
        self._arrived = np.zeros((COUNT, len(cohort.ctas)), np.int64)
        self._expected = np.zeros_like(self._arrived)
        self._begun: set[int] = set()
        self._met: dict[int, tuple[Barrier, Instruction]] = {}  # by program counter

    def arrive(self, barrier: Barrier, found: Instruction, pc: int, mask: Array) -> Arrival:
        """The lanes of ``mask`` come to ``barrier``. Raises EmulationFault for divergence."""
        cohort = self._cohort
        number = barrier.number(cohort)
        values = number if len(number) == 1 else np.unique(number[mask])
        numbers = [int(value) for value in values]
        for one in numbers:
            if not 0 <= one < COUNT:
                raise self._fault(mask, found, f"names barrier {one}: there are 0 to {COUNT - 1}")
        alone = len(numbers) == 1 and not self._begun
        if alone and barrier.action == "sync" and barrier.count is None:
            by_cta, alive = self._by_cta(mask), self._by_cta(cohort.alive)
            came = np.asarray(by_cta.any(axis=1))
            if np.array_equal(by_cta[came], alive[came]):
                self._check_left(found, came)
                cohort.epoch += came.astype(np.uint32)
                self._tell(pc, int(np.count_nonzero(came)))
                return Arrival(True, None)
        self._met[pc] = barrier, found
        self._place[mask] = pc
        released = np.zeros_like(mask)
        for one in numbers:
            self._join(one, barrier, found, mask & (cohort.broadcast(number) == one))
            released |= self._open(one)
        return Arrival(barrier.action == "arrive", released)

    def after_exit(self) -> Array | None:
        """Lanes that go on because the threads they waited for have left; None for nobody."""
        if not self._begun:
            return None
        released = np.zeros(self._cohort.lanes, np.bool_)
        for number in sorted(self._begun):
            released |= self._open(number)
        return released

    def _join(self, number: int, barrier: Barrier, found: Instruction, mask: Array) -> None:
        cohort = self._cohort
        self._begun.add(number)
        if barrier.count is not None:
            named = np.where(mask, cohort.broadcast(barrier.count(cohort)), 0).astype(np.int64)
            odd = mask & ((named == 0) | (named % WARP != 0))
            if odd.any():
                what = f"names {int(named[odd][0])} threads: a barrier takes a multiple of {WARP}"
                raise self._fault(odd, found, what)
            most = self._by_cta(named).max(axis=1)
            self._expected[number] = np.maximum(self._expected[number], most)
        if barrier.operand is not None:
            self._holds[mask] = cohort.broadcast(barrier.operand(cohort))[mask]
        if barrier.action == "arrive":
            self._arrived[number] += self._brought(mask)
        else:
            self._number[mask] = number

    def _open(self, number: int) -> Array:
        """Lanes whose CTA's barrier is complete; they no longer wait."""
        cohort, expected = self._cohort, self._expected[number]
        waiting = self._number == number
        here = np.count_nonzero(self._by_cta(waiting), axis=1)
        alive = np.count_nonzero(self._by_cta(cohort.alive), axis=1)
        counted = expected > 0
        if counted.any():
            here = np.where(counted, self._brought(waiting) + self._arrived[number], here)
        complete = (here > 0) & (here >= np.where(counted, expected, alive))
        released: Array = waiting & np.repeat(complete, cohort.width)
        if complete.any():
            self._release(released, complete & ~counted)
            self._number[released] = _NOWHERE
            self._arrived[number, complete] = expected[complete] = 0
            cohort.epoch += complete.astype(np.uint32)
        if not (waiting & ~released).any() and not self._arrived[number].any():
            self._begun.discard(number)
        return released

    def _release(self, released: Array, everyone: Array) -> None:
        """Checks who leaves the barrier, in CTAs where ``everyone`` was to come and in others."""
        by_cta = self._by_cta(released)
        some = np.flatnonzero(by_cta.any(axis=1))
        first = self._place[by_cta.argmax(axis=1)[some] + some * self._cohort.width]
        for place, ctas in zip(*np.unique(first, return_counts=True), strict=True):
            self._tell(int(place), int(ctas))
        for place in np.unique(first):
            at = np.zeros_like(everyone)
            at[some] = first == place
            self._check_left(self._met[int(place)][1], at & everyone)
        self._check_warps(released)
        self._reduce(released)

    def _reduce(self, lanes: Array) -> None:
        """``bar.red``: every thread gets the count, the and or the or of all predicates."""
        cohort = self._cohort
        mask, writes = cohort.mask, cohort.writes
        count = np.count_nonzero(self._by_cta(self._holds & lanes), axis=1)
        of = np.count_nonzero(self._by_cta(lanes), axis=1)
        value = {"popc": count.astype(np.uint32), "and": count == of, "or": count > 0}
        for place in np.unique(self._place[lanes]):
            barrier, _ = self._met[int(place)]
            if barrier.result is not None:
                here = lanes & (self._place == place)
                cohort.execute(here, here)
                barrier.result(cohort, np.repeat(value[str(barrier.reduce)], cohort.width))
        cohort.execute(mask, writes)

    def _brought(self, lanes: Array) -> Array:
        """Threads that ``lanes`` count for, [CTAs]: an arriving warp counts as whole, so
        that the first one that lives also brings those that are no more."""
        alive = self._cohort.alive.reshape(-1, WARP)
        weight = alive.astype(np.int64)
        weight[np.arange(len(alive)), alive.argmax(axis=1)] += np.count_nonzero(~alive, axis=1)
        return np.asarray(self._by_cta(weight.reshape(-1) * lanes).sum(axis=1))

    def _fault(self, lanes: Array, found: Instruction, what: str) -> EmulationFault:
        lane = int(np.flatnonzero(lanes)[0])
        return EmulationFault(FaultKind.BARRIER, self._cohort, lane, found, what)

    def _tell(self, pc: int, ctas: int) -> None:
        if self._cohort.counters is not None:
            self._cohort.counters.barrier(pc, ctas)

    def _check_left(self, found: Instruction, complete: Array) -> None:
        """A barrier of all threads that some never reach: they have left the kernel."""
        cohort = self._cohort
        gone = self._by_cta(self._threads & ~cohort.alive) & complete[:, None]
        if gone.any():
            cta = int(np.flatnonzero(gone.any(axis=1))[0])
            others = int(np.count_nonzero(self._by_cta(cohort.alive)[cta]))
            what = f"left the kernel before the other {others} threads came here"
            raise self._fault(gone.reshape(-1), found, what)

    def _check_warps(self, lanes: Array) -> None:
        """An aligned barrier has to be one instruction for all threads of a warp."""
        far = np.iinfo(np.int64).max
        places, here = self._place.reshape(-1, WARP), lanes.reshape(-1, WARP)
        first = places.min(axis=1, where=here, initial=far)
        for lane in np.flatnonzero(here & (places != first[:, None])):
            barrier, found = self._met[int(self._place[lane])]
            if barrier.aligned:
                what = "and others of its warp came to different barrier instructions"
                raise EmulationFault(FaultKind.BARRIER, self._cohort, int(lane), found, what)

    def _by_cta(self, lanes: Array) -> Array:
        return np.asarray(lanes).reshape(len(self._cohort.ctas), -1)
