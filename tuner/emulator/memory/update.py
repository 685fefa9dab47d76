"""Update: what an atomic instruction does to a place in memory, for many lanes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.arena import Arena


@dataclass(frozen=True)
class Update:
    """``combine(old, *operands)`` gives the new bits, for arrays of unsigned integers [n].

    ``operands`` are [lanes]. ``associative``: with one operand, and combining two operands first
    makes no difference.
    """

    combine: Callable[..., Array]
    operands: tuple[Array, ...]
    associative: bool

    def part(self, chosen: Array | None) -> Update:
        """The same for some of the lanes; None for all."""
        if chosen is None:
            return self
        operands = tuple(operand[chosen] for operand in self.operands)
        return Update(self.combine, operands, self.associative)

    def apply(self, arena: Arena, offset: Array, width: int) -> tuple[Array, Array]:
        """Updates the arena lane after lane, lower ones first; (old, new) bits as each saw them."""
        order = np.argsort(offset, kind="stable")
        place = offset[order]
        first = np.ones(len(place), np.bool_)
        first[1:] = place[1:] != place[:-1]
        operands = tuple(operand[order] for operand in self.operands)
        before = arena.gather(place, width, width)[:, 0]
        if first.all():
            old, new = before, self.combine(before, *operands)
        elif self.associative:
            old, new = self._scan(before, first, operands[0])
        else:
            old, new = self._one_by_one(before, first, operands)
        # Lanes of one place are in order, and of the writes to one place the last stays.
        arena.scatter(place, new[:, None])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return old[back], new[back]

    def _scan(self, before: Array, first: Array, operand: Array) -> tuple[Array, Array]:
        """Runs of lanes at one place, combined in log2(lanes) steps (Hillis and Steele, 1986)."""
        start = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
        reach = np.arange(len(first)) - start
        sums, step = operand, 1
        while step <= int(reach.max()):
            joined = self.combine(sums[:-step], sums[step:])
            sums = sums.copy()
            sums[step:] = np.where(reach[step:] >= step, joined, sums[step:])
            step *= 2
        new = self.combine(before, sums)
        old = before.copy()
        old[1:] = np.where(first[1:], before[1:], new[:-1])
        return old, new

    def _one_by_one(
        self, before: Array, first: Array, operands: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        """Round r updates the r-th lane of every place."""
        indices = np.arange(len(first))
        rank = indices - np.maximum.accumulate(np.where(first, indices, 0))
        by_rank = np.argsort(rank, kind="stable")
        old, new = before.copy(), np.empty_like(before)
        for now in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]):
            again = now[rank[now] > 0]
            old[again] = new[again - 1]
            new[now] = self.combine(old[now], *(operand[now] for operand in operands))
        return old, new
