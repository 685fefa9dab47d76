"""PTX text -> Module (PTX ISA, "Syntax" and "Directives")."""

from __future__ import annotations

import re
from types import MappingProxyType

from tuner.emulator.ptx.body import read_body
from tuner.emulator.ptx.declaration import IDENTIFIER, SPACES, read_param, read_variables
from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.module import Entry, Module
from tuner.emulator.ptx.number import integer
from tuner.emulator.ptx.operand import Symbol
from tuner.emulator.ptx.scope import Scope
from tuner.emulator.ptx.source import Source
from tuner.emulator.ptx.statement import Piece, body_pieces
from tuner.emulator.ptx.variable import Param, Variable

TARGETS = ("sm_75", "sm_80")

_HEADER = re.compile(
    r"""\s*\.version\s+(?P<version>\d+\.\d+)\s*
    \.target\s+(?P<target>\w+)(?P<options>(?:\s*,\s*\w+)*)\s*
    \.address_size\s+(?P<address_size>\d+)\b""",
    re.VERBOSE,
)
_HEAD = re.compile(r"\s*((?:\.(?:extern|visible|weak|common)\s+)*)\.(\w+)")
_FUNCTION = re.compile(
    rf"\s*(?:\([^()]*\)\s*)?({IDENTIFIER})\s*(?:\(([^()]*)\))?([^;{{}}]*)([;{{])"
)
_STATEMENT = re.compile(r"[^;]*;")
_BRACE = re.compile(r"[{}]")
_TUNING = re.compile(r"\s*(?:\.(\w+)((?:\s+\w+)(?:\s*,\s*\w+)*)|\.pragma\s+\"_*\"\s*;)\s*")
_THREADS = ("maxntid", "reqntid")
_SINGLE = ("minnctapersm", "maxnctapersm", "maxnreg")


def read_module(text: str) -> Module:
    """Read a whole PTX module as NVRTC writes it.

    Bodies of device functions are not read, and what a ``call`` does is not looked into. Raises
    PtxError, with the line, for everything else that cannot be understood.
    """
    return _ModuleReader(Source(text)).read()


class _ModuleReader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._globals = Scope(None, {})
        self._taken: set[str] = set()
        self._variables: list[Variable] = []
        self._entries: dict[str, Entry] = {}

    def read(self) -> Module:
        text = self._source.text
        header = _HEADER.match(text)
        if header is None:
            start = len(text) - len(text.lstrip())
            rule = "PTX begins with .version, .target and .address_size"
            raise self._source.error(start, f"{self._source.excerpt(start)}: {rule}")
        self._check(header)
        position = header.end()
        while text[position:].strip():
            position = self._declaration(position)
        return Module(
            header["version"],
            header["target"],
            int(header["address_size"]),
            tuple(self._variables),
            MappingProxyType(self._entries),
        )

    def _check(self, header: re.Match[str]) -> None:
        at, target = header.start("target"), header["target"]
        if target not in TARGETS:
            known = " or ".join(TARGETS)
            raise self._source.error(at, f".target {target}: only {known}; compile for one of them")
        unknown = set(re.findall(r"\w+", header["options"])) - {"debug"}
        if unknown:
            raise self._source.error(at, f".target option {min(unknown)}: only 'debug' is known")
        if header["address_size"] != "64":
            size = header["address_size"]
            raise self._source.error(at, f".address_size {size}: only 64 is supported")

    def _declaration(self, position: int) -> int:
        """Read what begins at ``position`` of the module; the position behind it."""
        head = _HEAD.match(self._source.text, position)
        word = head[2] if head else ""
        if head is not None and word in ("entry", "func"):
            return self._function(head, word)
        if head is not None and word in (*SPACES, "pragma"):
            statement = _STATEMENT.match(self._source.text, head.end())
            if statement is None:
                rule = "no ';' ends this statement"
                raise self._source.error(head.start(2), f".{word}: {rule}")
            if word != "pragma":
                self._declare_variables(head, statement.end() - 1)
            return statement.end()
        start = (
            position
            + len(self._source.text[position:])
            - len(self._source.text[position:].lstrip())
        )
        raise self._source.error(start, f"{self._source.excerpt(start)}: no directive of a module")

    def _declare_variables(self, head: re.Match[str], end: int) -> None:
        start = head.start(2) - 1
        line = self._source.line(start)
        text = self._source.text[start:end].strip()
        for variable in read_variables(text, line, external=".extern" in head[1]):
            for relocation in variable.relocations:
                if self._globals.find(relocation.symbol) is None:
                    raise PtxError(line, f"{relocation.symbol!r} is not declared before its use")
            if not self._globals.declare(variable.name, Symbol(variable.name, 0)):
                raise PtxError(line, f"{variable.name!r} is declared twice")
            self._taken.add(variable.name)
            self._variables.append(variable)

    def _function(self, head: re.Match[str], word: str) -> int:
        found = _FUNCTION.match(self._source.text, head.end())
        if found is None:
            raise self._source.error(head.start(2), f".{word}: cut off before its body or ';'")
        # Declared and then defined: the second time the name is known already.
        self._globals.declare(found[1], Symbol(found[1], 0))
        self._taken.add(found[1])
        if found[4] == ";":
            return found.end()
        opening = found.end() - 1
        if word == "func":
            return self._behind(opening)
        return self._entry(found, opening)

    def _behind(self, opening: int) -> int:
        """The position behind the partner of an opening brace."""
        depth = 0
        for brace in _BRACE.finditer(self._source.text, opening):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                return brace.end()
        raise self._source.error(
            opening, "the '{' opened here is never closed: the text is cut off"
        )

    def _entry(self, found: re.Match[str], opening: int) -> int:
        name, line = found[1], self._source.line(found.start(1))
        if name in self._entries:
            raise PtxError(line, f"entry {name!r} is defined twice")
        params = self._params(found)
        scope = Scope(self._globals, {})
        for param in params:
            if not scope.declare(param.name, Symbol(param.name, 0)):
                raise PtxError(line, f"parameter {param.name!r} is declared twice")
        pieces = list(body_pieces(self._source, opening))
        taken = {*self._taken, *(param.name for param in params)}
        body = read_body(pieces, scope, taken)
        self._entries[name] = Entry(
            name,
            params,
            tuple(body.variables),
            tuple(body.instructions),
            MappingProxyType(body.labels),
            MappingProxyType(self._tuning(found)),
        )
        return _end(pieces)

    def _params(self, found: re.Match[str]) -> tuple[Param, ...]:
        text = found[2]
        if text is None or not text.strip():
            return ()
        params = []
        position = found.start(2)
        for part in text.split(","):
            at = position + len(part) - len(part.lstrip())
            params.append(read_param(part, self._source.line(at)))
            position += len(part) + 1
        return tuple(params)

    def _tuning(self, found: re.Match[str]) -> dict[str, tuple[int, ...]]:
        """``.maxntid 128, 1, 1`` (PTX ISA, "Performance-Tuning Directives")."""
        read: dict[str, tuple[int, ...]] = {}
        position, end = found.start(3), found.end(3)
        while self._source.text[position:end].strip():
            directive = _TUNING.match(self._source.text, position, end)
            if directive is None:
                at = (
                    position
                    + len(self._source.text[position:end])
                    - len(self._source.text[position:end].lstrip())
                )
                raise self._source.error(
                    at, f"{self._source.excerpt(at)}: no directive of a kernel"
                )
            if directive[1]:
                read[directive[1]] = self._numbers(directive)
            position = directive.end()
        return read

    def _numbers(self, directive: re.Match[str]) -> tuple[int, ...]:
        word = directive[1]
        values = [integer(part.strip()) for part in directive[2].split(",")]
        numbers = tuple(value for value in values if value is not None and value > 0)
        most = 3 if word in _THREADS else 1 if word in _SINGLE else 0
        if len(numbers) != len(values) or len(numbers) > most:
            text = shortened(directive[0])
            raise self._source.error(directive.start(1), f"{text}: no directive of a kernel")
        return (*numbers, 1, 1)[:3] if word in _THREADS else numbers


def _end(pieces: list[Piece]) -> int:
    return pieces[-1].end
