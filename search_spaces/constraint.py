"""Constraint: a named rule over (config, problem, GPU) that says why it is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search_spaces.gpu import GpuSpec

Check = Callable[[Any, Any, GpuSpec], str | None]  # each op's rules take its own problems


@dataclass(frozen=True)
class Constraint:
    """``check`` returns the reason when the rule is broken, else None.

    ``uses`` names the parameters the check reads, no others: a search space evaluates the rule as
    soon as these are fixed. The first argument of ``check`` has those attributes at least.
    """

    name: str
    uses: tuple[str, ...]
    check: Check


@dataclass(frozen=True)
class Violation:
    """A broken constraint and the reason it gave."""

    constraint: str
    reason: str

    def __str__(self) -> str:
        return f"{self.constraint}: {self.reason}"
