"""Qualifiers: the state space, the memory order and the scope among an instruction's modifiers."""

from __future__ import annotations

from tuner.emulator.isa.binder import Binder
from tuner.emulator.memory.access import Order
from tuner.emulator.ptx import Instruction

SPACES = {
    "global": "global",
    "shared": "shared",
    "shared::cta": "shared",
    "local": "local",
    "const": "const",
    "param": "param",
    "param::entry": "param",
}
SCOPES = ("cta", "gpu", "sys")


def space(found: Instruction, bind: Binder) -> str:
    """The state space named, ``generic`` when there is none."""
    named = [SPACES[modifier] for modifier in found.modifiers if modifier in SPACES]
    if len(named) > 1:
        raise bind.error(f"'{found.opcode}' names two state spaces")
    return named[0] if named else "generic"


def scope(found: Instruction, bind: Binder, default: str | None = None) -> str:
    """``cta``, ``gpu`` or ``sys``; raises PtxError when there is none and no default."""
    named = [modifier for modifier in found.modifiers if modifier in SCOPES]
    if not named and default is not None:
        return default
    if len(named) != 1:
        raise bind.error(f"'{found.opcode}' needs one scope of .{', .'.join(SCOPES)}")
    return named[0]


def order(found: Instruction, bind: Binder) -> Order:
    """What a load or store promises; ``.volatile`` is relaxed for the whole system."""
    named = [m for m in found.modifiers if m in ("volatile", "weak", *_ORDERS)]
    if len(named) > 1:
        raise bind.error(f"'{found.opcode}' names two memory orders")
    if not named or named == ["weak"]:
        return Order.WEAK
    if named == ["volatile"]:
        return Order.RELAXED
    return Order.LOCAL if scope(found, bind) == "cta" else _ORDERS[named[0]]


_ORDERS = {
    "relaxed": Order.RELAXED,
    "acquire": Order.ACQUIRE,
    "release": Order.RELEASE,
    "acq_rel": Order.ACQ_REL,
}
