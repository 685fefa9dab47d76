"""A compiler's log, cut to what a person needs."""

from __future__ import annotations

_FOLLOWING = 6
_WIDTH = 400


def trimmed(log: str) -> str:
    """The first line that tells of an error, and the few after it; long type names cut short."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if "error" in line.lower()), 0)
    kept = lines[first : first + 1 + _FOLLOWING]
    return "\n".join(line if len(line) <= _WIDTH else line[:_WIDTH] + " ..." for line in kept)
