"""A search that is killed or interrupted: nothing is lost, nothing is repeated."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from search_spaces import Bucket
from tests.tuner.cli import command, environment, error_line, search
from tests.tuner.recordings import GPU, ONE, SMALL, write_recording
from tuning_db import TrialRecord, TuningDB

TRIALS = 60
ARGUMENTS = ("--replay", "r.json.gz", "--buckets", "1", "--trials", str(TRIALS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(tmp_path / "r.json.gz", 150)
    return tmp_path


def count_trials(folder: Path) -> int:
    file = folder / "tuning.sqlite"
    if not file.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM trial").fetchone()[0])
    except sqlite3.OperationalError:  # its tables are being made
        return 0


def start_and_signal(folder: Path, number: signal.Signals, *more: str) -> tuple[int, str]:
    """Starts a search, sends the signal in the middle of it; exit status and output."""
    process = subprocess.Popen(
        command(*ARGUMENTS, *more),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline, enough = time.monotonic() + 120, count_trials(folder) + 12
    while count_trials(folder) < enough:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def stored(folder: Path, bucket: Bucket = ONE) -> list[TrialRecord]:
    """The search trials in the DB."""
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        return [trial for trial in db.trials(SMALL, bucket, GPU.name) if not trial.is_finalist]


def run_statuses(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "tuning.sqlite") as db:
        return [status for (status,) in db.execute("SELECT status FROM run ORDER BY id")]


def optuna_configs(folder: Path) -> tuple[list[str], list[str]]:
    """Configs of the newest study's finished trials, and the names of the other states."""
    storage = f"sqlite:///{folder / 'tuning.sqlite.optuna.sqlite'}"
    name = max(optuna.get_all_study_names(storage))
    trials = optuna.load_study(study_name=name, storage=storage).get_trials()
    finished = [t.user_attrs["config"] for t in trials if t.state.name in ("COMPLETE", "PRUNED")]
    return finished, [t.state.name for t in trials if t.state.name not in ("COMPLETE", "PRUNED")]


@pytest.mark.parametrize("sampler", ["tpe", "exhaustive"])
def test_a_killed_search_resumes_without_losing_or_repeating_a_trial(
    folder: Path, sampler: str
) -> None:
    status, _ = start_and_signal(folder, signal.SIGKILL, "--sampler", sampler)
    assert status == -signal.SIGKILL
    before = stored(folder)
    assert 12 <= len(before) < TRIALS

    resumed = search(folder, *ARGUMENTS, "--sampler", sampler, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed with {len(before)} trials" in resumed.stdout
    after = stored(folder)
    assert after[: len(before)] == before
    assert len({trial.config for trial in after}) == len(after) == TRIALS
    assert run_statuses(folder) == ["killed", "finished"]
    finished, other = optuna_configs(folder)
    assert sorted(finished) == sorted(trial.config for trial in after)
    assert set(other) <= {"FAIL"}


def test_without_optunas_file_our_table_is_enough(folder: Path) -> None:
    start_and_signal(folder, signal.SIGKILL)
    before = stored(folder)
    (folder / "tuning.sqlite.optuna.sqlite").unlink()
    assert search(folder, *ARGUMENTS, "--resume").returncode == 0
    after = stored(folder)
    assert after[: len(before)] == before
    assert len({trial.config for trial in after}) == len(after) == TRIALS
    finished, _ = optuna_configs(folder)
    assert sorted(finished) == sorted(trial.config for trial in after)


def test_two_searches_of_the_same_places_at_once(folder: Path) -> None:
    """Each has studies of its own."""
    line = command("--replay", "r.json.gz", "--trials", "40")
    first, second = (
        subprocess.Popen(line, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    for process in (first, second):
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    runs = Counter(trial.run_id for trial in stored(folder))
    assert sorted(runs.values()) == [40, 40]


def test_a_search_that_is_still_going_is_not_resumed(folder: Path) -> None:
    with TuningDB.open(folder / "tuning.sqlite") as db:  # this process is the one that goes on
        db.begin_run("python -m tuner.search", {}, None, 0)
        told = error_line(search(folder, *ARGUMENTS, "--resume"))
    assert f"process {os.getpid()}" in told and "without --resume" in told
    assert stored(folder) == []
    assert run_statuses(folder) == ["running"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_ctrl_c_keeps_what_was_found(folder: Path, number: signal.Signals) -> None:
    status, output = start_and_signal(folder, number)
    assert status == 130, output
    trials = stored(folder)
    assert len(trials) < TRIALS
    best = min(trial.time_us for trial in trials if trial.time_us is not None)
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        winner = db.winner(SMALL, ONE, GPU.name)
    assert winner is not None and winner.trial.time_us == best
    assert winner.trial.config in output
    assert "stopping: storing what was found" in output
    assert f"python -m tuner.search {' '.join(ARGUMENTS)} --resume" in output
    assert run_statuses(folder) == ["interrupted"]
    finished, other = optuna_configs(folder)
    assert sorted(finished) == sorted(trial.config for trial in trials)
    assert set(other) <= {"FAIL"}


def test_an_interrupted_search_never_replaces_a_better_winner(folder: Path) -> None:
    whole = ("--replay", "r.json.gz", "--buckets", "1", "--sampler", "exhaustive")
    assert search(folder, *whole).returncode == 0
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        best = db.winner(SMALL, ONE, GPU.name)
    status, output = start_and_signal(folder, signal.SIGINT, "--sampler", "random", "--seed", "1")
    assert status == 130
    assert "the winner in the DB stays" in output
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        assert db.winner(SMALL, ONE, GPU.name) == best


def test_a_finished_search_is_only_told_again(folder: Path) -> None:
    short = ("--replay", "r.json.gz", "--trials", "8")
    first = search(folder, *short, "--seed", "1")
    again = search(folder, *short, "--resume")
    assert (first.returncode, again.returncode) == (0, 0)
    assert len(stored(folder)) == 8

    def rows(output: str) -> list[str]:
        return [line for line in output.splitlines() if line.startswith("│")]

    assert rows(again.stdout) == rows(first.stdout) != []
    more = search(folder, "--replay", "r.json.gz", "--trials", "11", "--resume")
    assert more.returncode == 0
    assert len(stored(folder)) == 11
