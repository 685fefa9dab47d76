"""Binder: turns the operands of an instruction into functions that read and write registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tuner.emulator.isa.special import SPECIAL_REGISTERS
from tuner.emulator.isa.values import DTYPES, PACKED, Array, raw_dtype
from tuner.emulator.ptx import (
    Address,
    Immediate,
    Instruction,
    Negated,
    Operand,
    PtxError,
    Register,
    Sink,
    Special,
    Symbol,
)

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

Source: TypeAlias = "Callable[[Cohort], Array]"
Target: TypeAlias = "Callable[[Cohort, Array], None]"


class Binder:
    """Knows a program's registers and where its variables lie.

    ``slots`` numbers the registers by name; ``symbols`` gives a variable's address in its own state
    space. ``current`` is the instruction whose operands are bound, for error messages.
    """

    current: Instruction

    def __init__(self, slots: Mapping[str, int], symbols: Mapping[str, int]) -> None:
        self.slots, self.symbols = slots, symbols

    def source(self, operand: Operand, type_name: str) -> Source:
        """Reads ``operand`` as ``type_name``: an array [lanes], or [1] for a constant.

        Packed types give [lanes, 2]. A register wider than the type is truncated, as ``st.u8`` and
        ``cvt`` do it.
        """
        if isinstance(operand, Negated):
            inner = self.source(operand.register, "pred")
            return lambda cohort: ~inner(cohort)
        if isinstance(operand, Register):
            return self._register(operand, type_name)
        if isinstance(operand, Special):
            return self._special(operand, type_name)
        value = _as_type(self._constant(operand, type_name), type_name)
        return lambda cohort: value

    def guard(self, found: Instruction) -> Source | None:
        """Where ``@p`` or ``@!p`` lets it execute, bool [lanes]; None for everywhere."""
        if found.predicate is None:
            return None
        return self.source(Negated(found.predicate) if found.negated else found.predicate, "pred")

    def target(self, operand: Operand, type_name: str) -> Target:
        """Writes a value of ``type_name`` into ``operand`` for the lanes that execute.

        A register wider than the type gets the value extended by its sign or by zeros.
        """
        if isinstance(operand, Sink):
            return lambda cohort, value: None
        if not isinstance(operand, Register):
            raise self.error(f"cannot write to {operand}")
        slot, raw = self.slots[operand.name], raw_dtype(operand.type)
        extend = None
        dtype = raw_dtype(type_name)
        if dtype.itemsize > raw.itemsize or (raw.kind == "b") != (dtype.kind == "b"):
            raise self.error(f"{operand.name} is .{operand.type}, too narrow for .{type_name}")
        if dtype.itemsize < raw.itemsize and type_name not in PACKED:
            extend = np.dtype(f"{'i' if DTYPES[type_name].kind == 'i' else 'u'}{raw.itemsize}")

        def write(cohort: Cohort, value: Array) -> None:
            if value.ndim == 2:
                value = np.ascontiguousarray(value).view(np.uint32)[:, 0]
            if extend is not None:
                value = (value.view(dtype) if value.dtype.kind == "f" else value).astype(extend)
            if value.dtype != raw:
                value = value.view(raw)
            cohort.write(slot, value)

        return write

    def address(self, operand: Operand) -> Source:
        """The address [lanes] or [1] in uint64; 32-bit bases wrap at 32 bits."""
        if not isinstance(operand, Address):
            raise self.error(f"{operand} is no address")
        offset = np.array([operand.offset % (1 << 64)], np.uint64)
        if operand.base is None:
            return lambda cohort: offset
        if isinstance(operand.base, Symbol):
            place = offset + np.uint64(self._symbol(operand.base))
            return lambda cohort: place
        width = raw_dtype(operand.base.type).itemsize
        base = self._register(operand.base, f"u{8 * width}")
        if width == 8:
            return lambda cohort: base(cohort) + offset
        short = offset.astype(np.uint32)
        return lambda cohort: (base(cohort) + short).astype(np.uint64)

    def error(self, what: str) -> PtxError:
        """An error that names the instruction being bound."""
        return PtxError(self.current.line, f"{what} ({self.current.text})")

    def _register(self, operand: Register, type_name: str) -> Source:
        slot, raw, want = self.slots[operand.name], raw_dtype(operand.type), raw_dtype(type_name)
        if want.itemsize > raw.itemsize or (raw.kind == "b") != (want.kind == "b"):
            raise self.error(f"{operand.name} is .{operand.type}, too narrow for .{type_name}")
        narrow = want if want != raw else None
        pair = PACKED.get(type_name)
        dtype = DTYPES[pair or type_name]

        def read(cohort: Cohort) -> Array:
            value = cohort.registers[slot]
            if narrow is not None:
                value = value.astype(narrow)
            if pair is not None:
                return value.view(dtype).reshape(-1, 2)
            return value.view(dtype)

        return read

    def _special(self, operand: Special, type_name: str) -> Source:
        name, dtype = operand.name, DTYPES[type_name]
        if name not in SPECIAL_REGISTERS:
            raise self.error(f"the emulator has no special register {name}")

        def read(cohort: Cohort) -> Array:
            return cohort.special(name).astype(raw_dtype(type_name), copy=False).view(dtype)

        return read

    def _constant(self, operand: Operand, type_name: str) -> int:
        if isinstance(operand, Symbol):
            return self._symbol(operand)
        if isinstance(operand, Immediate):
            return _bits(operand, type_name)
        raise self.error(f"cannot read {operand}")

    def _symbol(self, symbol: Symbol) -> int:
        if symbol.name not in self.symbols:
            raise self.error(f"there is no variable '{symbol.name}'")
        return self.symbols[symbol.name] + symbol.offset


def _bits(immediate: Immediate, type_name: str) -> int:
    """The bits of a constant in the width of ``type_name``.

    An integer literal for a float type is those bits; a floating literal is rounded to the type.
    """
    if immediate.type == "int":
        return immediate.bits
    width = {"f32": np.uint32, "f64": np.uint64}[immediate.type]
    value = np.array([immediate.bits], width).view(DTYPES[immediate.type])
    if type_name in ("f16", "f32", "f64"):
        return int(value.astype(DTYPES[type_name]).view(raw_dtype(type_name))[0])
    return immediate.bits


def _as_type(bits: int, type_name: str) -> Array:
    raw = raw_dtype(type_name)
    if raw.kind == "b":
        return np.array([bool(bits)])
    value = np.array([bits % (1 << (8 * raw.itemsize))], np.uint64).astype(raw)
    if type_name in PACKED:
        return value.view(DTYPES[PACKED[type_name]]).reshape(-1, 2)
    return value.view(DTYPES[type_name])
