"""Winners of one bucket are timed in the next one, and win there if they are faster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces import Bucket
from tests.tuner.cli import search
from tests.tuner.recordings import GPU, SMALL, recorded_configs
from tuner.recording import RecordedTrial, Recording, Tables, Trials
from tuning_db import TrialStatus, TuningDB
from tuning_db.tunings import Tunings

BUCKETS = ("1", "16", "256")
# Of two trials, the second is the config that differs in less from the default.
DEFAULT = recorded_configs(1)[0]
PLAIN = replace(DEFAULT, group_m=4)
FAST = replace(DEFAULT, group_m=4, split_k=2)
FIRST, SECOND, THIRD = (Bucket.parse(name) for name in BUCKETS)


def recording(tables: dict[Bucket, Trials]) -> Recording:
    made: Tables = {(SMALL, bucket): trials for bucket, trials in tables.items()}
    return Recording(GPU.name, "made up", "2025-01-01T00:00:00", {}, made)


def timed(*times_us: float | None) -> list[RecordedTrial]:
    wrong = RecordedTrial(TrialStatus.WRONG_RESULT, rel_error=0.5)
    return [
        wrong if us is None else RecordedTrial(TrialStatus.OK, us, 0.1, 1e-4) for us in times_us
    ]


@pytest.fixture
def opposites() -> Recording:
    """40 configs: what is fast with few tokens is slow with many; the default is in between."""
    configs = recorded_configs(40)
    tables = {}
    for bucket, slope in ((FIRST, 1.0), (SECOND, 0.0), (THIRD, -1.0)):
        times = [500.0] + [500 + slope * 10 * (i - 20) + i / 100 for i in range(1, 40)]
        tables[bucket] = dict(zip(map(str, configs), timed(*times), strict=True))
    return recording(tables)


def test_both_winners_are_timed_in_both_buckets(tmp_path: Path, opposites: Recording) -> None:
    opposites.save(tmp_path / "r.gz")
    arguments = ("--trials", "6", "--sampler", "random", "--seed", "3")
    result = search(tmp_path, "--replay", "r.gz", *arguments)
    assert result.returncode == 0, result.stderr
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        winners = {w.bucket: w.trial.config for w in db.winners(GPU.name)}
        rows = {b: db.trials(SMALL, b, GPU.name) for b in (FIRST, SECOND, THIRD)}
    assert len(set(winners.values())) > 1, "else there is nothing to time twice"
    for one, other in ((FIRST, SECOND), (SECOND, THIRD)):
        for here, there in ((one, other), (other, one)):
            [best] = {r.time_us for r in rows[there] if r.config == winners[there]}
            guest = [r.time_us for r in rows[there] if r.config == winners[here]]
            assert guest, f"{winners[here]} of {here} was never timed at {there}"
            assert all(best and time_us and time_us >= best for time_us in guest)
    for bucket in rows:
        assert len([r for r in rows[bucket] if not r.is_finalist]) == 6, "the budget holds"
    tuning = Tunings(tmp_path / "tuning.sqlite", GPU).of_shape(SMALL)
    for low, high in zip(tuning.buckets, tuning.buckets[1:], strict=False):
        assert {low.winner, high.winner} <= low.times_us.keys() & high.times_us.keys()


def test_a_neighbours_winner_that_is_faster_takes_the_title(tmp_path: Path) -> None:
    """The first search has no trial left for it; the second finds it, and it wins there too."""
    default, plain, fast = map(str, (DEFAULT, PLAIN, FAST))
    tables = {
        FIRST: dict(zip((default, plain, fast), timed(30, 20, 10), strict=True)),
        SECOND: dict(zip((default, fast), timed(90, 50), strict=True)),
    }
    recording(tables).save(tmp_path / "r.gz")
    arguments = ("--trials", "2", "--sampler", "exhaustive", "--json")
    result = search(tmp_path, "--replay", "r.gz", *arguments)
    assert result.returncode == 0, result.stderr
    first, second = json.loads(result.stdout)["places"]
    assert (first["winner"]["config"], first["winner"]["time_us"]) == (fast, 10)
    assert (first["default"]["time_us"], first["stored"], first["trials"]) == (30, True, 2)
    assert second["winner"]["config"] == fast
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        stored = db.winner(SMALL, FIRST, GPU.name)
        searched = [r.config for r in db.trials(SMALL, FIRST, GPU.name) if not r.is_finalist]
    assert searched == [default, plain]
    assert stored is not None and (stored.trial.config, stored.default_us) == (fast, 30)


def test_a_guest_that_fails_or_is_unknown_there_changes_nothing(tmp_path: Path) -> None:
    default, plain, fast = map(str, (DEFAULT, PLAIN, FAST))
    failing = dict(zip((default, plain, fast), timed(30, 20, None), strict=True))
    for name, table in (("fails", failing), ("unknown", {k: failing[k] for k in (default, plain)})):
        tables = {FIRST: table, SECOND: dict(zip((default, fast), timed(90, 50), strict=True))}
        recording(tables).save(tmp_path / f"{name}.gz")
        arguments = ("--trials", "2", "--sampler", "exhaustive", "--json", "--db", f"{name}.sqlite")
        result = search(tmp_path, "--replay", f"{name}.gz", *arguments)
        assert result.returncode == 0, result.stderr
        first, second = json.loads(result.stdout)["places"]
        assert (first["winner"]["config"], first["winner"]["time_us"]) == (plain, 20), name
        assert second["winner"]["config"] == fast


def test_resuming_a_finished_search_holds_no_rematch(tmp_path: Path, opposites: Recording) -> None:
    opposites.save(tmp_path / "r.gz")
    arguments = ("--replay", "r.gz", "--trials", "6", "--sampler", "random", "--seed", "3")
    counts = []
    for more in ((), ("--resume",)):
        assert search(tmp_path, *arguments, *more).returncode == 0
        with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
            counts.append(len(db.trials(SMALL, FIRST, GPU.name)))
    assert counts[0] == counts[1]
