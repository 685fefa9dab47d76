"""Bench: one PTX instruction executed by hand, without machine, launch or real memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import tuner.emulator.isa.collective
import tuner.emulator.isa.matrix  # noqa: F401  (both register their semantics)
from tuner.emulator.cohort import Cohort
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import semantics
from tuner.emulator.isa.values import Array, raw_dtype
from tuner.emulator.ptx import Entry, read_module

if TYPE_CHECKING:
    from tuner.emulator.memory import Memory

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
        memory = _SharedOnly(np.zeros(0, np.uint8) if shared is None else shared)
        self.cohort = Cohort(
            [0],
            (1, 1, 1),
            (32 * warps, 1, 1),
            [raw_dtype(name) for name in names.values()],
            cast("Memory", memory),
            None,
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


class _SharedOnly:
    """Shared memory that can only be read; what ldmatrix needs."""

    def __init__(self, content: Array) -> None:
        self._content = content

    def open(self, cohort: Cohort) -> None:
        return None

    def load(
        self,
        cohort: Cohort,
        found: Any,
        space: str,
        address: Array,
        width: int,
        count: int,
        *,
        mask: Array,
        kind: str,
    ) -> Array:
        place = np.where(mask, address, 0).astype(np.int64)[:, None] + np.arange(width * count)
        return np.where(mask[:, None], self._content[place].view(np.uint32), 0).astype(np.uint32)
