"""The tuning DB: what was measured, who won. See :class:`TuningDB` and :func:`frame`."""

from tuning_db.frame import frame
from tuning_db.records import GpuRecord, Source, TrialRecord, TrialStatus, Verified, Winner
from tuning_db.store import TuningDB
from tuning_db.url import resolve_url

__all__ = [
    "GpuRecord",
    "Source",
    "TrialRecord",
    "TrialStatus",
    "TuningDB",
    "Verified",
    "Winner",
    "frame",
    "resolve_url",
]
