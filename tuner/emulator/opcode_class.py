"""Opcode class: the part of the machine that an instruction keeps busy."""

from __future__ import annotations

from tuner.emulator.ptx import Instruction

_ROOTS = {
    "tensor": ("mma", "wmma"),
    "matrix load": ("ldmatrix", "movmatrix", "stmatrix"),
    "collective": ("shfl", "vote", "match", "redux", "activemask"),
    "atomic": ("atom", "red"),
    "barrier": ("bar", "barrier", "fence", "membar"),
    "branch": ("bra", "brx", "call", "exit", "ret", "trap"),
    "move": ("mov", "selp", "prmt", "cvta", "isspacep", "slct"),
    "convert": ("cvt",),
    "compare": ("setp", "set"),
    "special function": ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh"),
}
_CLASSES = {root: name for name, roots in _ROOTS.items() for root in roots}
_SPACES = ("shared", "global", "local", "const", "param")


def opcode_class(found: Instruction) -> str:
    """``tensor``, ``load shared``, ``float``, ``integer``, ...: a class of the counters' table."""
    if found.root in _CLASSES:
        return _CLASSES[found.root]
    if found.root == "cp":
        return "async copy"
    if found.root in ("ld", "ldu", "st"):
        space = next(
            (s for s in _SPACES for m in found.modifiers if m.split("::")[0] == s), "generic"
        )
        return f"{'store' if found.root == 'st' else 'load'} {space}"
    kinds = {name.rstrip("x2").rstrip("0123456789") for name in found.types}
    if kinds & {"f", "bf", "tf"}:
        return "half" if any("16" in name for name in found.types) else "float"
    return "integer" if kinds & {"u", "s"} else "logic"
