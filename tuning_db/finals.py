"""Finals: the configs of one place that were timed side by side, on every card."""

from __future__ import annotations

from collections.abc import Sequence

from tuning_db.records import TrialRecord, TrialStatus

Final = dict[str, list[TrialRecord]]  # config -> its trial on each card


def last_final(trials: Sequence[TrialRecord]) -> Final:
    """Finalists of the newest run that held a final: the last trial on each card.

    ``trials`` are those of one place (problem, bucket, GPU model), oldest first.
    """
    finalists = [trial for trial in trials if trial.is_finalist]
    found: dict[str, dict[str | None, TrialRecord]] = {}
    for trial in finalists:
        if trial.run_id == finalists[-1].run_id:
            found.setdefault(trial.config, {})[trial.gpu_uuid] = trial
    return {config: list(by_card.values()) for config, by_card in found.items()}


def mean_us(records: Sequence[TrialRecord]) -> float | None:
    """A finalist's time, the mean over cards in microseconds; None unless it works on each."""
    times = [record.time_us for record in records if record.status is TrialStatus.OK]
    known = [time_us for time_us in times if time_us is not None]
    return sum(known) / len(known) if known and len(known) == len(records) else None
