"""Emulated: what became of a config in the emulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuning_db.records import TrialStatus

if TYPE_CHECKING:
    from tuner.emulator import Emulation


@dataclass(frozen=True)
class Emulated:
    """``status`` is ok, wrong_result, launch_error (a fault) or compile_error; ``reason`` says why.

    ``rel_error`` is ||C - ref|| / ||ref||, None where nothing could be compared. ``emulation`` is
    None where the kernel did not come to its end.
    """

    status: TrialStatus
    reason: str | None
    rel_error: float | None
    emulation: Emulation | None

    @property
    def ok(self) -> bool:
        """No fault, and every element within its bound."""
        return self.status is TrialStatus.OK
