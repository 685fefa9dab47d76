"""Global races: accesses of different CTAs to one place, not all atomic, with no order between.

Two accesses conflict when they come from different CTAs, one of them writes and not both are
strong (volatile, relaxed, acquire, release, atomic; with a scope beyond the CTA). Order comes from
fences and strong accesses (see clocks) and from an atomic access having seen the other's.

A key says which CTA accessed a place last, and 0 that none has:

    63        never written (all bits set)
    62        other CTAs have read it too
    61 .. 40  CTA, plus one
    39 .. 19  the CTA's time
    18 .. 0   PTX line

Of several CTAs that read a place the last one is known exactly; the others are taken for unordered
unless the writer has acquired something. So a race may be missed there, but none is made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.buffers import Buffer
from tuner.emulator.memory.clocks import Clocks
from tuner.emulator.memory.trails import LAST_LINE, LINE_BITS, Place, Trails

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_NEVER = np.uint64((1 << 64) - 1)
_MANY = np.uint64(1 << 62)
_ONE_CTA = np.uint64(1 << 40)  # keys of one CTA differ by less
_CTA = np.uint64(40)
_CTAS = np.uint64((1 << 22) - 1)
_TIME = np.uint64(LINE_BITS)
_TIMES = np.uint64((1 << 21) - 1)
# The maps: plain accesses, strong ones that write, strong loads.
_DID = {"write": "writes", "read": "reads", "atomic": "updates", "strong": "reads"}


class GlobalRaces:
    """Watches all buffers, over the whole launch."""

    def __init__(self) -> None:
        self._clocks = Clocks()
        self._trails: dict[Buffer, Trails] = {}
        self._cohort: Cohort | None = None
        self._version = -1
        self._base = np.zeros(0, np.uint64)

    def fence(self, cohort: Cohort) -> None:
        """A fence of the executing lanes that reaches beyond the CTA."""
        active = cohort.active.reshape(len(cohort.ctas), -1).any(axis=1)
        self._clocks.fence(int(cta) for cta in cohort.ctas[active])

    def read(self, access: Access, buffer: Buffer) -> None:
        """Raises EmulationFault for what nobody wrote or another CTA did."""
        trails, place = self._place(access, buffer)
        key = self._key(access)
        self._check_readable(access, buffer, place, key)
        self._check(access, buffer, place, key, "atomic")
        self._note_readers(trails, place, key)

    def write(self, access: Access, buffer: Buffer) -> None:
        """Raises EmulationFault for what another CTA reads or writes too."""
        trails, place = self._place(access, buffer)
        key = self._key(access)
        for name in _DID:
            self._check(access, buffer, place, key, name)
        self._start(trails, "write", buffer)
        trails.put("write", place, key)
        kept = trails.get("write", place)
        lost = (kept ^ key) >= _ONE_CTA
        if lost.any():
            row, column = np.argwhere(lost)[0]
            raise self._race(access, buffer, int(row), kept[row, column], "write")

    def update(self, access: Access, buffer: Buffer, *, reads: bool, writes: bool) -> None:
        """A strong access: an atomic one, or a strong load or store."""
        trails, place = self._place(access, buffer)
        key = self._key(access)
        if reads:
            self._check_readable(access, buffer, place, key)
        if writes:
            self._check(access, buffer, place, key, "write")
            self._check(access, buffer, place, key, "read")
        kind = "atomic" if writes else "strong"
        for name in (kind, "clock"):
            if name not in trails.maps:
                trails.add(name, 0)
        trails.put(kind, place, key)
        if writes and not reads and "write" in trails.maps:
            trails.put("write", place, np.zeros_like(key))
        cta = (key[:, 0] >> _CTA).astype(np.int64) - 1
        self._clocks.exchange(
            trails.maps["clock"], place.index * place.count, cta,
            reads=reads, writes=writes, order=access.order,
        )  # fmt: skip

    def _place(self, access: Access, buffer: Buffer) -> tuple[Trails, Place]:
        trails = self._trails.get(buffer)
        if trails is None:
            trails = self._trails[buffer] = Trails(buffer.size, {"read": 0})
            if not buffer.written:
                self._start(trails, "write", buffer)
        offset = (access.address - np.uint64(buffer.address)).view(np.int64)
        return trails, trails.place(offset, access.size)

    def _start(self, trails: Trails, name: str, buffer: Buffer) -> None:
        if name not in trails.maps:
            trails.add(name, 0 if buffer.written else int(_NEVER))

    def _key(self, access: Access) -> Array:
        """[n, 1] of the CTA, its time and the PTX line."""
        cohort, clocks = access.cohort, self._clocks
        if cohort is not self._cohort or clocks.version != self._version:
            self._cohort, self._version = cohort, clocks.version
            times = [clocks.time(int(cta)) for cta in cohort.ctas]
            by_cta = (cohort.ctas + 1) << 40 | np.array(times, np.int64) << LINE_BITS
            self._base = by_cta.astype(np.uint64)[cohort.slot]
        line = np.uint64(min(access.found.line, LAST_LINE))
        key: Array = (access.pick(self._base) | line)[:, None]
        return key

    def _check_readable(self, access: Access, buffer: Buffer, place: Place, key: Array) -> None:
        trails = self._trails[buffer]
        if "write" not in trails.maps:
            return
        written = trails.get("write", place)
        if not ((written ^ key) >= _ONE_CTA).any():
            return
        never = (written == _NEVER).any(axis=1)
        if never.any():
            row = int(np.flatnonzero(never)[0])
            offset = int(access.address[row]) - buffer.address
            what = f"at offset {offset} of buffer '{buffer.name}', which nobody wrote"
            raise access.fault(FaultKind.UNWRITTEN, row, what)
        self._check(access, buffer, place, key, "write")

    def _check(self, access: Access, buffer: Buffer, place: Place, key: Array, name: str) -> None:
        """Raises EmulationFault for a conflict with what the map says."""
        trails = self._trails[buffer]
        if name not in trails.maps:
            return
        other = trails.get(name, place)
        suspect = ((other ^ key) >= _ONE_CTA) & (other != 0) & (other != _NEVER)
        if not suspect.any():
            return
        rows, columns = np.nonzero(suspect)
        theirs, mine = other[rows, columns], key[rows, 0]
        bad = self._unordered(theirs, mine)
        if bad.any():
            first = int(bad.argmax())
            raise self._race(access, buffer, int(rows[first]), theirs[first], name)

    def _unordered(self, theirs: Array, mine: Array) -> Array:
        """Which accesses by ``theirs`` [n] are not known to the CTAs of ``mine`` [n]."""
        cta, other = ((mine >> _CTA) & _CTAS, (theirs >> _CTA) & _CTAS)
        cta, other = cta.astype(np.int64) - 1, other.astype(np.int64) - 1
        time = (theirs >> _TIME & _TIMES).astype(np.int64)
        last = (cta != other) & ~self._clocks.ordered(cta, other, time)
        some = ((theirs & _MANY) != 0) & self._clocks.alone(cta)
        unordered: Array = last | some
        return unordered

    def _note_readers(self, trails: Trails, place: Place, key: Array) -> None:
        before = trails.get("read", place)
        several = ((before ^ key) >= _ONE_CTA) & (before != 0)
        key = key | several.astype(np.uint64) << np.uint64(62)
        trails.put("read", place, key)
        kept = trails.get("read", place)
        lost = (kept ^ key) >= _ONE_CTA
        if lost.any():
            flat = np.flatnonzero(lost)
            trails.maps["read"][place.granules(flat)] = kept.take(flat) | _MANY

    def _race(
        self, access: Access, buffer: Buffer, row: int, other: np.uint64, name: str
    ) -> EmulationFault:
        key = int(other)
        who = access.cohort.name_of_cta((key >> 40 & int(_CTAS)) - 1)
        if key & int(_MANY):
            who += " and others"
        what = (
            f"at offset {int(access.address[row]) - buffer.address} of buffer '{buffer.name}', "
            f"which {who} {_DID[name]} at PTX line {key & LAST_LINE} with no order between them"
        )
        return access.fault(FaultKind.GLOBAL_RACE, row, what)
