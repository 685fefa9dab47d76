"""Counters: what a launch would have cost the hardware, per kernel and per line of PTX.

The machine tells what it issued and memory what was accessed; nothing here changes what runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

from tuner.emulator.banks import SharedCounts, bank_use
from tuner.emulator.counts import LineCounts, Totals
from tuner.emulator.isa.shape import mma_shape
from tuner.emulator.isa.values import Array
from tuner.emulator.opcode_class import opcode_class
from tuner.emulator.patterns import Patterns
from tuner.emulator.ptx import Instruction
from tuner.emulator.sectors import GlobalCounts, sector_use

_Counts = TypeVar("_Counts", SharedCounts, GlobalCounts)


class Counters:
    """Counts for the instructions of one program, in the order of its text."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = tuple(instructions)
        size = len(self.instructions)
        # Where a straight run began and behind its end: a running sum gives the counts.
        self._warps = [0] * (size + 1)
        self._threads = [0] * (size + 1)
        self._off = [0] * size
        self._divergent = [0] * size
        self._barriers = [0] * size
        self._shared: dict[tuple[int, str], SharedCounts] = {}
        self._globals: dict[tuple[int, str], GlobalCounts] = {}
        self._banks = Patterns(bank_use)
        self._atomics = Patterns(partial(bank_use, atomic=True))
        self._sectors = Patterns(sector_use)

    def executed(self, start: int, end: int, warps: int, lanes: int) -> None:
        """Instructions ``start`` to ``end - 1`` were issued by ``warps`` for ``lanes`` threads."""
        self._warps[start] += warps
        self._warps[end] -= warps
        self._threads[start] += lanes
        self._threads[end] -= lanes

    def predicated_off(self, index: int, lanes: int) -> None:
        """The predicate of instruction ``index`` did not hold for ``lanes`` of its threads."""
        self._off[index] += lanes

    def divergent(self, index: int, warps: int) -> None:
        """The branch ``index`` split ``warps``."""
        self._divergent[index] += warps

    def barrier(self, index: int, ctas: int) -> None:
        """The barrier ``index`` opened for ``ctas``."""
        self._barriers[index] += ctas

    def shared(
        self, line: int, kind: str, address: Array, mask: Array | None, bytes_per_lane: int
    ) -> None:
        """An access to shared memory at ``address`` [lanes]; ``mask`` None means all lanes."""
        patterns = self._atomics if kind == "atomic" else self._banks
        counts = patterns.cost(address, mask, bytes_per_lane)
        self._shared[line, kind] = self._shared.get((line, kind), SharedCounts()) + counts

    def globals(
        self, line: int, kind: str, address: Array, mask: Array | None, bytes_per_lane: int
    ) -> None:
        """An access to global memory at ``address`` [lanes]; ``mask`` None means all lanes."""
        counts = self._sectors.cost(address, mask, bytes_per_lane)
        self._globals[line, kind] = self._globals.get((line, kind), GlobalCounts()) + counts

    def merge(self, other: Counters) -> None:
        """Adds what another process counted for the same program. Raises ValueError otherwise."""
        if other.instructions != self.instructions:
            raise ValueError("cannot merge the counters of two programs")
        for name in ("_warps", "_threads", "_off", "_divergent", "_barriers"):
            summed = [a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True)]
            setattr(self, name, summed)
        for place, shared in other._shared.items():
            self._shared[place] = self._shared.get(place, SharedCounts()) + shared
        for place, moved in other._globals.items():
            self._globals[place] = self._globals.get(place, GlobalCounts()) + moved

    def totals(self) -> Totals:
        """Everything, summed over the lines."""
        by_opcode: Counter[str] = Counter()
        by_class: Counter[str] = Counter()
        mma = flops = 0
        warps = _issued(self._warps)
        for found, count in zip(self.instructions, warps, strict=True):
            if count == 0:
                continue
            by_opcode[found.opcode] += count
            by_class[opcode_class(found)] += count
            shape = mma_shape(found.modifiers) if found.root == "mma" else None
            if shape is not None:
                mma += count
                flops += count * shape.flops
        threads = sum(_issued(self._threads))
        return Totals(
            instructions=sum(warps),
            threads=threads,
            threads_on=threads - sum(self._off),
            by_class=dict(by_class.most_common()),
            by_opcode=dict(by_opcode.most_common()),
            mma=mma,
            flops=flops,
            shared=_summed(self._shared, 1, SharedCounts()),
            globals=_summed(self._globals, 1, GlobalCounts()),
            barriers=sum(self._barriers),
            divergent=sum(self._divergent),
        )

    def by_line(self) -> list[LineCounts]:
        """Each line with instructions, in order, executed or not."""
        places: dict[int, list[int]] = {}
        for index, found in enumerate(self.instructions):
            places.setdefault(found.line, []).append(index)
        warps, threads = _issued(self._warps), _issued(self._threads)
        shared = _summed(self._shared, 0, SharedCounts())
        globals_ = _summed(self._globals, 0, GlobalCounts())
        return [
            LineCounts(
                line=line,
                text="; ".join(self.instructions[i].text for i in indices),
                warps=sum(warps[i] for i in indices),
                threads=sum(threads[i] for i in indices),
                threads_on=sum(threads[i] - self._off[i] for i in indices),
                shared=shared.get(line, SharedCounts()),
                globals=globals_.get(line, GlobalCounts()),
                barriers=sum(self._barriers[i] for i in indices),
                divergent=sum(self._divergent[i] for i in indices),
            )
            for line, indices in sorted(places.items())
        ]


def _issued(changes: Sequence[int]) -> list[int]:
    return list(accumulate(changes))[:-1]


def _summed(
    table: Mapping[tuple[int, str], _Counts], part: int, zero: _Counts
) -> dict[Any, _Counts]:
    """The counts by ``part`` 0, the line, or 1, the kind, of their place."""
    summed: dict[Any, _Counts] = {}
    for place, counts in table.items():
        summed[place[part]] = summed.get(place[part], zero) + counts
    return summed
