"""Machine: executes a cohort's CTAs, from one point where lanes part or wait to the next.

Lanes that part at a branch are executed one group after the other, the group at the lowest program
counter first: compilers lay code out so that paths meet again further down, and there the groups
become one. A warp's threads gather at collective instructions, a CTA's at barriers. A loop that
polls memory gives way to the other lanes, and to other cohorts when those wait too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from tuner.emulator.barriers import Barriers
from tuner.emulator.cohort import Cohort
from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.control import Barrier, Branch, Leave, Switch
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.isa.warp import ballot, to_lanes
from tuner.emulator.program import Program

MOST_LOOKS = 64  # of lanes that poll, before other CTAs have their turn


class State(IntEnum):
    """What a lane does."""

    RUN = 0
    GATHER = 1  # waits for its warp at a collective instruction
    BARRIER = 2
    POLL = 3  # came round a loop that reads memory, in vain
    DONE = 4


@dataclass(frozen=True)
class _Group:
    """Lanes that are executed together; ``whole``: each warp with all that live of it."""

    mask: Array
    lanes: int
    warps: int
    whole: bool


class Machine:
    """Runs one cohort. ``issued`` counts warp instructions, ``threads`` thread instructions."""

    def __init__(self, program: Program, cohort: Cohort, budget: int) -> None:
        self.program, self.cohort, self.budget = program, cohort, budget
        self.issued = self.threads = 0
        self._pc = np.zeros(cohort.lanes, np.int64)
        self._state = np.where(cohort.alive, State.RUN, State.DONE).astype(np.uint8)
        self._barriers = Barriers(cohort)
        self._seen = -1  # memory.changes when the polling lanes last looked
        self._before: list[Array] = []  # what stands() saw

    def run(self, *, again: bool = False) -> bool:
        """True when every thread has left; False when all that live wait for other CTAs.

        Lanes that poll look again only after memory has changed, or once if ``again``; after some
        looks in vain the other CTAs have their turn, since only these may end the waiting. Raises
        EmulationFault for what the kernel does wrong.
        """
        if again:
            self._seen = -1
        looks = 0
        while True:
            running = self._state == State.RUN
            if running.any():
                first = self._pc.min(where=running, initial=len(self.program.steps))
                self._advance(int(first), running & (self._pc == first), running)
            elif (self._state == State.DONE).all():
                return True
            elif looks == MOST_LOOKS or not self._resume_polling():
                return False
            else:
                looks += 1

    def stands(self) -> bool:
        """Whether all is as it was at the last call: with the same memory it stays so for ever."""
        before = self._before
        self._before = [self._pc.copy(), self._state.copy(), *self.cohort.registers]
        return bool(before) and all(map(np.array_equal, before, self._before))

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
        others = running & ~mask
        meet = int(self._pc.min(where=others, initial=len(program.controls) + 1))
        group = self._group(mask)
        everyone = group.lanes == cohort.lanes
        alone = np.array_equal(mask, cohort.alive)
        cohort.execute(None if everyone else mask, None if alone else mask)
        place: int | None = pc
        while place is not None and place < meet:
            pc = place
            if pc == len(program.controls):  # running off the end is a return
                place = self._leave(Leave(None, trap=False), pc, mask)
            elif program.controls[pc] is None:
                place = self._run_straight(pc, min(program.ends[pc], meet), group)
            else:
                place = self._control(pc, group)
        if place is not None:
            self._pc[mask] = place

    def _group(self, mask: Array) -> _Group:
        per_warp = np.count_nonzero(mask.reshape(-1, WARP), axis=1)
        alive = np.count_nonzero(self.cohort.alive.reshape(-1, WARP), axis=1)
        return _Group(
            mask=mask,
            lanes=int(per_warp.sum()),
            warps=int(np.count_nonzero(per_warp)),
            whole=bool(((per_warp == 0) | (per_warp == alive)).all()),
        )

    def _run_straight(self, pc: int, end: int, group: _Group) -> int | None:
        """Executes up to ``end``; a group that holds parts of warps gathers at collectives."""
        if group.whole:
            self._straight(pc, end, group)
            return end
        stop = min(end, self.program.next_collective[pc])
        self._straight(pc, stop, group)
        if stop == end:
            return end
        if not self._gather(stop, group.mask):
            return None
        self._straight(stop, stop + 1, group)
        return stop + 1

    def _control(self, pc: int, group: _Group) -> int | None:
        """Executes a control instruction; None when the group is no more."""
        control = self.program.controls[pc]
        self._count(pc, pc + 1, group)
        if isinstance(control, Branch):
            return self._branch(control, pc, group)
        if isinstance(control, Switch):
            self._switch(control, pc, group.mask)
            return None
        if isinstance(control, Leave):
            return self._leave(control, pc, group.mask)
        assert control is not None
        return self._barrier(control, pc, group.mask)

    def _straight(self, start: int, stop: int, group: _Group) -> None:
        self._count(start, stop, group)
        cohort = self.cohort
        for step in self.program.steps[start:stop]:
            step(cohort)  # type: ignore[misc]  # a straight run holds no control instruction

    def _count(self, start: int, stop: int, group: _Group) -> None:
        self.issued += group.warps * (stop - start)
        self.threads += group.lanes * (stop - start)
        if self.cohort.counters is not None:
            self.cohort.counters.executed(start, stop, group.warps, group.lanes)
        if self.issued > self.budget:
            lane = int(np.flatnonzero(self.cohort.active)[0])
            found = self.program.instructions[start]
            what = (
                f"is still running after {self.budget:,} warp instructions: a loop without end, or "
                "raise the budget"
            )
            raise EmulationFault(FaultKind.BUDGET, self.cohort, lane, found, what)

    def _branch(self, branch: Branch, pc: int, group: _Group) -> int | None:
        """Where all lanes go on, or None when they parted or gave way."""
        mask, polled = group.mask, self.cohort.polled
        taken, count = mask, group.lanes
        if branch.guard is not None:
            taken = mask & branch.guard(self.cohort)
            count = int(np.count_nonzero(taken))
        if count == 0:
            return pc + 1
        backward = branch.target <= pc
        if count == group.lanes and not (backward and polled.any()):
            return branch.target
        self._pc[mask] = pc + 1
        self._pc[taken] = branch.target
        if backward:
            self._give_way(taken)
        if self.cohort.counters is not None and count < group.lanes:
            split = _any_by_warp(taken) & _any_by_warp(mask & ~taken)
            self.cohort.counters.divergent(pc, int(np.count_nonzero(split)))
        return None

    def _switch(self, switch: Switch, pc: int, mask: Array) -> None:
        """Sends every lane to the target that it names."""
        index = self.cohort.broadcast(switch.index(self.cohort))
        beyond = mask & (index >= len(switch.targets))
        if beyond.any():
            lane = int(np.flatnonzero(beyond)[0])
            what = f"takes index {int(index[lane])} of {len(switch.targets)} branch targets"
            found = self.program.instructions[pc]
            raise EmulationFault(FaultKind.OUT_OF_BOUNDS, self.cohort, lane, found, what)
        self._pc[mask] = np.array(switch.targets)[index[mask]]
        self._give_way(mask & (self._pc <= pc))

    def _give_way(self, back: Array) -> None:
        """Of the lanes that went ``back``, those that have read memory in vain let others run."""
        polling = back & self.cohort.polled
        self._state[polling] = State.POLL
        self.cohort.polled[polling] = False

    def _leave(self, leave: Leave, pc: int, mask: Array) -> int | None:
        """None, or the next instruction when the guard held for none."""
        gone = mask
        if leave.guard is not None:
            gone = mask & leave.guard(self.cohort)
            if not gone.any():
                return pc + 1
        if leave.trap:
            lane = int(np.flatnonzero(gone)[0])
            found = self.program.instructions[pc]
            raise EmulationFault(FaultKind.TRAP, self.cohort, lane, found, "came to a trap")
        self._pc[mask] = pc + 1
        self._state[gone] = State.DONE
        self.cohort.alive &= ~gone
        self._release(self._barriers.after_exit())
        self._regather()
        return None

    def _barrier(self, barrier: Barrier, pc: int, mask: Array) -> int | None:
        """The next instruction, or None when lanes wait."""
        found = self.program.instructions[pc]
        arrived = self._barriers.arrive(barrier, found, pc, mask)
        if not arrived.passes:
            self._pc[mask] = pc + 1
            self._state[mask] = State.BARRIER
        self._release(arrived.released)
        return pc + 1 if arrived.passes else None

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
        absent = to_lanes(ballot(cohort.alive & ~present))
        if collective.members is not None:
            absent = absent & collective.members(cohort)
        return np.asarray(present & (absent == 0))

    def _step_over(self, pc: int, lanes: Array) -> None:
        """Executes the collective at ``pc`` for warps that have gathered."""
        if not lanes.any():
            return
        self.cohort.execute(lanes, lanes)
        self._straight(pc, pc + 1, self._group(lanes))
        self._pc[lanes] = pc + 1

    def _stuck(self, lane: int) -> EmulationFault:
        """All wait for threads that never come."""
        gathers = self._state[lane] == State.GATHER  # at the instruction, not behind a barrier
        found = self.program.instructions[int(self._pc[lane]) - (0 if gathers else 1)]
        waiting = int(np.count_nonzero(self._state != State.DONE))
        what = f"waits for ever: {waiting} threads wait, at different places or for some that left"
        return EmulationFault(FaultKind.BARRIER, self.cohort, lane, found, what)

    def deadlock(self) -> EmulationFault:
        """The fault to raise when no other CTA can change what this one polls."""
        lane = int(np.flatnonzero(self._state == State.POLL)[0])
        found = self.program.instructions[int(self._pc[lane])]
        what = "polls memory that no other CTA will change any more"
        return EmulationFault(FaultKind.DEADLOCK, self.cohort, lane, found, what)


def _any_by_warp(lanes: Array) -> Array:
    return np.asarray(lanes.reshape(-1, WARP).any(axis=1))
