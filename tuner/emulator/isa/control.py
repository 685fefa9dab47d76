"""Control: instructions that move the program counter, which the machine itself executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.emulator.isa.binder import Binder, Source, Target
from tuner.emulator.isa.registry import only
from tuner.emulator.ptx import Instruction, Label

CONTROL = ("bra", "brx", "ret", "exit", "trap", "bar", "barrier")


@dataclass(frozen=True)
class Branch:
    """``bra``: to ``target`` where the guard holds; None for always (Control Flow)."""

    target: int
    guard: Source | None


@dataclass(frozen=True)
class Switch:
    """``brx.idx``: to the target that the index names (Control Flow)."""

    targets: tuple[int, ...]
    index: Source


@dataclass(frozen=True)
class Leave:
    """``ret`` of a kernel and ``exit`` (Control Flow), ``trap`` (Miscellaneous)."""

    guard: Source | None
    trap: bool


@dataclass(frozen=True)
class Barrier:
    """``bar`` and ``barrier`` (Parallel Synchronization and Communication).

    ``action`` is sync, arrive or red; ``count`` None means every thread of the CTA. ``reduce``
    is popc, and, or.
    """

    action: str
    aligned: bool
    number: Source
    count: Source | None
    reduce: str | None = None
    result: Target | None = None
    operand: Source | None = None


Control = Branch | Switch | Leave | Barrier


def assemble_control(found: Instruction, bind: Binder, labels: Mapping[str, int]) -> Control | None:
    """What the machine has to know. ``bar.warp.sync`` gives None: it is no control instruction."""
    if found.root in ("bar", "barrier"):
        return None if "warp" in found.modifiers else _barrier(found, bind)
    guard = bind.guard(found)
    if found.root == "bra":
        only(found, {"uni"})
        [target] = found.operands
        if not isinstance(target, Label):
            raise bind.error("a branch needs a label")
        return Branch(labels[target.name], guard)
    if found.root == "brx":
        only(found, {"idx", "uni"})
        if guard is not None:
            raise bind.error("a predicated brx.idx is not supported: branch around it")
        index, *table = found.operands
        targets = tuple(labels[label.name] for label in table if isinstance(label, Label))
        return Switch(targets, bind.source(index, "u32"))
    only(found, {"uni"})
    return Leave(guard, found.root == "trap")


def _barrier(found: Instruction, bind: Binder) -> Barrier:
    only(found, {"cta", "sync", "arrive", "red", "aligned", "popc", "and", "or", "pred", "u32"})
    if found.predicate is not None:
        raise bind.error("a predicated barrier is not supported: branch around it")
    operands = list(found.operands)
    action = next((m for m in found.modifiers if m in ("sync", "arrive", "red")), "sync")
    aligned = found.root == "bar" or "aligned" in found.modifiers
    if action == "arrive" and len(operands) < 2:
        raise bind.error("a barrier that threads only arrive at needs their number")
    if action != "red":
        count = bind.source(operands[1], "u32") if len(operands) > 1 else None
        return Barrier(action, aligned, bind.source(operands[0], "u32"), count)
    reduce = next(m for m in found.modifiers if m in ("popc", "and", "or"))
    last = operands.pop()
    return Barrier(
        action,
        aligned,
        number=bind.source(operands[1], "u32"),
        count=bind.source(operands[2], "u32") if len(operands) > 2 else None,
        reduce=reduce,
        result=bind.target(operands[0], "u32" if reduce == "popc" else "pred"),
        operand=bind.source(last, "pred"),
    )
