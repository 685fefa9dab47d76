"""Clocks: which accesses of other CTAs a CTA may count on (vector clocks; Mattern, 1988).

A CTA's time grows with its fences. What happened up to a fence goes with every strong write that
follows it to whoever reads that place strongly, and counts for the reader from its next fence on
(PTX ISA, "Release and Acquire Patterns"). Clocks are those of whole CTAs: within one, barriers
are what orders the threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Order

# Time by CTA, of those that one knows something about.
Clock: TypeAlias = "dict[int, int]"

_CTA_BITS = 22
LAST_CTA = (1 << _CTA_BITS) - 2  # keys of accesses hold a CTA's number plus one


class Clocks:
    """``version`` changes whenever some CTA's time does."""

    def __init__(self) -> None:
        self.version = 0
        self._time: Clock = {}
        self._known: dict[int, Clock] = {}
        self._pending: dict[int, Clock] = {}  # read strongly, no fence since
        # Clocks that travel are numbered; 0 is the empty one.
        self._numbered: list[Clock] = [{}]
        self._released: dict[int, int] = {}
        self._joined: dict[tuple[int, int], int] = {}

    def time(self, cta: int) -> int:
        """From 1 on."""
        return self._time.get(cta, 1)

    def fence(self, ctas: Iterable[int]) -> None:
        """What these have read strongly counts, and what they did goes out with what follows."""
        for cta in ctas:
            self._acquire(cta, self._pending.pop(cta, {}))
            self._release(cta)

    def ordered(self, cta: Array, other: Array, time: Array) -> Array:
        """Whether ``cta`` may count on what ``other`` did at ``time``: bool [n]."""
        pairs, inverse = np.unique(cta << _CTA_BITS | other, return_inverse=True)
        known = [self._knows(int(p) >> _CTA_BITS, int(p) & (1 << _CTA_BITS) - 1) for p in pairs]
        result: Array = np.array(known, np.int64)[inverse] >= time
        return result

    def alone(self, cta: Array) -> Array:
        """Which of these have never acquired anything: bool [n]."""
        return ~np.isin(cta, np.array(list(self._known), np.int64))

    def exchange(
        self, carried: Array, granule: Array, cta: Array, *, reads: bool, writes: bool, order: Order
    ) -> None:
        """Strong accesses by ``cta`` [n] to ``granule`` [n], in this order.

        ``carried`` has the number of the clock that lies at each granule. A write leaves the
        writer's, one that reads too adds it to the clock that lay there.
        """
        if order.releases:
            for one in np.unique(cta):
                self._release(int(one))
        if len(self._numbered) == 1:
            return  # no clock has gone out yet
        for now in _rounds(granule, cta):
            place = granule[now]
            pairs, inverse = np.unique(
                carried[place] << np.uint64(_CTA_BITS) | cta[now].astype(np.uint64),
                return_inverse=True,
            )
            after = np.empty_like(pairs)
            for i, pair in enumerate(pairs):
                lay, one = int(pair) >> _CTA_BITS, int(pair) & (1 << _CTA_BITS) - 1
                if reads and lay:
                    self._take(one, self._numbered[lay], at_once=order.acquires)
                mine = self._released.get(one, 0)
                after[i] = self._join(lay, mine) if reads else mine
            if writes:
                carried[place] = after[inverse]

    def _knows(self, cta: int, other: int) -> int:
        return self._known.get(cta, {}).get(other, 0)

    def _take(self, cta: int, clock: Clock, *, at_once: bool) -> None:
        if at_once:
            self._acquire(cta, clock)
        else:
            self._pending[cta] = _latest(self._pending.get(cta, {}), clock)

    def _acquire(self, cta: int, clock: Clock) -> None:
        if clock:
            self._known[cta] = _latest(self._known.get(cta, {}), clock)

    def _release(self, cta: int) -> None:
        time = self.time(cta)
        self._numbered.append({**self._known.get(cta, {}), cta: time})
        self._released[cta] = len(self._numbered) - 1
        self._time[cta] = time + 1
        self.version += 1

    def _join(self, first: int, second: int) -> int:
        if first == second or not second:
            return first
        if not first:
            return second
        if (first, second) not in self._joined:
            self._numbered.append(_latest(self._numbered[first], self._numbered[second]))
            self._joined[first, second] = len(self._numbered) - 1
        return self._joined[first, second]


def _latest(first: Clock, second: Clock) -> Clock:
    """The later time of each CTA. Clocks are never changed: one that says all is the result."""
    if len(first) < len(second):
        first, second = second, first
    later = {cta: time for cta, time in second.items() if first.get(cta, 0) < time}
    return {**first, **later} if later else first


def _rounds(granule: Array, cta: Array) -> list[Array]:
    """Indices such that no round has a granule twice; one CTA's lanes at a granule count once."""
    pairs = granule.astype(np.int64) << _CTA_BITS | cta
    _, first = np.unique(pairs, return_index=True)
    first.sort()
    order = first[np.argsort(granule[first], kind="stable")]
    starts = np.flatnonzero(np.diff(granule[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return [order[rank == r] for r in range(int(rank.max()) + 1)]
