"""Keeps a run's measured trials as a recording."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from tuner.provenance import versions
from tuner.recording import RecordedTrial, Recording
from tuner.report import Outcome


def save_recording(path: Path, command: str, outcomes: Sequence[Outcome]) -> None:
    """Writes the search trials of all places, which are on one GPU model.

    Raises UserError when the file cannot be written.
    """
    trials = {
        (outcome.place.problem, outcome.place.bucket): {
            record.config: RecordedTrial(
                record.status, record.time_us, record.time_spread_us, record.rel_error
            )
            for record in outcome.records
        }
        for outcome in outcomes
    }
    Recording(
        gpu=outcomes[0].place.target.gpu.name,
        command=command,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=versions(),
        trials=trials,
    ).save(path)
