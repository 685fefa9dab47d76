"""EmulatedRun: what ``python -m tuner.emulate`` runs for one config, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.problems import AnyProblem
from templates.built import Built
from tuner.emulated import Emulated


@dataclass(frozen=True)
class EmulatedRun:
    """``proved`` is what holds if the config is right, ``ran`` what was emulated, in words.

    ``ideal`` are the least counts for that, by the counters' names; ``extent`` says in numbers how
    much it is.
    """

    config: Any
    built: Built
    emulated: Emulated
    ideal: Mapping[str, int]
    proved: str
    ran: str
    extent: Mapping[str, int]

    @property
    def verdict(self) -> str:
        """In one line."""
        found = self.emulated
        if found.emulation is None:
            return f"fault: {found.reason}"
        if not found.ok:
            return f"wrong: {found.reason}"
        return f"right: {self.proved}, relative error {found.rel_error:.2g}"


class Task(Protocol):
    """A problem of one size, and what to draw its operands from."""

    @property
    def problem(self) -> AnyProblem:
        """What configs are built for."""

    @property
    def seed(self) -> int:
        """Of the operands."""

    @property
    def size(self) -> tuple[str, str]:
        """How large it is, with a name for that, for people."""

    @property
    def size_data(self) -> dict[str, Any]:
        """The same for programs."""

    def run(self, config: Any, built: Built) -> EmulatedRun:
        """Runs ``built``, made for this problem. Raises UserError for operands that are too large
        and PtxError for PTX that the emulator does not know."""
