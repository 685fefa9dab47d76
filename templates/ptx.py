"""Split a module's PTX into one self-contained PTX per entry (PTX ISA, "PTX Module Directives").

Variants are compiled several to a translation unit, because the headers cost more than a kernel.
What is cached and linked is one variant, and its text must not tell who its batch mates were: so
each entry takes along only the variables and functions it reaches, in the order it first names
them, and the numbers that the compiler counts per module start anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_COMMENT = re.compile(r"[ \t]*//[^\n]*")
_HEADER = re.compile(r"\s*(\.version[^\n]*(?:\n\s*\.(?:target|address_size)[^\n]*)+)")
_STRUCTURE = re.compile(r"[{};]")
_FUNCTION = re.compile(r"\.(?:entry|func)\b\s*(?:\([^)]*\)\s*)?([\w$]+)")
_VARIABLE = re.compile(r"([\w$]+)\s*(?:\[\d*\]\s*)*(?:=|;)")
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_PER_MODULE = re.compile(r"(\$L__BB|__local_depot)\d+")
_STRING = re.compile(r"\$str(?:\$\d+)?(?![\w$])")


def split_entries(ptx: str) -> dict[str, str]:
    """Entry name -> PTX of that entry alone. Raises ValueError when the text is no PTX module."""
    text = _COMMENT.sub("", ptx)
    header = _HEADER.match(text)
    if header is None:
        raise ValueError(f"no .version directive where PTX should begin: {text[:80]!r}")
    symbols: dict[str, list[str]] = {}
    entries = []
    for statement in _statements(text, header.end()):
        name = _name(statement)
        symbols.setdefault(name, []).append(statement)
        if ".entry" in statement.split("(", 1)[0]:
            entries.append(name)
    return {entry: _compose(header[1], entry, symbols) for entry in entries}


def _statements(text: str, start: int) -> Iterator[str]:
    """Module-level declarations and definitions: up to a ';' or a closing brace outside braces."""
    depth = 0
    for mark in _STRUCTURE.finditer(text, start):
        depth += {"{": 1, "}": -1, ";": 0}[mark[0]]
        # The brace of an initialiser list does not end the statement; the ';' behind it does.
        closes = mark[0] == ";" or (mark[0] == "}" and text[mark.end() :][:1] != ";")
        if depth == 0 and closes:
            yield text[start : mark.end()].strip()
            start = mark.end()


def _name(statement: str) -> str:
    found = _FUNCTION.search(statement) or _VARIABLE.search(statement)
    if found is None:
        raise ValueError(f"cannot read this PTX statement: {statement[:120]!r}")
    return found[1]


def _compose(prelude: str, entry: str, symbols: dict[str, list[str]]) -> str:
    order: dict[str, None] = {}
    _reach(entry, symbols, order, {entry})
    # Functions may call each other in a circle: declarations come before every definition.
    parts = [text for name in order for text in symbols[name]]
    parts.sort(key=lambda text: not (text.endswith(";") and ".func" in text))
    body = _PER_MODULE.sub(r"\g<1>0", "\n\n".join([prelude, *parts]) + "\n")
    strings = {name: f"$str${i}" for i, name in enumerate(dict.fromkeys(_STRING.findall(body)))}
    return _STRING.sub(lambda found: strings[found[0]], body)


def _reach(
    name: str, symbols: dict[str, list[str]], order: dict[str, None], seen: set[str]
) -> None:
    """Depth first, so that what a symbol needs stands before it."""
    for statement in symbols[name]:
        for other in dict.fromkeys(_IDENTIFIER.findall(statement)):
            if other in symbols and other not in seen:
                seen.add(other)
                _reach(other, symbols, order, seen)
    order[name] = None
