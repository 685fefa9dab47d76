"""A kernel's body -> instructions, labels and variables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tuner.emulator.ptx.declaration import read_registers, read_variables
from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.instruction import Instruction
from tuner.emulator.ptx.operand import Label, Operand, Register, Symbol
from tuner.emulator.ptx.operand_reader import read_operands, read_predicate
from tuner.emulator.ptx.scope import Names, Scope
from tuner.emulator.ptx.statement import Piece
from tuner.emulator.ptx.variable import Variable

_DIRECTIVE = re.compile(r"\.(\w+)")
_GUARD = re.compile(r"@\s*(!?)\s*([\w$%]+)\s+")
_OPCODE = re.compile(r"([a-z]\w*)((?:\s*\.\w+(?:::\w+)*)*)(?=[\s{\[(]|$)\s*")
# "name: .branchtargets a, b" (PTX ISA, "Control Flow Directives").
_TABLE = re.compile(r".*?:\s*\.branchtargets\s*")
_SPACES = ("shared", "local", "global", "const", "param")


@dataclass(slots=True)
class Body:
    """What has been read so far of one kernel."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)


def read_body(pieces: Sequence[Piece], outside: Scope) -> Body:
    """The body whose pieces these are; names that it does not declare are looked up ``outside``.

    Raises PtxError.
    """
    reader = _BodyReader(outside, _labels_by_block(pieces))
    for index, piece in enumerate(pieces):
        reader.take(index, piece)
    for instruction in reader.body.instructions:
        for operand in instruction.operands:
            if isinstance(operand, Label) and operand.name not in reader.body.labels:
                raise PtxError(instruction.line, f"{operand.name!r} is no label in this kernel")
    return reader.body


def _labels_by_block(pieces: Sequence[Piece]) -> dict[int, list[Piece]]:
    """The labels of every block, by the index of its opening brace (-1: the body itself)."""
    found: dict[int, list[Piece]] = {-1: []}
    open_blocks = [-1]
    for index, piece in enumerate(pieces):
        if piece.kind == "{":
            open_blocks.append(index)
            found[index] = []
        elif piece.kind == "}":
            open_blocks.pop()
        elif piece.kind in ("label", "table"):
            found[open_blocks[-1]].append(piece)
    return found


class _BodyReader:
    def __init__(self, outside: Scope, labels: dict[int, list[Piece]]) -> None:
        self.body = Body()
        self._names = Names(outside)
        self._labels = labels
        # Branch tables, by unique name, with the block they stand in.
        self._tables: dict[str, tuple[Scope, Piece]] = {}
        self._scope = outside
        self._open(-1)

    def take(self, index: int, piece: Piece) -> None:
        if piece.kind == "{":
            self._open(index)
        elif piece.kind == "}":
            assert self._scope.outer is not None
            self._scope = self._scope.outer
        elif piece.kind == "label":
            label = self._scope.find(piece.text)
            assert isinstance(label, Label)
            self.body.labels[label.name] = len(self.body.instructions)
        elif piece.kind == "statement" and piece.text[0] == ".":
            self._directive(piece)
        elif piece.kind == "statement":
            self.body.instructions.append(self._instruction(piece))

    def _open(self, index: int) -> None:
        """A new block, with its labels."""
        known: dict[str, Label] = {}
        tables: list[tuple[str, Piece]] = []
        for piece in self._labels[index]:
            name = piece.text.partition(":")[0].strip()
            if name in known:
                raise PtxError(piece.line, f"label {name!r} stands twice in one block")
            known[name] = Label(self._names.unique(name))
            if piece.kind == "table":
                tables.append((known[name].name, piece))
        self._scope = Scope(self._scope, known)
        self._tables.update((name, (self._scope, piece)) for name, piece in tables)

    def _directive(self, piece: Piece) -> None:
        found = _DIRECTIVE.match(piece.text)
        word = found[1] if found else ""
        if word == "reg":
            for register in read_registers(piece.text, piece.line):
                unique = replace(register, name=self._names.unique(register.name))
                self._declare(register.name, unique, piece.line)
        elif word in _SPACES:
            for variable in read_variables(piece.text, piece.line, external=False):
                unique_name = self._names.unique(variable.name)
                self._declare(variable.name, Symbol(unique_name, 0), piece.line)
                self.body.variables.append(replace(variable, name=unique_name))
        elif word != "pragma":
            raise PtxError(piece.line, f"{shortened(piece.text)}: no directive of a kernel's body")

    def _declare(self, name: str, meaning: Register | Symbol, line: int) -> None:
        if not self._scope.declare(name, meaning):
            raise PtxError(line, f"{name!r} is declared twice in one block")

    def _instruction(self, piece: Piece) -> Instruction:
        text, line = piece.text, piece.line
        guard = _GUARD.match(text)
        predicate = read_predicate(guard[2], self._scope, line) if guard else None
        found = _OPCODE.match(text, guard.end() if guard else 0)
        if found is None:
            raise PtxError(line, f"{shortened(text)}: no instruction such as 'add.s32 %r1, %r2, 1'")
        opcode, root, modifiers = _opcode(found[1], found[2])
        operands: tuple[Operand, ...] = ()
        if root != "call":
            operands = read_operands(text[found.end() :], self._scope, line)
        if root == "brx":
            operands = self._through_table(operands, piece)
        if root == "bra" and [type(operand) for operand in operands] != [Label]:
            raise PtxError(line, f"{shortened(text)}: branches to one label and nothing else")
        negated = guard is not None and guard[1] == "!"
        return Instruction(opcode, root, modifiers, operands, predicate, negated, line, text)

    def _through_table(self, operands: tuple[Operand, ...], piece: Piece) -> tuple[Operand, ...]:
        """The index and the labels of the table that a brx.idx names."""
        table = operands[1] if len(operands) == 2 else None
        if not isinstance(table, Label) or table.name not in self._tables:
            rule = "takes an index and the name of a .branchtargets table"
            raise PtxError(piece.line, f"{shortened(piece.text)}: {rule}")
        scope, declared = self._tables[table.name]
        targets = read_operands(_TABLE.sub("", declared.text), scope, declared.line)
        if not all(isinstance(target, Label) for target in targets):
            raise PtxError(declared.line, f"{shortened(declared.text)}: lists labels only")
        return (operands[0], *targets)


@lru_cache(maxsize=4096)
def _opcode(root: str, rest: str) -> tuple[str, str, tuple[str, ...]]:
    """``ld``, ``.global.u32`` -> the whole, the root and the modifiers."""
    modifiers = tuple(part.strip() for part in rest.split(".")[1:])
    return ".".join((root, *modifiers)), root, modifiers
