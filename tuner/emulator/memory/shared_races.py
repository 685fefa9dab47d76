"""Shared races: accesses of a CTA's threads to one place with no barrier between them.

Two accesses conflict when they come from different threads, one of them writes and not both are
atomic. What orders them is a barrier of the CTA or, within a warp, ``bar.warp.sync``: the model of
compute-sanitizer's racecheck. Order that threads make for themselves with fences and flags in
shared memory is not seen.

A key says who accessed a place last:

    63        never written, or an asynchronous copy is under way
    62 .. 44  barriers that the CTA had passed, from 1 on and round again; 0: in an earlier round
    43 .. 32  barriers that the warp had passed, likewise; 4095: in an earlier round
    31, 30    several warps did, several threads of the warp did
    28 .. 19  warp and lane
    18 .. 0   PTX line
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.trails import LAST_LINE, LINE_BITS, Place, Trails

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_NEVER = np.uint64((1 << 64) - 1)
_UNREADABLE = np.uint64(1 << 63)
_EPOCHS = (1 << 19) - 1  # in a round
_SAME_EPOCH = np.uint64(1 << 44)  # keys of one epoch differ by less
_SAME_WARP_EPOCH = np.uint64(1 << 32)
_WARP_EPOCHS = (1 << 12) - 1
_EARLIER_WARP_EPOCH = np.uint64(_WARP_EPOCHS << 32)
_EPOCH_BITS = np.uint64(((1 << 19) - 1) << 44)
_WARPS = np.uint64(1 << 31)
_LANES = np.uint64(1 << 30)
_OTHER_WARP = np.uint64(1 << 31 | 31 << 24)
_OTHER_LANE = np.uint64(1 << 30 | 31 << 19)
# What a read XORed with its own key and the top bit must not be below: see _unreadable.
_READ_LIMIT = np.uint64((1 << 63) + (1 << 44))


class SharedRaces:
    """Watches ``size`` bytes: the shared memories of all CTAs of a cohort, one after the other."""

    def __init__(self, cohort: Cohort, size: int) -> None:
        self._cohort = cohort
        self._trails = Trails(size, {"write": int(_NEVER), "read": int(_NEVER)})
        lane = np.arange(cohort.lanes) % WARP
        self._who = ((cohort.thread // WARP) << 24 | lane << LINE_BITS).astype(np.uint64)
        self._epochs: tuple[bytes, bytes] | None = None
        self._rounds = self._round()
        self._base = self._who
        self._flying = 0  # copies under way, in lanes

    def read(self, access: Access, offset: Array) -> None:
        """Raises EmulationFault for what nobody wrote or somebody else is writing."""
        place, key = self._trails.place(offset, access.size), self._key(access)
        self._check_readable(access, place, key)
        self._check(access, place, key, "atomic")
        self._note("read", place, key)

    def write(self, access: Access, offset: Array, differs: Callable[[], Array]) -> None:
        """After a store: ``differs()`` [n] tells whose bytes another lane has overwritten."""
        place, key = self._trails.place(offset, access.size), self._key(access)
        self._check_writable(access, place, key)
        self._check_strong(access, place, key)
        self._trails.put("write", place, key)
        kept = self._trails.get("write", place)
        lost = kept != key
        if lost.any():
            clash = np.flatnonzero(lost.any(axis=1) & differs())
            if len(clash):
                column = int(lost[clash[0]].argmax())
                raise self._race(access, int(clash[0]), kept[clash[0], column], "write")
            self._merge("write", place, np.broadcast_to(key, lost.shape), kept, lost)

    def update(self, access: Access, offset: Array, *, reads: bool, writes: bool) -> None:
        """An atomic access, or a strong load or store."""
        place, key = self._trails.place(offset, access.size), self._key(access)
        if reads:
            self._check_readable(access, place, key)
        if writes:
            self._check_writable(access, place, key)
        name = "atomic" if writes else "strong"
        if name not in self._trails.maps:
            self._trails.add(name, int(_NEVER))
        self._note(name, place, key)
        if writes and not reads:
            # No longer never written; who stored it is on the other map.
            self._trails.put("write", place, np.zeros_like(key))

    def announce(self, access: Access, offset: Array) -> None:
        """An asynchronous copy writes there from now on until it lands."""
        place, key = self._trails.place(offset, access.size), self._key(access)
        self._check_writable(access, place, key)
        self._check_strong(access, place, key)
        flying = key | _UNREADABLE
        self._trails.put("write", place, flying)
        kept = self._trails.get("write", place)
        lost = kept != flying
        if lost.any():
            row, column = np.argwhere(lost)[0]
            raise self._race(access, int(row), kept[row, column], "write")
        self._flying += len(offset)

    def land(self, access: Access, offset: Array) -> None:
        """The copy has arrived and its thread knows."""
        place, key = self._trails.place(offset, access.size), self._key(access)
        self._trails.put("write", place, key)
        self._flying -= len(offset)

    def _key(self, access: Access) -> Array:
        """[n, 1] of the present epochs and the PTX line."""
        cohort = self._cohort
        epochs = cohort.epoch.tobytes(), cohort.warp_epoch.tobytes()
        if epochs != self._epochs:
            self._epochs = epochs
            self._age()
            epoch = (cohort.epoch % _EPOCHS).astype(np.uint64) + np.uint64(1)
            within = (cohort.warp_epoch % _WARP_EPOCHS).astype(np.uint64)
            self._base = np.repeat(epoch << np.uint64(44), cohort.width)
            self._base |= np.repeat(within << np.uint64(32), WARP) | self._who
        line = np.uint64(min(access.found.line, LAST_LINE))
        key: Array = (access.pick(self._base) | line)[:, None]
        return key

    def _round(self) -> tuple[Array, Array]:
        return self._cohort.epoch // _EPOCHS, self._cohort.warp_epoch // _WARP_EPOCHS

    def _age(self) -> None:
        """What happened in an earlier round of a counter must not look as if it were of now."""
        before, self._rounds = self._rounds, self._round()
        ctas, warps = (now != then for now, then in zip(self._rounds, before, strict=True))
        if not ctas.any() and not warps.any():
            return
        by_cta = warps.reshape(len(ctas), -1)
        for keys in self._trails.maps.values():
            there = keys.reshape(len(ctas), -1)  # a view
            warp = np.minimum(there >> np.uint64(24) & np.uint64(31), by_cta.shape[1] - 1)
            aged = np.take_along_axis(by_cta, warp.astype(np.int64), axis=1) & (there != _NEVER)
            there[aged] |= _EARLIER_WARP_EPOCH
            there[ctas[:, None] & (there != _NEVER)] &= ~_EPOCH_BITS

    def _check_readable(self, access: Access, place: Place, key: Array) -> None:
        written = self._trails.get("write", place)
        # Keys with the top bit set and keys of this epoch are both below the limit.
        suspect = (written ^ (key | _UNREADABLE)) < _READ_LIMIT
        if not suspect.any():
            return
        bad = suspect & ((written >= _UNREADABLE) | _conflicts(written, key))
        if not bad.any():
            return
        row, column = np.argwhere(bad)[0]
        other = written[row, column]
        if other < _UNREADABLE:
            raise self._race(access, int(row), other, "write")
        what = "of shared memory, which nobody wrote"
        if other != _NEVER:
            line = int(other) & LAST_LINE
            what = (
                f"of shared memory before the asynchronous copy of PTX line {line} has landed "
                "there: it is waited for too late"
            )
        where = f"at {int(access.address[row]):#x} {what}"
        raise access.fault(FaultKind.UNWRITTEN, int(row), where)

    def _check_writable(self, access: Access, place: Place, key: Array) -> None:
        self._check(access, place, key, "write")
        self._check(access, place, key, "read")
        if self._flying:
            written = self._trails.get("write", place)
            bad = (written >= _UNREADABLE) & (written != _NEVER)
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise self._race(access, int(row), written[row, column], "write")

    def _check_strong(self, access: Access, place: Place, key: Array) -> None:
        self._check(access, place, key, "atomic")
        self._check(access, place, key, "strong")

    def _check(self, access: Access, place: Place, key: Array, name: str) -> None:
        """Raises EmulationFault for a race with what the map says."""
        if name not in self._trails.maps:
            return
        other = self._trails.get(name, place)
        if not ((other ^ key) < _SAME_EPOCH).any():
            return
        bad = _conflicts(other, key)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise self._race(access, int(row), other[row, column], name)

    def _note(self, name: str, place: Place, key: Array) -> None:
        """Adds readers, or atomic accesses, to those that the map has."""
        before = self._trails.get(name, place)
        unlike = before ^ key
        same = unlike < _SAME_EPOCH
        if same.any():
            warps = same & ((unlike & _OTHER_WARP) != 0)
            lanes = (unlike < _SAME_WARP_EPOCH) & ((unlike & _OTHER_LANE) != 0)
            key = key | np.where(warps, _WARPS, np.where(lanes, _LANES, np.uint64(0)))
        self._trails.put(name, place, key)
        kept = self._trails.get(name, place)
        lost = kept != key
        if lost.any():
            self._merge(name, place, np.broadcast_to(key, lost.shape), kept, lost)

    def _merge(self, name: str, place: Place, keys: Array, kept: Array, lost: Array) -> None:
        """Lanes of one instruction met at a place: ``kept`` says who stayed there."""
        flat = np.flatnonzero(lost)
        mine, winner = keys.take(flat), kept.take(flat)
        granule = place.granules(flat)
        far = ((mine ^ winner) & _OTHER_WARP | (mine | winner) & _WARPS) != 0
        near = ~far
        keys_there = self._trails.maps[name]
        keys_there[granule[near]] = winner[near] | _LANES
        keys_there[granule[far]] = winner[far] | _WARPS

    def _race(self, access: Access, row: int, other: np.uint64, name: str) -> EmulationFault:
        key, cohort = int(other), self._cohort
        lane = access.lane(row)
        thread = (key >> 24 & 31) * WARP + (key >> LINE_BITS & 31)
        did = {"write": "wrote", "atomic": "updated"}.get(name, "read")
        who = cohort.name_of(int(cohort.slot[lane]) * cohort.width + thread)
        if key & int(_WARPS | _LANES):
            who += " and others"
        what = (
            f"at {int(access.address[row]):#x} of shared memory, which {who} {did} at PTX line "
            f"{key & LAST_LINE} with no barrier between"
        )
        return access.fault(FaultKind.SHARED_RACE, row, what)


def _conflicts(other: Array, key: Array) -> Array:
    """Which accesses of the map happened in this epoch, by another thread, with no order."""
    unlike = other ^ key
    warps = (unlike < _SAME_EPOCH) & ((unlike & _OTHER_WARP) != 0)
    lanes = (unlike < _SAME_WARP_EPOCH) & ((unlike & _OTHER_LANE) != 0)
    conflict: Array = warps | lanes
    return conflict
