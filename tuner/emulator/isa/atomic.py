"""Atomic: read, change and write back in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.qualifiers import SCOPES, scope, space
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.values import DTYPES, PACKED, Array, raw_dtype
from tuner.emulator.memory.access import Order
from tuner.emulator.memory.update import Update
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_Operation: TypeAlias = "Callable[..., Array]"

_INTEGERS = ("u32", "s32", "u64", "s64")
_TYPES = {
    "add": ("u32", "s32", "u64", "f32", "f64", "f16", "f16x2"),
    "min": _INTEGERS,
    "max": _INTEGERS,
    "and": ("b32", "b64"),
    "or": ("b32", "b64"),
    "xor": ("b32", "b64"),
    "inc": ("u32",),
    "dec": ("u32",),
    "exch": ("b32", "b64"),
    "cas": ("b16", "b32", "b64"),
}
_FLOATS = ("f16", "f16x2", "f32", "f64")
_SEMANTICS = ("relaxed", "acquire", "release", "acq_rel")


def _increment(old: Array, limit: Array) -> Array:
    more: Array = old + old.dtype.type(1)
    return np.where(old >= limit, old.dtype.type(0), more)


def _decrement(old: Array, limit: Array) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


def _exchange(old: Array, new: Array) -> Array:
    return np.broadcast_to(new, old.shape)


def _compare_and_swap(old: Array, expected: Array, new: Array) -> Array:
    return np.where(old == expected, new, old)


_OPERATIONS: dict[str, _Operation] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "inc": _increment,
    "dec": _decrement,
    "exch": _exchange,
    "cas": _compare_and_swap,
}
_NEED_OLD = ("exch", "cas", "acquire", "acq_rel")
_ONE_BY_ONE = ("inc", "dec", "cas")


def _on_bits(operation: _Operation, named: str) -> _Operation:
    """The operation for the raw bits of its type, which it takes and gives as [n]."""
    raw, dtype = raw_dtype(named), DTYPES[PACKED.get(named, named)]

    def combine(*bits: Array) -> Array:
        values = [np.ascontiguousarray(some).view(dtype) for some in bits]
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(operation(*values)).view(raw)

    return combine


def _flushing(operation: _Operation) -> _Operation:
    """``add.f32`` on global memory: subnormal inputs and results are zeros."""

    def combine(*values: Array) -> Array:
        return _flushed(operation(*map(_flushed, values)))

    return combine


def _flushed(value: Array) -> Array:
    small = np.abs(value) < np.finfo(np.float32).tiny
    return np.where(small, np.copysign(np.float32(0), value), value)


@instruction("atom", "red", section="Parallel Synchronization and Communication")
def assemble(found: Instruction, bind: Binder) -> Step:
    """``atom`` gives the old value, ``red`` nothing.

    Lanes that meet at one address go in the order of their numbers: any order would be right.
    """
    only(found, (*_SEMANTICS, *SCOPES, *_TYPES, "global", "shared", "shared::cta", "noftz"))
    named = [modifier for modifier in found.modifiers if modifier in _TYPES]
    if len(named) != 1 or len(found.types) != 1 or found.type not in _TYPES[named[0]]:
        raise bind.error(f"the emulator does not know '{found.opcode}'")
    [name], kind = named, found.type
    result = found.root == "atom"
    missed = [m for m in found.modifiers if m in _NEED_OLD]
    if missed and not result:
        raise bind.error(f"'.{missed[0]}' counts on the old value: 'red' has none")
    if found.has("noftz") != (kind in ("f16", "f16x2")):
        raise bind.error("'.noftz' goes with .f16 and .f16x2, and only with them")
    expected = 1 + result + (2 if name == "cas" else 1)
    if len(found.operands) != expected:
        raise bind.error(f"'{found.opcode}' takes {expected} operands, not {len(found.operands)}")
    target = bind.target(found.operands[0], _bits(kind)) if result else None
    address = bind.address(found.operands[int(result)])
    sources = [bind.source(o, _bits(kind)) for o in found.operands[1 + result :]]
    where, promised = space(found, bind), _order(found, bind)
    # Generic atomics flush as global ones do; shared memory keeps subnormals.
    flushes = kind == "f32" and where != "shared"
    operation = _flushing(_OPERATIONS[name]) if flushes else _OPERATIONS[name]
    combine = _on_bits(operation, kind)
    associative = name not in _ONE_BY_ONE and kind not in _FLOATS
    width = raw_dtype(kind).itemsize

    def step(cohort: Cohort) -> None:
        operands = tuple(cohort.broadcast(source(cohort)) for source in sources)
        change = Update(combine, operands, associative)
        old = cohort.memory.atomic(
            cohort, found, where, address(cohort), width, change, order=promised
        )
        if target is not None:
            target(cohort, old)

    return step


def _bits(kind: str) -> str:
    """The untyped type of the same width."""
    return f"b{8 * raw_dtype(kind).itemsize}"


def _order(found: Instruction, bind: Binder) -> Order:
    """An atomic without semantics is relaxed, one without a scope means the GPU."""
    if scope(found, bind, "gpu") == "cta":
        return Order.LOCAL
    named = [modifier for modifier in found.modifiers if modifier in _SEMANTICS]
    if len(named) > 1:
        raise bind.error(f"'{found.opcode}' names two memory orders")
    return Order(named[0]) if named else Order.RELAXED
