"""Bench: PTX statements executed by hand, without machine or launch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import tuner.emulator.isa.known  # noqa: F401  (registers the semantics)
from tuner.emulator.cohort import Cohort
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import semantics
from tuner.emulator.isa.values import Array, raw_dtype
from tuner.emulator.memory import Memory
from tuner.emulator.ptx import Entry, read_module

TEXT = """
.version 8.7
.target sm_80
.address_size 64
.visible .entry k()
{{
    .reg .pred %p<10>;
    .reg .b32 %r<40>;
    .reg .f32 %f<40>;
    .reg .b64 %rd<10>;
    {body}
    ret;
}}
"""


def entry_of(body: str) -> Entry:
    """A kernel of these statements, on registers %p, %r, %f and %rd."""
    return read_module(TEXT.format(body=body)).entries["k"]


class Bench:
    """Warps that execute statements one after the other; registers are read and set by name."""

    def __init__(self, body: str, warps: int, shared: Array | None = None) -> None:
        self.entry = entry_of(body)
        names = {
            **{f"%p{i}": "pred" for i in range(10)},
            **{f"%r{i}": "b32" for i in range(40)},
            **{f"%f{i}": "f32" for i in range(40)},
            **{f"%rd{i}": "b64" for i in range(10)},
        }
        self.slots = {name: slot for slot, name in enumerate(names)}
        bind = Binder(self.slots, {})
        self.steps = []
        for found in self.entry.instructions[:-1]:
            bind.current = found
            self.steps.append(semantics(found).assemble(found, bind))
        size = 0 if shared is None else len(shared)
        memory = Memory(shared_bytes=size, local_bytes=0, const=b"", checks=False)
        memory.seal()
        self.cohort = Cohort(
            [0],
            (1, 1, 1),
            (32 * warps, 1, 1),
            [raw_dtype(name) for name in names.values()],
            memory,
            None,
        )
        if shared is not None:
            self._fill(shared)

    def _fill(self, content: Array) -> None:
        """Thread 0 writes shared memory, 8 bytes at a time."""
        first = np.arange(self.cohort.lanes) == 0
        for i, word in enumerate(content.view(np.uint64)):
            address = np.full(self.cohort.lanes, 8 * i, np.uint64)
            self.cohort.memory.store(
                self.cohort,
                self.entry.instructions[0],
                "shared",
                address,
                np.array([[word]]),
                mask=first,
            )

    def run(self, inputs: Mapping[str, Array], mask: Array | None = None) -> None:
        """Sets registers to raw bits [lanes] and executes the statements for ``mask``."""
        for name, value in inputs.items():
            self.cohort.registers[self.slots[name]] = np.ascontiguousarray(value)
        self.cohort.execute(mask, mask)
        for step in self.steps:
            step(self.cohort)

    def __getitem__(self, name: str) -> Array:
        return self.cohort.registers[self.slots[name]]
