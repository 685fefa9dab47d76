"""A kernel's header and body -> Entry (PTX ISA, "Kernel and Function Directives")."""

from __future__ import annotations

import re
from types import MappingProxyType

from tuner.emulator.ptx.body import read_body
from tuner.emulator.ptx.declaration import read_param
from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.module import Entry
from tuner.emulator.ptx.number import integer
from tuner.emulator.ptx.operand import Symbol
from tuner.emulator.ptx.scope import Scope
from tuner.emulator.ptx.source import Source
from tuner.emulator.ptx.statement import body_pieces
from tuner.emulator.ptx.variable import Param

_TUNING = re.compile(
    r"""\s*\.(?:(?P<word>maxntid|reqntid|minnctapersm|maxnctapersm|maxnreg)
    (?P<numbers>\s+\w+(?:\s*,\s*\w+)*) | pragma\s+"_*"\s*;)""",
    re.VERBOSE,
)
_THREADS = ("maxntid", "reqntid")


def read_entry(source: Source, header: re.Match[str], outside: Scope) -> tuple[Entry, int]:
    """The kernel and the position behind it.

    ``header`` has groups ``name``, ``params``, ``directives`` and ends behind the body's opening
    brace; ``outside`` knows what the module has declared before. Raises PtxError.
    """
    name = header["name"]
    params = _params(source, header)
    scope = Scope(outside, {})
    for param in params:
        if not scope.declare(param.name, Symbol(param.name, 0)):
            line = source.line(header.start("name"))
            raise PtxError(line, f"parameter {param.name!r} is declared twice")
    pieces = list(body_pieces(source, header.end() - 1))
    body = read_body(pieces, scope)
    entry = Entry(
        name,
        params,
        tuple(body.variables),
        tuple(body.instructions),
        MappingProxyType(body.labels),
        MappingProxyType(_directives(source, header)),
    )
    return entry, pieces[-1].end


def _params(source: Source, header: re.Match[str]) -> tuple[Param, ...]:
    if not (header["params"] or "").strip():
        return ()
    params = []
    position = header.start("params")
    for part in header["params"].split(","):
        params.append(read_param(part, source.line(source.skip_spaces(position))))
        position += len(part) + 1
    return tuple(params)


def _directives(source: Source, header: re.Match[str]) -> dict[str, tuple[int, ...]]:
    """``.maxntid 128, 1, 1`` (PTX ISA, "Performance-Tuning Directives")."""
    directives: dict[str, tuple[int, ...]] = {}
    position = source.skip_spaces(header.start("directives"))
    while position < header.end() - 1:
        found = _TUNING.match(source.text, position, header.end() - 1)
        if found is None:
            what = source.excerpt(position)
            raise source.error(position, f"{what}: no directive of a kernel")
        if found["word"]:
            line = source.line(position)
            directives[found["word"]] = _numbers(found["word"], found["numbers"], line)
        position = source.skip_spaces(found.end())
    return directives


def _numbers(word: str, text: str, line: int) -> tuple[int, ...]:
    values = [integer(part.strip()) for part in text.split(",")]
    numbers = tuple(value for value in values if value is not None and value > 0)
    if len(numbers) < len(values) or len(numbers) > (3 if word in _THREADS else 1):
        raise PtxError(
            line, f".{word} {shortened(text.strip())}: 1 to 3 numbers of threads, or one count"
        )
    # Dimensions left out are 1.
    return (*numbers, 1, 1)[:3] if word in _THREADS else numbers
