"""PTX text -> Module (PTX ISA, "Syntax" and "Directives")."""

from __future__ import annotations

import re
from types import MappingProxyType

from tuner.emulator.ptx.declaration import IDENTIFIER, read_variables
from tuner.emulator.ptx.entry_reader import read_entry
from tuner.emulator.ptx.error import PtxError
from tuner.emulator.ptx.module import Entry, Module
from tuner.emulator.ptx.operand import Symbol
from tuner.emulator.ptx.scope import Scope
from tuner.emulator.ptx.source import Source
from tuner.emulator.ptx.variable import Variable

TARGETS = ("sm_75", "sm_80")

_HEADER = re.compile(
    r"""\s*\.version\s+(?P<version>\d+\.\d+)\s*
    \.target\s+(?P<target>\w+)(?P<options>(?:\s*,\s*\w+)*)\s*
    \.address_size\s+(?P<address_size>\d+)\b""",
    re.VERBOSE,
)
_HEAD = re.compile(r"\s*(?P<linkage>(?:\.(?:extern|visible|weak|common)\s+)*)\.(?P<word>\w+)")
_FUNCTION = re.compile(
    rf"""\s*(?:\([^()]*\)\s*)?(?P<name>{IDENTIFIER})\s*(?:\((?P<params>[^()]*)\))?
    (?P<directives>(?:\.pragma\s+"_*"\s*;|[^;{{}}"])*)(?P<mark>[;{{])""",
    re.VERBOSE,
)
_STATEMENT = re.compile(r"[^;]*;")
_BRACE = re.compile(r"[{}]")


def read_module(text: str) -> Module:
    """Read a whole PTX module as NVRTC writes it.

    Bodies of device functions are not read, and what a ``call`` does is not looked into. Raises
    PtxError, with the line, for everything else that cannot be understood.
    """
    reader = _ModuleReader(Source(text))
    return reader.read()


class _ModuleReader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._scope = Scope(None, {})
        self._functions: set[str] = set()
        self._variables: list[Variable] = []
        self._entries: dict[str, Entry] = {}

    def read(self) -> Module:
        header = self._header()
        position = self._source.skip_spaces(header.end())
        while position < len(self._source.text):
            position = self._source.skip_spaces(self._declaration(position))
        return Module(
            header["version"],
            header["target"],
            int(header["address_size"]),
            tuple(self._variables),
            MappingProxyType(self._entries),
        )

    def _header(self) -> re.Match[str]:
        header = _HEADER.match(self._source.text)
        if header is None:
            start = self._source.skip_spaces(0)
            rule = "PTX begins with .version, .target and .address_size"
            raise self._source.error(start, f"{self._source.excerpt(start)}: {rule}")
        target, size = header["target"], header["address_size"]
        if target not in TARGETS:
            known = " or ".join(TARGETS)
            problem = f".target {target}: only {known}; compile for one of them"
            raise self._source.error(header.start("target"), problem)
        unknown = set(re.findall(r"\w+", header["options"])) - {"debug"}
        if unknown:
            problem = f".target option {min(unknown)}: only 'debug' is known"
            raise self._source.error(header.start("options"), problem)
        if size != "64":
            problem = f".address_size {size}: only 64 is known"
            raise self._source.error(header.start("address_size"), problem)
        return header

    def _declaration(self, position: int) -> int:
        """Read what stands at ``position`` of the module; the position behind it."""
        head = _HEAD.match(self._source.text, position)
        word = head["word"] if head else ""
        if head is not None and word in ("entry", "func"):
            return self._function(head)
        if head is None or word not in ("global", "const", "shared", "pragma"):
            what = self._source.excerpt(position)
            raise self._source.error(position, f"{what}: no directive of a module")
        statement = _STATEMENT.match(self._source.text, head.start("word") - 1)
        if statement is None:
            what = self._source.excerpt(position)
            raise self._source.error(position, f"{what}: no ';' ends this statement")
        if word != "pragma":
            self._declare_variables(statement, external=".extern" in head["linkage"])
        return statement.end()

    def _declare_variables(self, statement: re.Match[str], external: bool) -> None:
        line = self._source.line(statement.start())
        for variable in read_variables(statement[0][:-1].rstrip(), line, external):
            for relocation in variable.relocations:
                if self._scope.find(relocation.symbol) is None:
                    raise PtxError(line, f"{relocation.symbol!r} is not declared before its use")
            if not self._scope.declare(variable.name, Symbol(variable.name, 0)):
                raise PtxError(line, f"{variable.name!r} is declared twice")
            self._variables.append(variable)

    def _function(self, head: re.Match[str]) -> int:
        """A kernel or a device function: declared only, or with its body."""
        found = _FUNCTION.match(self._source.text, head.end())
        if found is None:
            what = self._source.excerpt(head.start("word") - 1)
            rule = "needs a name, parameters, and a body or ';'"
            raise self._source.error(head.start("word"), f"{what}: {rule}")
        name, line = found["name"], self._source.line(found.start("name"))
        # Functions are declared and then defined, so that one name may come twice.
        fresh = self._scope.declare(name, Symbol(name, 0))
        if name in self._entries or not (fresh or name in self._functions):
            raise PtxError(line, f"{name!r} is declared twice")
        self._functions.add(name)
        if found["mark"] == ";":
            return found.end()
        if head["word"] == "func":
            return self._behind_block(found.end() - 1)
        self._entries[name], end = read_entry(self._source, found, self._scope)
        return end

    def _behind_block(self, opening: int) -> int:
        """The position behind the partner of an opening brace."""
        depth = 0
        for brace in _BRACE.finditer(self._source.text, opening):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                return brace.end()
        raise self._source.error(
            opening, "the '{' opened here is never closed: the text is cut off"
        )
