"""PTX text without comments and debug information, with the line of every position."""

from __future__ import annotations

import re
from bisect import bisect_right

from tuner.emulator.ptx.error import PtxError, shortened

# Alternatives are tried where each begins, so a "//" inside a .file name is no comment.
_NOISE = re.compile(
    r"""//[^\n]*
    | /\*.*?\*/
    | "[^"\n]*"
    | (?<![\w.])\.(?:loc|file)\b[^\n]*
    | (?<![\w.])\.section\s+[\w.$]+\s*\{[^{}]*\}
    | (?P<open>/\*|"|(?<![\w.])\.section\b)""",
    re.VERBOSE | re.DOTALL,
)
_NOT_BLANK = re.compile(r"\S")
_NOT_NEWLINE = re.compile(r"[^\n]")


class Source:
    """``text`` has the length and the lines of what was given; noise is blank."""

    def __init__(self, text: str) -> None:
        """Raises PtxError for a comment, string or debug section that never ends."""
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self.text = _NOISE.sub(self._blanked, text)

    def line(self, position: int) -> int:
        """The line, from 1, of a position in the text."""
        return bisect_right(self._starts, position)

    def error(self, position: int, problem: str) -> PtxError:
        return PtxError(self.line(position), problem)

    def skip_spaces(self, position: int) -> int:
        """The first position at or after this one that is not blank, or the end."""
        found = _NOT_BLANK.search(self.text, position)
        return len(self.text) if found is None else found.start()

    def excerpt(self, position: int) -> str:
        """What stands at a position, up to the end of its line, for a message."""
        return shortened(self.text[position : position + 2000].partition("\n")[0])

    def _blanked(self, found: re.Match[str]) -> str:
        if found["open"]:
            raise self.error(found.start(), f"{found['open']} is opened here and never closed")
        if found[0].startswith('"'):
            # No string decides anything here, but its place must not look empty.
            return f'"{"_" * (len(found[0]) - 2)}"'
        return _NOT_NEWLINE.sub(" ", found[0])
