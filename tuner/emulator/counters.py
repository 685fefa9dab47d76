"""Counters: what a launch would have cost the hardware, per kernel and per line of PTX.

The machine tells what it issued and memory what was accessed; nothing here changes what runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tuner.emulator.banks import bank_use
from tuner.emulator.counts import GlobalCounts, LineCounts, SharedCounts, Totals
from tuner.emulator.isa.shape import mma_shape
from tuner.emulator.isa.values import Array
from tuner.emulator.opcode_class import opcode_class
from tuner.emulator.ptx import Instruction
from tuner.emulator.sectors import sector_use

# Access patterns remembered; a pattern is about 8 KiB.
_PATTERNS = 1024


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
        self._shared: dict[tuple[int, str], list[int]] = {}
        self._globals: dict[tuple[int, str], list[int]] = {}
        self._patterns: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def executed(self, start: int, end: int, warps: int, lanes: int) -> None:
        """Instructions ``start`` to ``end - 1`` were issued by ``warps`` for ``lanes`` threads."""
        self._warps[start] += warps
        self._warps[end] -= warps
        self._threads[start] += lanes
        self._threads[end] -= lanes

    def predicated_off(self, index: int, lanes: int) -> None:
        """The predicate of instruction ``index`` did not hold for ``lanes`` of its threads."""
        self._off[index] += lanes

    def divergent(self, index: int) -> None:
        """The branch ``index`` split a warp."""
        self._divergent[index] += 1

    def barrier(self, index: int, ctas: int) -> None:
        """``ctas`` came to the barrier ``index``."""
        self._barriers[index] += ctas

    def shared(
        self, line: int, kind: str, address: Array, mask: Array | None, bytes_per_lane: int
    ) -> None:
        """An access to shared memory at ``address`` [lanes]; ``mask`` None means all lanes."""
        key = self._pattern(("shared", kind == "atomic"), address, mask, bytes_per_lane)
        found = self._patterns.get(key)
        if found is None:
            use = bank_use(address, mask, bytes_per_lane, atomic=kind == "atomic")
            counts = (use.requests, use.wavefronts, use.ideal, use.lanes * bytes_per_lane)
            found = self._remember(key, counts)
        _add(self._shared, (line, kind), found)

    def globals(
        self, line: int, kind: str, address: Array, mask: Array | None, bytes_per_lane: int
    ) -> None:
        """An access to global memory at ``address`` [lanes]; ``mask`` None means all lanes."""
        key = self._pattern(("global",), address, mask, bytes_per_lane)
        found = self._patterns.get(key)
        if found is None:
            use = sector_use(address, mask, bytes_per_lane)
            counts = (use.requests, use.sectors, use.ideal, use.lanes * bytes_per_lane)
            found = self._remember(key, counts)
        _add(self._globals, (line, kind), found)

    def _pattern(
        self, space: tuple[Any, ...], address: Array, mask: Array | None, bytes_per_lane: int
    ) -> tuple[Any, ...]:
        """Names the access up to a shift.

        Moved by whole wavefronts an access costs the same, so a loop that walks through memory
        repeats a few patterns.
        """
        first = 0 if mask is None else int(mask.argmax())
        base = address[first] & ~np.uint64(127)
        relative = address - base
        if mask is None:
            return (space, bytes_per_lane, relative.tobytes())
        relative *= mask
        return (space, bytes_per_lane, relative.tobytes(), mask.tobytes())

    def _remember(self, key: tuple[Any, ...], counts: tuple[int, ...]) -> tuple[int, ...]:
        if len(self._patterns) >= _PATTERNS:
            self._patterns.clear()
        self._patterns[key] = counts
        return counts

    def merge(self, other: Counters) -> None:
        """Adds what another process counted for the same program. Raises ValueError otherwise."""
        if other.instructions != self.instructions:
            raise ValueError("cannot merge the counters of two programs")
        for name in ("_warps", "_threads", "_off", "_divergent", "_barriers"):
            summed = [a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True)]
            setattr(self, name, summed)
        for mine, theirs in ((self._shared, other._shared), (self._globals, other._globals)):
            for key, counts in theirs.items():
                _add(mine, key, counts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_patterns": {}}

    def totals(self) -> Totals:
        """Everything, summed over the lines."""
        by_opcode: Counter[str] = Counter()
        by_class: Counter[str] = Counter()
        mma = flops = 0
        warps = self._issued(self._warps)
        for found, count in zip(self.instructions, warps, strict=True):
            if count == 0:
                continue
            by_opcode[found.opcode] += count
            by_class[opcode_class(found)] += count
            shape = mma_shape(found.modifiers) if found.root == "mma" else None
            if shape is not None:
                mma += count
                flops += count * shape.flops
        threads = sum(self._issued(self._threads))
        return Totals(
            instructions=sum(warps),
            threads=threads,
            threads_on=threads - sum(self._off),
            by_class=dict(by_class.most_common()),
            by_opcode=dict(by_opcode.most_common()),
            mma=mma,
            flops=flops,
            shared=_by_kind(self._shared, SharedCounts),
            globals=_by_kind(self._globals, GlobalCounts),
            barriers=sum(self._barriers),
            divergent=sum(self._divergent),
        )

    def by_line(self) -> list[LineCounts]:
        """Each line with instructions, in order, executed or not."""
        places: dict[int, list[int]] = {}
        for index, found in enumerate(self.instructions):
            places.setdefault(found.line, []).append(index)
        warps, threads = self._issued(self._warps), self._issued(self._threads)
        shared = _by_line(self._shared, SharedCounts)
        globals_ = _by_line(self._globals, GlobalCounts)
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

    def _issued(self, changes: list[int]) -> list[int]:
        return list(accumulate(changes))[:-1]


def _add(table: dict[tuple[int, str], list[int]], key: tuple[int, str], counts: Any) -> None:
    kept = table.setdefault(key, [0] * len(counts))
    for i, count in enumerate(counts):
        kept[i] += count


def _by_kind(table: Any, record: Any) -> dict[str, Any]:
    summed: dict[str, Any] = {}
    for (_, kind), counts in table.items():
        summed[kind] = summed.get(kind, record()) + record(*counts)
    return summed


def _by_line(table: Any, record: Any) -> dict[int, Any]:
    summed: dict[int, Any] = {}
    for (line, _), counts in table.items():
        summed[line] = summed.get(line, record()) + record(*counts)
    return summed
