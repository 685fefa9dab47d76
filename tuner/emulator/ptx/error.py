"""What is wrong with a PTX text, and on which line."""

from __future__ import annotations

from search_spaces.errors import UserError


class PtxError(UserError):
    """PTX that cannot be read: prints as ``PTX line 12: <what is wrong>: <rule or way out>``."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return f"PTX line {self.line}: {self.problem}"


def shortened(text: str, width: int = 120) -> str:
    """A piece of PTX on one line, quoted, for a message."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= width else f"{flat[: width - 3]}...")
