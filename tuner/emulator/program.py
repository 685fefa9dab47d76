"""Program: an entry of a PTX module, assembled: a step an instruction, an address a variable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tuner.emulator.isa.known  # noqa: F401  (registers the semantics)
from search_spaces.errors import UserError
from tuner.emulator.cohort import Cohort
from tuner.emulator.isa.binder import Binder, Source
from tuner.emulator.isa.control import CONTROL, Control, assemble_control
from tuner.emulator.isa.registry import Gathering, Step, semantics
from tuner.emulator.isa.values import raw_dtype
from tuner.emulator.ptx import Entry, Immediate, Instruction, Module, PtxError, Register, Variable


@dataclass(frozen=True)
class Collective:
    """An instruction that a warp's threads execute together; ``members`` reads the mask of those
    (None: all that live)."""

    members: Source | None


@dataclass(frozen=True)
class Variables:
    """Where the module's variables lie. Bytes of static shared and of local memory, the image of
    constant memory, and the initial bytes of ``.global`` variables by name."""

    shared_bytes: int
    local_bytes: int
    const: bytes
    globals: dict[str, bytes]
    addresses: dict[str, int]


@dataclass(frozen=True)
class Program:
    """What the machine runs. ``steps[i]`` executes instruction i, ``controls[i]`` is there instead
    where it moves the program counter; ``ends[i]`` is where a straight run from i stops."""

    entry: Entry
    registers: tuple[np.dtype[Any], ...]
    steps: tuple[Step | None, ...]
    controls: tuple[Control | None, ...]
    collectives: tuple[Collective | None, ...]
    ends: tuple[int, ...]
    next_collective: tuple[int, ...]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """In the order of the text."""
        return self.entry.instructions


def choose_entry(module: Module, name: str | None) -> Entry:
    """The entry of that name, or the only one. Raises UserError when there is none."""
    if name is None and len(module.entries) == 1:
        return next(iter(module.entries.values()))
    if name is None or name not in module.entries:
        wanted = "name one with entry=" if name is None else f"'{name}' is not among them"
        raise UserError(f"the PTX has the entries {', '.join(module.entries) or 'none'}: {wanted}")
    return module.entries[name]


def lay_out(module: Module, entry: Entry) -> Variables:
    """Gives every variable an address in its state space; the dynamic shared array comes last."""
    known = (*module.variables, *entry.variables)
    for variable in known:
        if variable.relocations:
            raise UserError(
                f"variable {variable.name} holds the address of {variable.relocations[0].symbol}: "
                "the emulator does not support that"
            )
    addresses: dict[str, int] = {}
    static = [v for v in known if v.space == "shared" and not v.external]
    shared_bytes = _stack(static, addresses)
    for variable in known:
        if variable.space == "shared" and variable.external:
            addresses[variable.name] = shared_bytes = _aligned(shared_bytes, variable.align)
    local_bytes = _stack((v for v in known if v.space == "local"), addresses)
    constants = [v for v in known if v.space == "const"]
    const = bytearray(_stack(constants, addresses))
    for variable in constants:
        start = addresses[variable.name]
        const[start : start + variable.size] = _image(variable)
    offset = 0
    for param in entry.params:
        addresses[param.name] = offset = _aligned(offset, param.align)
        offset += param.size
    variables = {v.name: _image(v) for v in known if v.space == "global"}
    return Variables(shared_bytes, local_bytes, bytes(const), variables, addresses)


def assemble(entry: Entry, addresses: dict[str, int]) -> Program:
    """Raises PtxError for anything the emulator does not know, before anything runs."""
    for found in entry.instructions:
        if found.root == "call":  # told before what prepares its parameters
            raise PtxError(found.line, f"functions must be inlined to be emulated ({found.text})")
    types = _registers(entry.instructions)
    bind = Binder({name: slot for slot, name in enumerate(types)}, addresses)
    steps: list[Step | None] = []
    controls: list[Control | None] = []
    collectives: list[Collective | None] = []
    for found in entry.instructions:
        bind.current = found
        control = assemble_control(found, bind, entry.labels) if found.root in CONTROL else None
        controls.append(control)
        if control is not None:
            steps.append(None)
            collectives.append(None)
            continue
        meaning = semantics(found)
        steps.append(_guarded(meaning.assemble(found, bind), found, bind, len(steps)))
        gathers = meaning.gathers
        collectives.append(None if gathers is None else _collective(found, bind, gathers))
    return Program(
        entry=entry,
        registers=tuple(raw_dtype(name) for name in types.values()),
        steps=tuple(steps),
        controls=tuple(controls),
        collectives=tuple(collectives),
        ends=_ends(entry, controls),
        next_collective=_next(collectives),
    )


def _stack(variables: Iterable[Variable], addresses: dict[str, int]) -> int:
    offset = 0
    for variable in variables:
        addresses[variable.name] = offset = _aligned(offset, variable.align)
        offset += variable.size
    return offset


def _aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align


def _image(variable: Variable) -> bytes:
    return (variable.initial or b"").ljust(variable.size, b"\0")


def _registers(instructions: Iterable[Instruction]) -> dict[str, str]:
    """Name -> declared type of every register that is named, in order of appearance."""
    found: dict[str, str] = {}

    def visit(node: Any) -> None:
        if isinstance(node, Register):
            found.setdefault(node.name, node.type)
        for name in ("base", "register", "first", "second"):
            if hasattr(node, name):
                visit(getattr(node, name))
        for element in getattr(node, "elements", ()):
            visit(element)

    for instruction in instructions:
        for operand in (*instruction.operands, instruction.predicate):
            visit(operand)
    return found


def _guarded(step: Step, found: Instruction, bind: Binder, index: int) -> Step:
    """``@p``: only lanes with the predicate execute, and none of them is no fault."""
    guard = bind.guard(found)
    if guard is None:
        return step

    def run(cohort: Cohort) -> None:
        holds = guard(cohort)
        mask, writes = cohort.mask, cohort.writes
        inner = holds if mask is None else holds & mask
        count = int(np.count_nonzero(inner))
        if cohort.counters is not None:
            before = cohort.lanes if mask is None else int(np.count_nonzero(mask))
            cohort.counters.predicated_off(index, before - count)
        if count:
            cohort.execute(inner, inner)
            step(cohort)
            cohort.execute(mask, writes)

    return run


def _collective(found: Instruction, bind: Binder, gathers: Gathering) -> Collective:
    """Binds the member mask, unless it names everyone."""
    last = found.operands[-1]
    everyone = isinstance(last, Immediate) and last.bits in (-1, 0xFFFFFFFF)
    if gathers is Gathering.WARP or everyone:
        return Collective(None)
    named, guard = bind.source(last, "u32"), bind.guard(found)
    if guard is None:
        return Collective(named)
    # Who does not execute waits for nobody: it may not even have a mask.
    return Collective(lambda cohort: named(cohort) * guard(cohort))


def _ends(entry: Entry, controls: list[Control | None]) -> tuple[int, ...]:
    """For each instruction, the first control instruction or label target after it."""
    stops = set(entry.labels.values())
    ends = [0] * len(controls)
    end = len(controls)
    for index in range(len(controls) - 1, -1, -1):
        if controls[index] is not None:
            end = index
        ends[index] = end
        if index in stops:
            end = index
    return tuple(ends)


def _next(collectives: list[Collective | None]) -> tuple[int, ...]:
    """For each instruction, the first collective one at or after it."""
    following = [len(collectives)] * (len(collectives) + 1)
    for index in range(len(collectives) - 1, -1, -1):
        following[index] = index if collectives[index] else following[index + 1]
    return tuple(following)
