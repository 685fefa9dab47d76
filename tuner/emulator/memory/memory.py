"""Memory: all state spaces of a launch, as the instructions see them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.emulator.fault import FaultKind
from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access, Order
from tuner.emulator.memory.constants import Constants
from tuner.emulator.memory.copies import Copies
from tuner.emulator.memory.global_memory import GlobalMemory
from tuner.emulator.memory.local import LocalMemory
from tuner.emulator.memory.private import Private
from tuner.emulator.memory.shared import SharedMemory
from tuner.emulator.memory.update import Update
from tuner.emulator.memory.windows import by_space

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort
    from tuner.emulator.ptx import Instruction

Space = SharedMemory | LocalMemory | Constants | GlobalMemory


class Memory:
    """One per launch. ``params`` are set and buffers added before it is sealed.

    Out-of-bounds and misaligned accesses are always faults; with ``checks``, so are reads of bytes
    nobody wrote, races between a CTA's threads on shared memory and between CTAs on global memory.
    ``changes`` grows whenever shared or global memory may have changed. ``synchronised``: CTAs
    may have met, by atomics, fences or strong accesses.
    """

    def __init__(self, *, shared_bytes: int, local_bytes: int, const: bytes, checks: bool) -> None:
        self.params = b""
        self.changes = 0
        self.synchronised = False
        self._shared_bytes, self._local_bytes, self._checks = shared_bytes, local_bytes, checks
        self._global = GlobalMemory(checks=checks)
        self._const = Constants(const, "the module's constants")
        self._params = Constants(b"", "the kernel's parameters")

    def add_buffer(self, name: str, content: NDArray[np.uint8], *, written: bool) -> int:
        """Copies ``content`` into a new buffer of global memory; its address."""
        return self._global.add(name, content, written=written)

    def content(self, name: str) -> NDArray[np.uint8]:
        """A view of a buffer's bytes as they are now."""
        return self._global.content(name)

    def seal(self) -> None:
        """To be called after the last buffer was added and before the first access."""
        self._params = Constants(self.params, "the kernel's parameters")
        self._global.seal()

    def open(self, cohort: Cohort) -> Private:
        """Fresh shared and local memory for the CTAs of a cohort."""
        shared = SharedMemory(cohort, self._shared_bytes, checks=self._checks)
        local = LocalMemory(cohort, self._local_bytes, checks=self._checks)
        return Private(shared, Copies(cohort, shared), local)

    def load(
        self,
        cohort: Cohort,
        found: Instruction,
        space: str,
        address: Array,
        width: int,
        count: int = 1,
        *,
        mask: Array | None = None,
        kind: str = "load",
        order: Order = Order.WEAK,
    ) -> Array:
        """``count`` values of ``width`` bytes for each lane: [lanes, count] of unsigned integers.

        ``address`` is uint64 [lanes] or [1]; ``mask`` None means all lanes that execute. Other
        lanes get 0. Constants and parameters at one address give [1, count].
        """
        if space in ("const", "param") and len(address) == 1:
            access = Access(cohort, found, None, address, width * count, kind, order)
            return self._space(cohort, space).load(access, width)
        access = _access(cohort, found, address, width * count, mask, kind, order)
        if len(access.address) == 0:
            return np.zeros((cohort.lanes, count), f"u{width}")
        if space == "generic":
            values = np.zeros((len(access.address), count), f"u{width}")
            for name, chosen, part in by_space(access):
                values[slice(None) if chosen is None else chosen] = self._load(name, part, width)
        else:
            values = self._load(space, access, width)
        if order is not Order.WEAK:
            _poll(access)
        if access.lanes is None:
            return values
        spread = np.zeros((cohort.lanes, count), values.dtype)
        spread[access.lanes] = values
        return spread

    def store(
        self,
        cohort: Cohort,
        found: Instruction,
        space: str,
        address: Array,
        values: Array,
        *,
        mask: Array | None = None,
        order: Order = Order.WEAK,
    ) -> None:
        """Writes ``values``, [lanes, count] or [1, count] of unsigned integers."""
        size = values.itemsize * values.shape[1]
        access = _access(cohort, found, address, size, mask, "store", order)
        if len(access.address) == 0:
            return
        if len(values) != cohort.lanes:
            values = np.repeat(values, cohort.lanes, axis=0)
        if access.lanes is not None:
            values = values[access.lanes]
        if space != "generic":
            self._store(space, access, values)
            return
        for name, chosen, part in by_space(access):
            self._store(name, part, values if chosen is None else values[chosen])

    def atomic(
        self,
        cohort: Cohort,
        found: Instruction,
        space: str,
        address: Array,
        width: int,
        change: Update,
        *,
        order: Order = Order.RELAXED,
    ) -> Array:
        """Updates ``width`` bytes for each lane that executes, lower lanes first: the old bits.

        [lanes], 0 for lanes that do not execute. A lane that changed nothing counts as polling.
        """
        access = _access(cohort, found, address, width, None, "atomic", order)
        result = np.zeros(cohort.lanes, f"u{width}")
        if len(access.address) == 0:
            return result
        change = change.part(access.lanes)
        old = np.empty(len(access.address), f"u{width}")
        new = np.empty_like(old)
        parts = by_space(access) if space == "generic" else [(space, None, access)]
        for name, chosen, part in parts:
            here = slice(None) if chosen is None else chosen
            old[here], new[here] = self._space(cohort, name).update(part, change.part(chosen))
            _count(name, part)
            self.synchronised |= name == "global"
        same = old == new
        self.changes += int(not same.all())
        lanes = slice(None) if access.lanes is None else access.lanes
        cohort.polled[lanes] |= same
        result[lanes] = old
        return result

    def copy(
        self,
        cohort: Cohort,
        found: Instruction,
        target: Array,
        source: Array,
        size: int,
        taken: Array | None,
    ) -> None:
        """Starts ``cp.async``: ``size`` bytes from global ``source`` to shared ``target``.

        Of these ``taken`` [lanes] are read, None meaning all; the others are zeros.
        """
        into = _access(cohort, found, target, size, None, "copy", Order.WEAK)
        if len(into.address) == 0:
            return
        out_of = replace(into, address=into.pick(cohort.broadcast(source)))
        if taken is None:
            values = self._load("global", out_of, 1)
        else:
            values = self._load_some(out_of, into.pick(taken))
        cohort.private.copies.issue(into, values)
        _count("shared", into)

    def _load_some(self, access: Access, taken: Array) -> Array:
        """The first ``taken`` [n] bytes of each lane, then zeros: uint8 [n, size]."""
        over = np.flatnonzero(taken > access.size)
        if len(over):
            what = f"though its source has {int(taken[over[0]])}: no more than its size is defined"
            raise access.fault(FaultKind.OUT_OF_BOUNDS, int(over[0]), what)
        values = np.zeros((len(taken), access.size), np.uint8)
        whole = np.flatnonzero(taken == access.size)
        if len(whole):
            values[whole] = self._load("global", access.part(whole), 1)
        for i in range(access.size):
            chosen = np.flatnonzero((taken > i) & (taken < access.size))
            if len(chosen) == 0:
                break
            part = access.part(chosen)
            if i == 0:
                part.check_alignment("global memory")
            byte = replace(part, address=part.address + np.uint64(i), size=1)
            values[chosen, i] = self._load("global", byte, 1)[:, 0]
        return values

    def fence(self, cohort: Cohort) -> None:
        """A fence of the executing lanes that reaches beyond the CTA."""
        self.synchronised = True
        self._global.fence(cohort)

    def _load(self, space: str, access: Access, width: int) -> Array:
        values = self._space(access.cohort, space).load(access, width)
        self.synchronised |= space == "global" and access.order.strong
        _count(space, access)
        return values

    def _store(self, space: str, access: Access, values: Array) -> None:
        self._space(access.cohort, space).store(access, values)
        if space != "local":
            self.changes += 1
        self.synchronised |= space == "global" and access.order.strong
        _count(space, access)

    def _space(self, cohort: Cohort, name: str) -> Space:
        if name == "global":
            return self._global
        if name == "shared":
            return cohort.private.shared
        if name == "local":
            return cohort.private.local
        return self._const if name == "const" else self._params


def _access(
    cohort: Cohort,
    found: Instruction,
    address: Array,
    size: int,
    mask: Array | None,
    kind: str,
    order: Order,
) -> Access:
    if mask is None:
        mask = cohort.mask
    address = cohort.broadcast(address)
    lanes = None
    if mask is not None:
        lanes = np.flatnonzero(mask)
        address = address[lanes]
    return Access(cohort, found, lanes, address, size, kind, order)


def _poll(access: Access) -> None:
    if access.lanes is None:
        access.cohort.polled[:] = True
    else:
        access.cohort.polled[access.lanes] = True


def _count(space: str, access: Access) -> None:
    """Tells the counters of an access to shared or global memory."""
    cohort = access.cohort
    counters = cohort.counters
    if counters is None or space not in ("shared", "global"):
        return
    address, mask = access.address, None
    if access.lanes is not None:
        address = np.zeros(cohort.lanes, np.uint64)
        mask = np.zeros(cohort.lanes, np.bool_)
        address[access.lanes], mask[access.lanes] = access.address, True
    report = counters.shared if space == "shared" else counters.globals
    report(access.found.line, access.kind, address, mask, access.size)
