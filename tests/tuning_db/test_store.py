"""The store's contract, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from sqlalchemy import text

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.problem import Numerics, Problem
from tests.tuning_db.samples import (
    DOWN,
    FULL,
    GATE_UP,
    H100,
    NO_CARD,
    SIXTEEN,
    SKEWED,
    begin,
    predicted,
    trial,
)
from tuning_db import Source, TrialStatus, TuningDB, Verified


def rows(db: TuningDB, query: str) -> list[tuple[object, ...]]:
    with db.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_a_trial_comes_back_as_it_went_in(db: TuningDB) -> None:
    record = trial(begin(db), **FULL)
    number = db.add_trial(record)
    assert db.trials(GATE_UP, SKEWED, "H100") == [replace(record, id=number)]


def test_a_trial_with_nothing_known_comes_back_too(db: TuningDB) -> None:
    record = predicted(begin(db), time_us=None, status=TrialStatus.REJECTED)
    number = db.add_trial(record)
    assert db.trials(GATE_UP, SIXTEEN, "RTX 2080 Ti") == [replace(record, id=number)]


def test_another_process_sees_what_returned(db: TuningDB, db_url: str) -> None:
    number = db.add_trial(trial(begin(db)))
    with TuningDB.open(db_url, readonly=True) as other:
        assert [found.id for found in other.trials(GATE_UP, SIXTEEN, "H100")] == [number]


def test_trials_are_those_of_problem_bucket_and_gpu(db: TuningDB) -> None:
    run = begin(db)
    wanted = db.add_trial(trial(run))
    db.add_trial(trial(run, problem=DOWN))
    db.add_trial(trial(run, problem=replace(GATE_UP, numerics=Numerics.FP16)))
    db.add_trial(trial(run, bucket=Bucket(32.0)))
    db.add_trial(trial(run, bucket=replace(SIXTEEN, skew=SKEWED.skew)))
    db.add_trial(predicted(run))
    assert [found.id for found in db.trials(GATE_UP, SIXTEEN, "H100")] == [wanted]


def test_trials_can_be_chosen_by_status(db: TuningDB) -> None:
    run = begin(db)
    numbers = {s: db.add_trial(trial(run, status=s, time_us=None)) for s in TrialStatus}
    failed = [TrialStatus.TIMEOUT, TrialStatus.COMPILE_ERROR]
    found = db.trials(GATE_UP, SIXTEEN, "H100", statuses=failed)
    assert {t.id for t in found} == {numbers[s] for s in failed}
    assert db.trials(GATE_UP, SIXTEEN, "H100", statuses=[]) == []
    assert [t.id for t in db.trials(GATE_UP, SIXTEEN, "H100")] == sorted(numbers.values())


def test_identical_cards_share_their_trials(db: TuningDB) -> None:
    run = begin(db)
    db.gpu_id(replace(H100, uuid="GPU-2"))
    one = db.add_trial(trial(run))
    two = db.add_trial(trial(run, gpu_uuid="GPU-2"))
    found = db.trials(GATE_UP, SIXTEEN, "NVIDIA H100 PCIe")
    assert [(t.id, t.gpu_uuid) for t in found] == [(one, "GPU-1"), (two, "GPU-2")]


def test_a_card_is_stored_once_per_driver(db: TuningDB) -> None:
    first = db.gpu_id(H100)
    assert db.gpu_id(replace(H100, name="H100")) == first
    newer = db.gpu_id(replace(H100, driver="550.1"))
    assert newer != first
    assert db.gpu_id(H100) == first  # the driver was rolled back
    number = db.add_trial(trial(begin(db)))
    assert rows(db, f"SELECT gpu_driver FROM trials WHERE id = {number}") == [("535.54",)]


def test_a_target_without_hardware_is_stored_once(db: TuningDB) -> None:
    assert db.gpu_id(NO_CARD) == db.gpu_id(NO_CARD)
    assert rows(db, "SELECT name, uuid, driver FROM gpu") == [("RTX 2080 Ti", None, None)]


def test_a_trial_finds_the_newest_entry_of_its_card(db: TuningDB, db_url: str) -> None:
    run = begin(db)
    db.gpu_id(replace(H100, driver="550.1"))
    with TuningDB.open(db_url) as other:  # has registered no card itself
        other.add_trial(trial(run))
    assert rows(db, "SELECT gpu_driver FROM trials") == [("550.1",)]


def test_a_problem_is_one_by_its_shape_whatever_its_label(db: TuningDB) -> None:
    custom = replace(GATE_UP, label="custom")
    number = db.problem_id(custom)
    assert rows(db, "SELECT label FROM problem") == [("custom",)]
    assert db.problem_id(GATE_UP) == number
    assert db.problem_id(replace(GATE_UP, label="copycat/gate_up")) == number
    assert rows(db, "SELECT key, label FROM problem") == [(GATE_UP.key, GATE_UP.label)]
    db.add_trial(trial(begin(db), problem=custom))
    assert db.trials(custom, SIXTEEN, "H100")[0].problem.label == "mixtral-8x7b/gate_up"


def test_every_part_of_a_problem_survives(db: TuningDB) -> None:
    odd = Problem("int4_gemm", 64, 1408, 2048, 6, "i4", Numerics.FP32, 128, "swiglu", "a b/c", True)
    db.add_trial(trial(begin(db), problem=odd))
    found = db.trials(odd, SIXTEEN, "H100")[0].problem
    assert (found, str(found)) == (odd, str(odd))
    assert db.trials(replace(odd, gather=False), SIXTEEN, "H100") == []


def test_a_bucket_keeps_all_its_digits(db: TuningDB) -> None:
    third = Bucket(8 / 60)
    db.add_trial(trial(begin(db), bucket=third))
    assert db.trials(GATE_UP, third, "H100")[0].bucket == third


def test_runs_are_kept_with_their_command_versions_and_end(db: TuningDB) -> None:
    run = db.begin_run("make search", {"b": "2", "a": "1"}, None, 2**63 - 1)
    query = "SELECT command, versions, git_revision, seed, status FROM run"
    assert rows(db, query) == [
        ("make search", json.dumps({"a": "1", "b": "2"}), None, 2**63 - 1, "running")
    ]
    db.end_run(run, "interrupted")
    assert rows(db, "SELECT status FROM run WHERE ended_at >= started_at") == [("interrupted",)]


def test_a_second_run_deletes_nothing(db: TuningDB) -> None:
    first, second = begin(db), begin(db)
    numbers = [db.add_trial(trial(run)) for run in (first, second)]
    assert [t.run_id for t in db.trials(GATE_UP, SIXTEEN, "H100")] == [first, second]
    assert len(set(numbers)) == 2


def test_verification_can_be_noted_later(db: TuningDB) -> None:
    number = db.add_trial(trial(begin(db), verified=Verified.NONE))
    db.set_verified(number, Verified.EMULATED)
    assert db.trials(GATE_UP, SIXTEEN, "H100")[0].verified is Verified.EMULATED


def test_an_output_with_nan_is_infinitely_wrong(db: TuningDB) -> None:
    wrong = trial(begin(db), status=TrialStatus.WRONG_RESULT, time_us=None, rel_error=math.nan)
    db.add_trial(wrong)
    assert db.trials(GATE_UP, SIXTEEN, "H100")[0].rel_error == math.inf


def test_a_log_that_no_text_column_takes_is_stored_readably(db: TuningDB) -> None:
    db.add_trial(trial(begin(db), error="ptxas\0 fatal \udcff"))
    assert db.trials(GATE_UP, SIXTEEN, "H100")[0].error == "ptxas fatal ?"


@pytest.mark.parametrize("time_us", [0.0, -1.0, math.inf, math.nan])
def test_a_time_is_a_positive_number(time_us: float) -> None:
    with pytest.raises(UserError, match="time_us"):
        trial(1, time_us=time_us)


def test_what_was_never_stored_is_named(db: TuningDB) -> None:
    run = begin(db)
    with pytest.raises(UserError, match="run 999 is not in this database"):
        db.add_trial(trial(999))
    with pytest.raises(UserError, match="GPU 'A100' is not in this database"):
        db.add_trial(trial(run, gpu_name="A100"))
    with pytest.raises(UserError, match="trial 999 is not in this database"):
        db.set_verified(999, Verified.GPU)
    with pytest.raises(UserError, match="run 999 is not in this database"):
        db.end_run(999, "finished")
    with pytest.raises(UserError, match="'running' is no way to end"):
        db.end_run(run, "running")
    with pytest.raises(UserError, match="seed -1"):
        db.begin_run("x", {}, None, -1)
    assert rows(db, "SELECT count(*) FROM trial") == [(0,)]
    assert rows(db, "SELECT count(*) FROM run") == [(1,)]


def test_sources_are_told_apart(db: TuningDB) -> None:
    run = begin(db)
    for source in Source:
        db.add_trial(trial(run, source=source))
    assert [t.source for t in db.trials(GATE_UP, SIXTEEN, "H100")] == list(Source)
