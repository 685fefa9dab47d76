"""Frames: columns and types do not depend on the database or on what is missing."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import text

from search_spaces.errors import UserError
from tests.tuning_db.samples import FULL, GATE_UP, OTHER, SIXTEEN, SKEWED, begin, trial
from tuning_db import TrialStatus, TuningDB, frame
from tuning_db.columns import KIND, REQUIRED, TRIAL_COLUMNS

TEXT, INT, FLOAT, BOOL, TIME = "string", "Int64", "float64", "boolean", "datetime64[us, UTC]"
SHARED = {
    "gpu": TEXT,
    "model": TEXT,
    "problem": TEXT,
    "op": TEXT,
    "bucket": TEXT,
    "tokens_per_expert": FLOAT,
    "skew": TEXT,
    "config": TEXT,
    "time_us": FLOAT,
    "time_spread_us": FLOAT,
    "tflops": FLOAT,
    "gbps": FLOAT,
    "roofline": FLOAT,
    "default_us": FLOAT,
    "speedup_vs_default": FLOAT,
    "source": TEXT,
    "verified": TEXT,
    "is_default": BOOL,
    "rel_error": FLOAT,
    "registers": INT,
    "spills": INT,
    "smem_bytes": INT,
    "registers_native": INT,
    "spills_native": INT,
    "sm_clock_mhz": FLOAT,
    "temperature_c": FLOAT,
    "gpu_busy": TEXT,
    "template_hash": TEXT,
    "run_id": INT,
    "run_command": TEXT,
    "created_at": TIME,
}
EXPECTED = {
    "best_configs": {**SHARED, "trial_id": INT, "decided_at": TIME},
    "trials": {
        **SHARED,
        "id": INT,
        "uid": TEXT,
        "status": TEXT,
        "error": TEXT,
        "is_finalist": BOOL,
        "is_winner": BOOL,
        "compile_seconds": FLOAT,
        "gpu_uuid": TEXT,
        "gpu_arch": TEXT,
        "gpu_sms": INT,
        "gpu_memory_bytes": INT,
        "gpu_driver": TEXT,
        "run_uid": TEXT,
        "run_versions": TEXT,
        "run_git_revision": TEXT,
        "run_seed": INT,
        "run_status": TEXT,
        "run_started_at": TIME,
        "run_ended_at": TIME,
    },
}


def fill(db: TuningDB) -> None:
    run = begin(db)
    full = db.add_trial(trial(run, **FULL))
    db.set_winner(GATE_UP, SKEWED, "H100", full)
    db.add_trial(trial(run, is_default=True, time_us=150.0))
    best = db.add_trial(trial(run, config=OTHER))
    db.set_winner(GATE_UP, SIXTEEN, "H100", best)
    db.add_trial(trial(run, status=TrialStatus.TIMEOUT, time_us=None, error="after 10 s"))


@pytest.mark.parametrize("view", ["best_configs", "trials"])
@pytest.mark.parametrize("filled", [False, True])
def test_columns_and_types(db: TuningDB, db_url: str, view: str, filled: bool) -> None:
    if filled:
        fill(db)
    found = frame(db_url, view)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == EXPECTED[view]
    assert len(found) == (0 if not filled else {"best_configs": 2, "trials": 4}[view])


def test_every_named_column_exists() -> None:
    assert set(KIND) == {*EXPECTED["trials"], *EXPECTED["best_configs"]}
    assert set(TRIAL_COLUMNS) == set(EXPECTED["trials"]) > REQUIRED


def test_best_configs_tells_the_gain_over_the_default(db: TuningDB, db_url: str) -> None:
    fill(db)
    best = frame(db_url)
    assert best.bucket.tolist() == ["16@uniform", "0.25@zipf:1.2"]
    assert best.tokens_per_expert.tolist() == [16.0, 0.25]
    assert best.config.tolist()[0] == OTHER
    assert best.time_us.tolist() == [100.0, 412.0625]
    assert best.default_us.tolist() == [150.0, 412.0625]
    assert best.speedup_vs_default.tolist() == [1.5, 1.0]
    assert best.model.unique().tolist() == ["mixtral-8x7b/gate_up"]
    assert best.registers.isna().tolist() == [True, False]


def test_trials_keep_what_each_one_was(db: TuningDB, db_url: str) -> None:
    fill(db)
    trials = frame(db_url, "trials")
    assert trials.status.tolist() == ["ok", "ok", "ok", "timeout"]
    assert trials.is_winner.tolist() == [True, False, True, False]
    assert trials.created_at[0] == datetime(2026, 7, 1, 12, 30, 0, 123456, tzinfo=timezone.utc)
    assert trials.gpu_memory_bytes.tolist() == [85_899_345_920] * 4
    assert trials.error.dropna().tolist() == [FULL["error"], "after 10 s"]
    assert trials[trials.time_us < 200].id.tolist() == [2, 3]
    assert set(trials.run_git_revision) == {"abc123-dirty"}


def test_a_large_seed_keeps_every_digit(db: TuningDB, db_url: str) -> None:
    begin(db)
    run = db.begin_run("x", {}, None, 2**63 - 1)
    db.add_trial(trial(run))
    assert frame(db_url, "trials").run_seed.tolist() == [2**63 - 1]


def test_no_database_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no tuning DB at .*tuner\.search"):
        frame(tmp_path / "tuning.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_view_is_named(db: TuningDB, db_url: str) -> None:
    with pytest.raises(UserError, match="unknown view 'winners': choose best_configs or trials"):
        frame(db_url, "winners")


def test_the_views_use_their_indices(sqlite_file: Path) -> None:
    """A full scan of trial per row would make a view of 10,000 trials take minutes."""
    with TuningDB.open(sqlite_file) as db, db.engine.connect() as connection:
        for view in ("best_configs", "trials"):
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM {view}")).all()
            steps = [row.detail for row in plan]
            assert any("ix_trial_default" in step for step in steps), steps
            assert sum(step.startswith("SCAN") for step in steps) == 1, steps
