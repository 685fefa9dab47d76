"""Tunings: what the tuning DB knows for one GPU model, in the shape that selection reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from search_spaces import Bucket, GpuSpec, Problem, SpaceView, UserError
from search_spaces.layer_space import LayerView
from search_spaces.problems import AnyProblem
from search_spaces.views import view_of
from tuning_db.records import TrialRecord, TrialStatus, Winner
from tuning_db.selection import TunedBucket
from tuning_db.store import TuningDB
from tuning_db.url import resolve_url, shown


def shape_of(problem: AnyProblem) -> AnyProblem:
    """What winners are looked up by: top_k changes a grouped GEMM's rows, not its kernels."""
    return replace(problem, top_k=1) if isinstance(problem, Problem) else problem


def count_of(problem: AnyProblem, bucket: Bucket) -> int:
    """What selection places the bucket by: rows of a grouped GEMM, tokens of any other op."""
    return bucket.rows(problem) if isinstance(problem, Problem) else bucket.tokens(problem)


@dataclass(frozen=True)
class ShapeTuning:
    """All there is for one problem shape.

    ``default`` is the name of the config that runs where nothing is known. ``outdated`` tells of
    winners that this version cannot run, one line each.
    """

    default: str
    buckets: tuple[TunedBucket, ...]
    outdated: tuple[str, ...]


class Tunings:
    """Winners of one GPU model, read once; the times beside them are read shape by shape.

    ``db`` is a path or URL, None for LIGHT_MOE_DB or ./tuning.sqlite. Where there is no such file,
    nothing is tuned. The DB is only read, and what a search adds later is not seen. Raises
    UserError for a file that is no tuning DB, or one that cannot be read.
    """

    def __init__(self, db: str | os.PathLike[str] | None, gpu: GpuSpec) -> None:
        self.gpu = gpu
        self.url = resolve_url(db)
        self.name = shown(self.url)
        self.exists = not self.url.startswith("sqlite") or Path(self.name).exists()
        self._winners: list[Winner] = []
        if self.exists:
            with TuningDB.open(self.url, create=False, readonly=True) as store:
                self._winners = store.winners(gpu.name)

    @property
    def borders(self) -> tuple[float, ...]:
        """Zipf exponents at which the nearest tuned skew may change, ascending.

        Between two of them a selection is the same whatever exponent is asked for.
        """
        exponents = sorted({winner.bucket.skew.exponent for winner in self._winners})
        return tuple(sorted({(a + b) / 2 for a, b in combinations(exponents, 2)}))

    def of_shape(self, problem: AnyProblem) -> ShapeTuning:
        """What is known of the problem; with any top_k, if it is a grouped GEMM."""
        view = view_of(problem, self.gpu)
        default = str(view.default())
        usable, outdated = [], []
        for winner in self._winners:
            if shape_of(winner.problem) == shape_of(problem):
                reason = _unusable(winner.trial.config, view)
                if reason is None:
                    usable.append(winner)
                else:
                    outdated.append(f"{winner.bucket}: {winner.trial.config} ({reason})")
        names = {default, *(winner.trial.config for winner in usable)}
        buckets: tuple[TunedBucket, ...] = ()
        if usable:
            with TuningDB.open(self.url, create=False, readonly=True) as store:
                buckets = tuple(tuned_bucket(store, winner, names) for winner in usable)
        return ShapeTuning(default, buckets, tuple(outdated))


def _unusable(config: str, view: SpaceView | LayerView) -> str | None:
    """Why a stored config cannot run in this version, on this GPU; None when it can."""
    try:
        broken = view.explain(view.space.config_type.parse(config))
    except UserError:
        return "the name of a config of another version"
    return str(broken[0]) if broken else None


def tuned_bucket(store: TuningDB, winner: Winner, names: Iterable[str]) -> TunedBucket:
    """The winner's bucket with what is known there of the configs ``names``."""
    trials = store.trials(winner.problem, winner.bucket, winner.gpu_name, statuses=[TrialStatus.OK])
    times = {name: _comparable_us(trials, name, winner.trial) for name in names}
    return TunedBucket(
        bucket=winner.bucket,
        rows=count_of(winner.problem, winner.bucket),
        top_k=winner.problem.top_k,
        source=winner.trial.source,
        winner=winner.trial.config,
        times_us={name: time for name, time in times.items() if time is not None},
    )


def _comparable_us(trials: Iterable[TrialRecord], name: str, winner: TrialRecord) -> float | None:
    """The config's time that compares best with the winner's.

    From the same source only; the same run, the same stage of it (finalists are timed
    interleaved) and the same card come before others, newer before older.
    """
    if name == winner.config:
        return winner.time_us
    same = [trial for trial in trials if trial.config == name and trial.source == winner.source]

    def rank(trial: TrialRecord) -> tuple[bool, bool, bool, int]:
        return (
            trial.run_id == winner.run_id,
            trial.is_finalist == winner.is_finalist,
            trial.gpu_uuid == winner.gpu_uuid,
            trial.id or 0,
        )

    return max(same, key=rank).time_us if same else None
