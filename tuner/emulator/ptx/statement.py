"""The pieces of a kernel's body: statements, labels and the braces of blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tuner.emulator.ptx.error import PtxError
from tuner.emulator.ptx.source import Source

_PIECE = re.compile(
    r"""\s*(?:
      (?P<brace>[{}])
    | (?P<table>[A-Za-z_$%][\w$]*\s*:\s*\.(?:branchtargets|calltargets|callprototype)\b[^;{}]*);
    | (?P<label>[A-Za-z_$%][\w$]*)\s*:(?!:)
    | (?P<statement>[^\s;{}][^;{}]*(?:\{[^;{}]*\}[^;{}]*)*);
    )""",
    re.VERBOSE,
)
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """``kind`` is ``{``, ``}``, ``label``, ``table`` or ``statement``; ``end`` is where it ends."""

    kind: str
    text: str
    line: int
    end: int


def body_pieces(source: Source, opening: int) -> Iterator[Piece]:
    """The pieces from just behind the brace at ``opening`` up to and with its partner."""
    depth = 1
    position = opening + 1
    while depth:
        found = _PIECE.match(source.text, position)
        if found is None:
            raise _unreadable(source, opening, position)
        position = found.end()
        kind = found.lastgroup or ""
        text = found[kind]
        line = source.line(found.start(kind))
        if kind == "brace":
            depth += 1 if text == "{" else -1
            yield Piece(text, text, line, position)
        else:
            text = _SPACES.sub(" ", text).rstrip()
            yield Piece(kind, text, line, position)


def _unreadable(source: Source, opening: int, position: int) -> PtxError:
    start = source.skip_spaces(position)
    if start == len(source.text):
        return source.error(opening, "the '{' opened here is never closed: the text is cut off")
    if source.text[start] == ";":
        return source.error(start, "a ';' with no statement before it")
    return source.error(start, f"{source.excerpt(start)}: no ';' ends this statement")
