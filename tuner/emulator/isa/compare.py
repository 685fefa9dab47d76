"""Compare: comparisons into predicates and masks, and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder, Source, Target
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.rounding import bf16_to_f32, flush
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import DTYPES, PACKED, Array, raw_dtype
from tuner.emulator.ptx import Instruction, Operand, Pair

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

Compute = Callable[..., Array]
ORDERED: dict[str, Compute] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
NUMERIC = ("num", "nan")
COMPARISONS = {*ORDERED, *UNSIGNED, *NUMERIC, *(f"{name}u" for name in ORDERED)}
BOOLEAN: dict[str, Compute] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
FLOATS = ("f16", "f16x2", "bf16", "bf16x2", "f32", "f64")
TYPES = (*(f"{kind}{bits}" for kind in "bus" for bits in (16, 32, 64)), *FLOATS)
SELECTED = (*(f"{kind}{bits}" for kind in "bus" for bits in (16, 32, 64)), "f32", "f64")


@instruction("setp", section="Comparison and Selection, Half Precision Comparison")
def setp(found: Instruction, bind: Binder) -> Step:
    """p|q = a compared with b and its opposite, joined with c.

    For pairs of halves p is the lower one's result and q the upper one's.
    """
    kind = check_type(found, bind, TYPES)
    compare, join = _comparison(found, bind, kind)
    first, second = _destinations(found.operands[0], bind)
    a, b, third = _sources(found, bind, kind, join is not None)
    packed = kind in PACKED
    if packed and second is None:
        raise bind.error(f"'{found.opcode}' writes two predicates, p|q")

    def step(cohort: Cohort) -> None:
        result = compare(a(cohort), b(cohort))
        lower, upper = (result[:, 0], result[:, 1]) if packed else (result, ~result)
        c = third(cohort) if third is not None else None
        first(cohort, lower if join is None else join(lower, c))
        if second is not None:
            second(cohort, upper if join is None else join(upper, c))

    return step


@instruction("set", section="Comparison and Selection, Half Precision Comparison")
def set_value(found: Instruction, bind: Binder) -> Step:
    """d = all ones or 1.0 where the comparison holds, else 0."""
    if len(found.types) != 2 or found.types[1] not in TYPES:
        raise bind.error(f"'{found.opcode}' needs the types of its result and of its sources")
    result, kind = found.types
    compare, join = _comparison(found, bind, kind)
    convert = _truth(result, kind, bind)
    a, b, third = _sources(found, bind, kind, join is not None)
    target = bind.target(found.operands[0], result)

    def step(cohort: Cohort) -> None:
        truth = compare(a(cohort), b(cohort))
        if join is not None and third is not None:
            c = third(cohort)
            truth = join(truth, c[:, None] if truth.ndim == 2 else c)
        target(cohort, convert(truth))

    return step


@instruction("selp", section="Comparison and Selection")
def selp(found: Instruction, bind: Binder) -> Step:
    """d = a where the predicate c holds, else b."""
    only(found, ())
    kind = check_type(found, bind, SELECTED)

    def select(a: Array, b: Array, c: Array) -> Array:
        return np.where(c, a, b)

    return alu(found, bind, kind, [kind, kind, "pred"], select)


@instruction("slct", section="Comparison and Selection")
def slct(found: Instruction, bind: Binder) -> Step:
    """d = a where c >= 0, else b (for NaN too)."""
    only(found, {"ftz"})
    types = found.types
    if len(types) != 2 or types[0] not in SELECTED or types[1] not in ("s32", "f32"):
        raise bind.error(f"'{found.opcode}' needs a type and then .s32 or .f32")
    if found.has("ftz") and types[1] != "f32":
        raise bind.error("'.ftz' needs a floating-point condition")
    kind, ftz = types[0], found.has("ftz")

    def select(a: Array, b: Array, c: Array) -> Array:
        return np.where((flush(c) if ftz else c) >= 0, a, b)

    return alu(found, bind, kind, [kind, kind, types[1]], select)


def _comparison(found: Instruction, bind: Binder, kind: str) -> tuple[Compute, Compute | None]:
    """The comparison of ``found`` on arrays of ``kind``, and how it joins a third operand."""
    only(found, {*COMPARISONS, *BOOLEAN, "ftz"})
    names = [m for m in found.modifiers if m in COMPARISONS]
    joins = [m for m in found.modifiers if m in BOOLEAN]
    if len(names) != 1 or len(joins) > 1:
        raise bind.error(f"'{found.root}' needs one comparison and at most one of and, or, xor")
    [name] = names
    if kind not in FLOATS:
        compare = _of_integers(name, found, bind, kind)
    elif name in UNSIGNED:
        raise bind.error(f"'.{name}' compares unsigned integers")
    else:
        compare = _of_floats(name)
    if found.has("ftz") and kind not in ("f16", "f16x2", "f32"):
        raise bind.error(f"'.ftz' needs f16 or f32, not .{kind}")
    before = flush if found.has("ftz") else bf16_to_f32 if kind.startswith("bf16") else None
    join = BOOLEAN[joins[0]] if joins else None
    if before is None:
        return compare, join
    return (lambda a, b: compare(before(a), before(b))), join


def _of_integers(name: str, found: Instruction, bind: Binder, kind: str) -> Compute:
    known = ORDERED.get(UNSIGNED.get(name, name))
    signless = kind[0] == "b" and name not in ("eq", "ne")
    if known is None or signless or (name in UNSIGNED and kind[0] != "u"):
        raise bind.error(f"'.{name}' does not compare .{kind}")
    return known


def _of_floats(name: str) -> Compute:
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name in ORDERED:
        # NumPy's != holds for NaN, PTX's .ne does not; the others agree.
        return ORDERED[name] if name != "ne" else (lambda a, b: (a < b) | (a > b))
    opposite = {"eq": "ne", "ne": "eq", "lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
    ordered = _of_floats(opposite[name[:-1]])
    return lambda a, b: ~ordered(a, b)


def _destinations(operand: Operand, bind: Binder) -> tuple[Target, Target | None]:
    if isinstance(operand, Pair):
        return bind.target(operand.first, "pred"), bind.target(operand.second, "pred")
    return bind.target(operand, "pred"), None


def _sources(
    found: Instruction, bind: Binder, kind: str, joined: bool
) -> tuple[Source, Source, Source | None]:
    if len(found.operands) != 3 + joined:
        raise bind.error(f"'{found.opcode}' takes {3 + joined} operands")
    a, b = (bind.source(operand, kind) for operand in found.operands[1:3])
    return a, b, bind.source(found.operands[3], "pred") if joined else None


def _truth(result: str, kind: str, bind: Binder) -> Compute:
    """Turns a comparison's outcome into the result's type."""
    if kind in PACKED and result in ("u32", "s32"):
        # A mask of 16 ones for each half.
        halves = DTYPES["u16"]
        return lambda truth: _joined(-truth.astype(halves)).view(DTYPES[result])
    element = PACKED.get(result, result)
    if (kind in PACKED) != (result in PACKED) or element not in _TRUE:
        raise bind.error(f"'set' has no result .{result} of sources .{kind}")
    yes = _TRUE[element].view(DTYPES[element])
    return lambda truth: np.where(truth, yes, DTYPES[element].type(0))


def _joined(halves: Array) -> Array:
    return np.ascontiguousarray(halves).view(np.uint32)[:, 0]


_TRUE = {
    **{
        name: np.array([-1], f"i{raw_dtype(name).itemsize}")
        for name in ("u16", "s16", "u32", "s32")
    },
    "f16": np.array([0x3C00], np.uint16),
    "bf16": np.array([0x3F80], np.uint16),
    "f32": np.array([0x3F800000], np.uint32),
}
