"""Who wins, and against which default."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, TimeoutError
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from tests.tuning_db.samples import (
    DOWN,
    GATE_UP,
    H100,
    OTHER,
    SIXTEEN,
    SKEWED,
    begin,
    predicted,
    trial,
)
from tuning_db import Source, TrialStatus, TuningDB
from tuning_db.winners import decide

# Written out: which source may take a winner's place (row) from which (column).
MEASURED, REPLAYED, PREDICTED = Source.MEASURED, Source.REPLAYED, Source.PREDICTED
MAY_REPLACE = {
    (MEASURED, MEASURED),
    (MEASURED, REPLAYED),
    (MEASURED, PREDICTED),
    (REPLAYED, REPLAYED),
    (REPLAYED, PREDICTED),
    (PREDICTED, PREDICTED),
}


@pytest.mark.parametrize(("new", "old"), list(product(Source, Source)))
def test_a_winner_gives_way_to_no_weaker_source(db: TuningDB, new: Source, old: Source) -> None:
    run = begin(db)
    first = db.add_trial(trial(run, source=old, time_us=50.0))
    # Slower: a newer decision among equals stands, whatever the times.
    second = db.add_trial(trial(run, source=new, time_us=60.0, config=OTHER))
    assert db.set_winner(GATE_UP, SIXTEEN, "H100", first)
    allowed = (new, old) in MAY_REPLACE
    assert db.set_winner(GATE_UP, SIXTEEN, "H100", second) is allowed
    winner = db.winner(GATE_UP, SIXTEEN, "H100")
    assert winner is not None
    assert winner.trial.id == (second if allowed else first)
    assert len(db.winners("H100")) == 1


def test_a_prediction_that_waited_for_a_measurement_still_loses(db: TuningDB, db_url: str) -> None:
    """It found a predicted winner in place; by the time it may write, a measured one is there."""
    run = begin(db)
    first, second = (db.add_trial(trial(run, source=PREDICTED)) for _ in range(2))
    measured = db.add_trial(trial(run))
    db.set_winner(GATE_UP, SIXTEEN, "H100", first)
    with TuningDB.open(db_url) as other, ThreadPoolExecutor() as pool:
        with db.writing() as session:
            decide(session, GATE_UP, SIXTEEN, "H100", measured)
            session.flush()
            waiting = pool.submit(other.set_winner, GATE_UP, SIXTEEN, "H100", second)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
        assert not waiting.result(timeout=30)
    winner = db.winner(GATE_UP, SIXTEEN, "H100")
    assert winner is not None
    assert winner.trial.id == measured


def test_a_winner_set_twice_stays(db: TuningDB) -> None:
    number = db.add_trial(trial(begin(db)))
    assert db.set_winner(GATE_UP, SIXTEEN, "H100", number)
    assert db.set_winner(GATE_UP, SIXTEEN, "H100", number)
    assert len(db.winners("H100")) == 1


def test_a_predicted_winner_is_found_on_the_real_card(db: TuningDB) -> None:
    record = predicted(begin(db))
    number = db.add_trial(record)
    assert db.set_winner(GATE_UP, SIXTEEN, "RTX 2080 Ti", number)
    winner = db.winner(replace(GATE_UP, label="x"), SIXTEEN, "NVIDIA GeForce RTX 2080 Ti")
    assert winner is not None
    assert winner.trial == replace(record, id=number)
    assert (winner.problem.label, winner.bucket, winner.gpu_name, winner.default_us) == (
        "mixtral-8x7b/gate_up",
        SIXTEEN,
        "RTX 2080 Ti",
        None,
    )


def test_places_do_not_mix(db: TuningDB) -> None:
    run = begin(db)
    places = [
        (problem, bucket) for problem in (GATE_UP, DOWN) for bucket in (SIXTEEN, SKEWED, Bucket(2))
    ]
    numbers = {}
    for problem, bucket in places:
        numbers[problem, bucket] = db.add_trial(trial(run, problem=problem, bucket=bucket))
        assert db.set_winner(problem, bucket, "H100", numbers[problem, bucket])
    for problem, bucket in places:
        winner = db.winner(problem, bucket, "H100")
        assert winner is not None
        assert winner.trial.id == numbers[problem, bucket]
    assert db.winner(GATE_UP, Bucket(4), "H100") is None
    assert db.winner(GATE_UP, SIXTEEN, "A100") is None
    assert db.winners("A100") == []


def test_winners_come_by_problem_skew_and_size(db: TuningDB) -> None:
    run = begin(db)
    gemm4 = replace(GATE_UP, op="int4_gemm")
    for problem, bucket in [(gemm4, SIXTEEN), (GATE_UP, SKEWED), (GATE_UP, Bucket(2)),
                            (GATE_UP, SIXTEEN)]:  # fmt: skip
        db.set_winner(problem, bucket, "H100", db.add_trial(trial(run, problem=problem,
                                                                  bucket=bucket)))  # fmt: skip
    found = [(winner.problem.op, str(winner.bucket)) for winner in db.winners("H100")]
    assert found == [
        ("grouped_gemm", "2@uniform"),
        ("grouped_gemm", "16@uniform"),
        ("grouped_gemm", "0.25@zipf:1.2"),
        ("int4_gemm", "16@uniform"),
    ]
    assert [w.problem for w in db.winners("H100", op="int4_gemm")] == [gemm4]


def test_a_trial_wins_only_where_it_was_made(db: TuningDB) -> None:
    number = db.add_trial(trial(begin(db)))
    for problem, bucket, gpu in [
        (DOWN, SIXTEEN, "H100"),
        (GATE_UP, SKEWED, "H100"),
        (GATE_UP, SIXTEEN, "RTX 2080 Ti"),
    ]:
        with pytest.raises(UserError, match=f"trial {number} cannot win"):
            db.set_winner(problem, bucket, gpu, number)
    assert db.winners("H100") == db.winners("RTX 2080 Ti") == []


@pytest.mark.parametrize("status", [s for s in TrialStatus if s is not TrialStatus.OK])
def test_a_failed_trial_cannot_win(db: TuningDB, status: TrialStatus) -> None:
    number = db.add_trial(trial(begin(db), status=status))
    with pytest.raises(UserError, match=f"its status is {status.value}"):
        db.set_winner(GATE_UP, SIXTEEN, "H100", number)


def test_an_untimed_or_unknown_trial_cannot_win(db: TuningDB) -> None:
    number = db.add_trial(trial(begin(db), time_us=None))
    with pytest.raises(UserError, match="its time None"):
        db.set_winner(GATE_UP, SIXTEEN, "H100", number)
    with pytest.raises(UserError, match="trial 999 is not in this database"):
        db.set_winner(GATE_UP, SIXTEEN, "H100", 999)


def default_us(db: TuningDB) -> float | None:
    winner = db.winner(GATE_UP, SIXTEEN, "H100")
    assert winner is not None
    return winner.default_us


def test_a_default_that_does_not_compare_is_none(db: TuningDB) -> None:
    run = begin(db)
    db.set_winner(GATE_UP, SIXTEEN, "H100", db.add_trial(trial(run, config=OTHER)))
    for changes in (
        {"source": PREDICTED},
        {"status": TrialStatus.WRONG_RESULT},
        {"bucket": SKEWED},
        {"problem": DOWN},
        {"gpu_name": "RTX 2080 Ti", "gpu_uuid": None},
    ):
        db.add_trial(trial(run, is_default=True, **changes))
    assert default_us(db) is None


# Default trials by how well they compare with a finalist of this run on this card, best first.
COMPARABLE = (
    {"same_run": True, "is_finalist": True, "gpu_uuid": "GPU-1"},
    {"same_run": True, "is_finalist": True, "gpu_uuid": "GPU-2"},
    {"same_run": True, "is_finalist": False, "gpu_uuid": "GPU-1"},
    {"same_run": True, "is_finalist": False, "gpu_uuid": "GPU-2"},
    {"same_run": False, "is_finalist": True, "gpu_uuid": "GPU-1"},
    {"same_run": False, "is_finalist": True, "gpu_uuid": "GPU-2"},
    {"same_run": False, "is_finalist": False, "gpu_uuid": "GPU-1"},
    {"same_run": False, "is_finalist": False, "gpu_uuid": "GPU-2"},
)


@pytest.mark.parametrize("better_comes_first", [True, False])
@pytest.mark.parametrize(("better", "worse"), list(pairwise(COMPARABLE)))
def test_the_default_that_compares_best_counts(
    sqlite_file: Path, better: dict[str, Any], worse: dict[str, Any], better_comes_first: bool
) -> None:
    with TuningDB.open(sqlite_file) as db:
        db.gpu_id(replace(H100, uuid="GPU-2"))
        runs = {same: begin(db) for same in (False, True)}
        best = db.add_trial(trial(runs[True], is_finalist=True, config=OTHER))
        db.set_winner(GATE_UP, SIXTEEN, "H100", best)
        candidates = [(200.0, better), (300.0, worse)]
        for time_us, how in candidates if better_comes_first else reversed(candidates):
            changes = {name: value for name, value in how.items() if name != "same_run"}
            run = runs[how["same_run"]]
            db.add_trial(trial(run, is_default=True, time_us=time_us, **changes))
        assert default_us(db) == 200.0


def test_of_equal_defaults_the_latest_counts(db: TuningDB) -> None:
    run = begin(db)
    db.set_winner(GATE_UP, SIXTEEN, "H100", db.add_trial(trial(run, config=OTHER)))
    for time_us in (200.0, 100.0, 300.0):
        db.add_trial(trial(run, is_default=True, time_us=time_us))
    assert default_us(db) == 300.0
