"""Who wins, and against which default."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

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


def test_the_default_that_counts_is_the_comparable_one(db: TuningDB) -> None:
    """Each trial of the default added here is a better comparison than those before it."""
    earlier, run = begin(db), begin(db)
    db.gpu_id(replace(H100, uuid="GPU-2"))
    best = db.add_trial(trial(run, is_finalist=True, config=OTHER))
    db.set_winner(GATE_UP, SIXTEEN, "H100", best)
    assert default_us(db) is None

    def add(time_us: float, **changes: object) -> None:
        run_id = changes.pop("run_id", run)
        assert isinstance(run_id, int)
        db.add_trial(trial(run_id, is_default=True, time_us=time_us, **changes))

    add(900.0, source=PREDICTED)
    add(901.0, status=TrialStatus.WRONG_RESULT)
    add(902.0, bucket=SKEWED)
    add(903.0, problem=DOWN)
    assert default_us(db) is None  # nothing comparable yet
    add(200.0, run_id=earlier)
    assert default_us(db) == 200.0
    add(201.0, gpu_uuid="GPU-2")
    assert default_us(db) == 201.0  # the same run comes before the same card
    add(202.0)
    assert default_us(db) == 202.0
    add(203.0, is_finalist=True)
    assert default_us(db) == 203.0  # measured interleaved with the winner
    add(204.0, is_finalist=True)
    assert default_us(db) == 204.0  # the latest of equals
    add(205.0, run_id=earlier, is_finalist=True)
    assert default_us(db) == 204.0
