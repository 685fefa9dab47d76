"""Machine: executes a cohort's CTAs, from one point where lanes part or wait to the next.

Lanes that part at a branch are executed one group after the other, the group at the lowest program
counter first: compilers lay code out so that paths meet again further down, and there the groups
become one. A warp's threads gather at collective instructions, a CTA's at barriers. A loop that
polls memory gives way to the other lanes, and to other cohorts when those wait too.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from tuner.emulator.barriers import Barriers
from tuner.emulator.cohort import Cohort
from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.binder import Source
from tuner.emulator.isa.control import Barrier, Branch, Leave, Switch
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.program import Program


class State(IntEnum):
    """What a lane does."""

    RUN = 0
    GATHER = 1  # waits for its warp at a collective instruction
    BARRIER = 2
    POLL = 3  # came round a loop that reads memory, in vain
    DONE = 4


class Machine:
    """Runs one cohort. ``issued`` counts warp instructions, ``threads`` thread instructions."""

    def __init__(self, program: Program, cohort: Cohort, budget: int) -> None:
        self.program, self.cohort, self.budget = program, cohort, budget
        self.issued = self.threads = 0
        self._pc = np.zeros(cohort.lanes, np.int64)
        self._state = np.where(cohort.alive, State.RUN, State.DONE).astype(np.uint8)
        self._barriers = Barriers(cohort)
        self._seen = -1  # memory.changes when the polling lanes last looked

    def run(self, *, again: bool = False) -> bool:
        """True when every thread has left; False when all that live wait for other CTAs.

        Lanes that poll look again only after memory has changed, or once if ``again``. Raises
        EmulationFault for what the kernel does wrong.
        """
        if again:
            self._seen = -1
        while True:
            running = self._state == State.RUN
            if running.any():
                first = self._pc.min(where=running, initial=len(self.program.steps))
                self._advance(int(first), running & (self._pc == first), running)
            elif (self._state == State.DONE).all():
                return True
            elif not self._resume_polling():
                return False

    def _resume_polling(self) -> bool:
        """Lets lanes that poll look again if anything changed since they last did."""
        polling = self._state == State.POLL
        if not polling.any():
            lane = int(np.flatnonzero(self._state != State.DONE)[0])
            raise self._stuck(lane)
        changes = self.cohort.memory.changes
        if changes == self._seen:
            return False
        self._seen = changes
        self._state[polling] = State.RUN
        return True

    def _advance(self, pc: int, mask: Array, running: Array) -> None:
        """Runs the lanes of ``mask`` from ``pc`` until they part, wait, leave or meet others."""
        program, cohort = self.program, self.cohort
        lanes = int(np.count_nonzero(mask))
        others = running & ~mask
        meet = int(self._pc.min(where=others, initial=len(program.steps) + 1))
        alive = cohort.alive
        rest = None if np.array_equal(mask, alive) else mask
        cohort.execute(None if lanes == cohort.lanes else mask, rest)
        per_warp = np.count_nonzero(mask.reshape(-1, WARP), axis=1)
        warps = int(np.count_nonzero(per_warp))
        whole = bool(((per_warp == 0) | (per_warp == self._live_threads())).all())
        while pc < meet:
            if pc == len(program.controls):  # running off the end is a return
                self._leave(Leave(None, negated=False, trap=False), pc, mask)
                return
            control = program.controls[pc]
            if control is None:
                end = min(program.ends[pc], meet)
                stop = end if whole else min(end, program.next_collective[pc])
                self._straight(pc, stop, warps, lanes)
                pc = stop
                if pc < end and not self._gather(pc, mask):
                    return
                if pc < end:
                    self._straight(pc, pc + 1, warps, lanes)
                    pc += 1
                continue
            self._count(pc, pc + 1, warps, lanes)
            if isinstance(control, Branch):
                target = self._branch(control, pc, mask, lanes)
                if target is None:
                    return
                pc = target
            elif isinstance(control, Switch):
                self._switch(control, pc, mask)
                return
            elif isinstance(control, Leave):
                if self._leave(control, pc, mask):
                    return
                pc += 1
            else:
                if not self._barrier(control, pc, mask):
                    return
                pc += 1
        self._pc[mask] = pc

    def _live_threads(self) -> Array:
        return np.count_nonzero(self.cohort.alive.reshape(-1, WARP), axis=1)

    def _straight(self, start: int, stop: int, warps: int, lanes: int) -> None:
        self._count(start, stop, warps, lanes)
        cohort = self.cohort
        for step in self.program.steps[start:stop]:
            step(cohort)  # type: ignore[misc]  # a straight run holds no control instruction

    def _count(self, start: int, stop: int, warps: int, lanes: int) -> None:
        self.issued += warps * (stop - start)
        self.threads += lanes * (stop - start)
        if self.cohort.counters is not None:
            self.cohort.counters.executed(start, stop, warps, lanes)
        if self.issued > self.budget:
            lane = int(np.flatnonzero(self.cohort.active)[0])
            found = self.program.instructions[start]
            what = (
                f"is still running after {self.budget:,} warp instructions: a loop without end, or "
                "raise the budget"
            )
            raise EmulationFault(FaultKind.BUDGET, self.cohort, lane, found, what)

    def _branch(self, branch: Branch, pc: int, mask: Array, lanes: int) -> int | None:
        """Where all lanes go on, or None when they parted or gave way."""
        if branch.predicate is None:
            taken, count = mask, lanes
        else:
            holds = branch.predicate(self.cohort)
            taken = mask & (~holds if branch.negated else holds)
            count = int(np.count_nonzero(taken))
        if count == 0:
            return pc + 1
        backward = branch.target <= pc
        if count == lanes and not (backward and self.cohort.polled.any()):
            return branch.target
        self._pc[mask] = pc + 1
        self._pc[taken] = branch.target
        if backward:
            polling = taken & self.cohort.polled
            self._state[polling] = State.POLL
            self.cohort.polled[polling] = False
        if self.cohort.counters is not None and count < lanes:
            split = (taken.reshape(-1, WARP).any(1)) & ((mask & ~taken).reshape(-1, WARP).any(1))
            for _ in range(int(np.count_nonzero(split))):
                self.cohort.counters.divergent(pc)
        return None

    def _switch(self, switch: Switch, pc: int, mask: Array) -> None:
        index = self.cohort.broadcast(switch.index(self.cohort))
        beyond = mask & (index >= len(switch.targets))
        if beyond.any():
            lane = int(np.flatnonzero(beyond)[0])
            what = f"takes index {int(index[lane])} of {len(switch.targets)} branch targets"
            found = self.program.instructions[pc]
            raise EmulationFault(FaultKind.OUT_OF_BOUNDS, self.cohort, lane, found, what)
        self._pc[mask] = np.array(switch.targets)[index[mask]]

    def _leave(self, leave: Leave, pc: int, mask: Array) -> bool:
        """Whether all lanes of ``mask`` are gone; False when the predicate held for none."""
        gone = mask
        if leave.predicate is not None:
            holds = leave.predicate(self.cohort)
            gone = mask & (~holds if leave.negated else holds)
            if not gone.any():
                return False
        if leave.trap:
            lane = int(np.flatnonzero(gone)[0])
            found = self.program.instructions[pc]
            raise EmulationFault(FaultKind.TRAP, self.cohort, lane, found, "came to a trap")
        self._pc[mask] = pc + 1
        self._state[gone] = State.DONE
        self.cohort.alive &= ~gone
        self._release(self._barriers.after_exit())
        self._regather()
        return True

    def _barrier(self, barrier: Barrier, pc: int, mask: Array) -> bool:
        """Whether the lanes of ``mask`` go on at once."""
        if self.cohort.counters is not None:
            ctas = int(mask.reshape(len(self.cohort.ctas), -1).any(axis=1).sum())
            self.cohort.counters.barrier(pc, ctas)
        found = self.program.instructions[pc]
        arrived = self._barriers.arrive(barrier, found, pc, mask)
        if not arrived.passes:
            self._pc[mask] = pc + 1
            self._state[mask] = State.BARRIER
        self._release(arrived.released)
        return arrived.passes

    def _release(self, released: Array | None) -> None:
        if released is not None:
            self._state[released & (self._state == State.BARRIER)] = State.RUN

    def _gather(self, pc: int, mask: Array) -> bool:
        """Whether all members have come with the lanes of ``mask``; otherwise they wait here."""
        self._pc[mask] = pc
        self._state[mask] = State.GATHER
        complete = self._complete(pc)
        if np.array_equal(complete, mask):
            self._state[mask] = State.RUN
            return True
        self._state[complete] = State.RUN
        self._step_over(pc, complete)
        return False

    def _regather(self) -> None:
        """After threads have left: those who waited for them may go on."""
        waiting = self._state == State.GATHER
        for pc in np.unique(self._pc[waiting]):
            complete = self._complete(int(pc))
            self._state[complete] = State.RUN
            self._step_over(int(pc), complete)

    def _complete(self, pc: int) -> Array:
        """Lanes that wait at the collective ``pc`` and whose fellow members all do."""
        cohort = self.cohort
        present = (self._state == State.GATHER) & (self._pc == pc)
        collective = self.program.collectives[pc]
        assert collective is not None
        needed = cohort.alive.copy()
        if collective.members is not None:
            cohort.execute(present, present)
            needed &= _members(collective.members, cohort, present)
        missing = (needed & ~present).reshape(-1, WARP).any(axis=1)
        return present & ~np.repeat(missing, WARP)

    def _step_over(self, pc: int, lanes: Array) -> None:
        """Executes the collective at ``pc`` for warps that have gathered."""
        if not lanes.any():
            return
        self.cohort.execute(lanes, lanes)
        warps = int(np.count_nonzero(lanes.reshape(-1, WARP).any(axis=1)))
        self._straight(pc, pc + 1, warps, int(np.count_nonzero(lanes)))
        self._pc[lanes] = pc + 1

    def _stuck(self, lane: int) -> EmulationFault:
        """All wait for threads that never come."""
        found = self.program.instructions[int(self._pc[lane]) - 1]
        kind = FaultKind.BARRIER
        if self._state[lane] == State.GATHER:
            found = self.program.instructions[int(self._pc[lane])]
        waiting = int(np.count_nonzero(self._state != State.DONE))
        what = f"waits for ever: {waiting} threads wait, at different places or for some that left"
        return EmulationFault(kind, self.cohort, lane, found, what)

    def deadlock(self) -> EmulationFault:
        """The fault to raise when no other CTA can change what this one polls."""
        lane = int(np.flatnonzero(self._state == State.POLL)[0])
        found = self.program.instructions[int(self._pc[lane])]
        what = "polls memory that no other CTA will change any more"
        return EmulationFault(FaultKind.DEADLOCK, self.cohort, lane, found, what)


def _members(members: Source, cohort: Cohort, present: Array) -> Array:
    """Whom the member masks of the present threads name, [lanes]."""
    named = np.where(present, cohort.broadcast(members(cohort)), np.uint32(0))
    of_warp = np.bitwise_or.reduce(named.reshape(-1, WARP), axis=1)
    bits = of_warp[:, None] >> np.arange(WARP, dtype=np.uint32) & np.uint32(1)
    return bits.astype(np.bool_).reshape(-1)
