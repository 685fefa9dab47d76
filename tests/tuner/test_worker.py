"""Life and death of measuring processes: real children, killed, crashed and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces import Bucket, Problem, UserError, find_gpu, space_for
from tests.conftest import ROOT
from tuner.backends.base import Fidelity
from tuner.crew import Crew
from tuner.job import Job, Setting
from tuner.member import Deadlines
from tuner.worker import Worker, WorkerFailure
from tuning_db.records import TrialStatus, Verified

FACTORY = "tests.tuner.plain_measurer:PlainMeasurer"
PROBLEM = Problem("grouped_gemm", experts=2, n=32, k=64, top_k=2)
SETTING = Setting(PROBLEM, Bucket.parse("4"), seed=1)
CONFIG = space_for("grouped_gemm").view(PROBLEM, find_gpu("T4")).default()
DEADLINES = Deadlines(evaluate=8, check_all_rows=8, race=8)


def job(entry: str, stages: int = 2) -> Job:
    return Job(replace(CONFIG, stages=stages), entry, Path(), 32, 0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.touch()
    return file


def told(log: Path) -> list[str]:
    """What the children did, without their process ids."""
    return [line.partition(" ")[2] for line in log.read_text().splitlines()]


def is_gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def crew(log: Path) -> Iterator[Crew]:
    made = Crew(FACTORY, {"GPU-a": (log,)}, DEADLINES)
    made.prepare(SETTING)
    yield made
    made.close()


def test_results_and_user_errors_come_back_and_the_child_lives(log: Path) -> None:
    worker = Worker(FACTORY, (log,))
    try:
        worker.call("prepare", SETTING, seconds=60)
        result = worker.call("evaluate", job("works"), Fidelity.FULL, seconds=60)
        assert result.status is TrialStatus.OK
        assert result.config == CONFIG
        large = replace(SETTING, bucket=Bucket.parse("128"))
        with pytest.raises(UserError, match="128@uniform does not fit"):
            worker.call("prepare", large, seconds=60)
        with pytest.raises(
            WorkerFailure, match=r"illegal memory access was encountered$"
        ) as caught:
            worker.call("evaluate", job("faults"), Fidelity.SHORT, seconds=60)
        assert caught.value.status is TrialStatus.LAUNCH_ERROR
        assert is_gone(worker.pid)
    finally:
        worker.kill()


def test_a_broken_measurer_is_no_result(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    worker = Worker(FACTORY, (log,))
    worker.call("prepare", SETTING, seconds=60)
    with pytest.raises(RuntimeError, match="ended with status 1"):
        worker.call("evaluate", job("is broken"), Fidelity.SHORT, seconds=60)
    assert "TypeError: a mistake in the measurer" in capfd.readouterr().err
    worker.kill()


def test_failures_are_results_and_later_jobs_see_the_same_inputs(crew: Crew, log: Path) -> None:
    before = crew.submit(job("works"), Fidelity.SHORT).result()
    crashed = crew.submit(job("crashes"), Fidelity.SHORT).result()
    faulty = crew.submit(job("faults"), Fidelity.SHORT).result()
    wrong = crew.submit(job("forgets one"), Fidelity.SHORT).result()
    after = crew.submit(job("works"), Fidelity.FULL).result()

    assert crashed.status is TrialStatus.LAUNCH_ERROR
    assert "SIGSEGV" in str(crashed.error)
    assert (crashed.verified, crashed.time_us) == (Verified.NONE, None)
    assert crashed.gpu_uuid == "GPU-a"
    assert faulty.status is TrialStatus.LAUNCH_ERROR
    assert wrong.status is TrialStatus.WRONG_RESULT
    assert wrong.error == "a wrong sum"
    assert before.status is after.status is TrialStatus.OK
    assert before.rel_error == after.rel_error, "the inputs came from the same seed"
    assert after.time_us is not None
    assert told(log).count("start") == 3
    assert told(log).count("prepare 4@uniform 1") == 3
    assert told(log)[-2:] == ["evaluate works full", "check works"]


def test_a_hang_is_a_timeout_and_its_child_is_gone(log: Path) -> None:
    crew = Crew(FACTORY, {"GPU-a": (log,)}, Deadlines(evaluate=0.5))
    try:
        crew.prepare(SETTING)
        pid = int(log.read_text().split()[0])
        began = time.monotonic()
        hung = crew.submit(job("hangs"), Fidelity.SHORT).result()
        assert time.monotonic() - began < 10
        assert hung.status is TrialStatus.TIMEOUT
        assert "0.5 s" in str(hung.error)
        assert is_gone(pid)
    finally:
        crew.close()


def test_finals_use_a_new_seed_and_race_who_passed(crew: Crew, log: Path) -> None:
    jobs = [job("works", 1), job("forgets one", 2), job("works", 3), job("faults", 4)]
    results = crew.finals(jobs, seed=99)
    assert [r.config.stages for r in results] == [1, 2, 3, 4]
    statuses = [r.status for r in results]
    assert statuses == [
        TrialStatus.OK, TrialStatus.WRONG_RESULT, TrialStatus.OK, TrialStatus.LAUNCH_ERROR,
    ]  # fmt: skip
    assert [r.time_us is None for r in results] == [False, True, False, True]
    assert all(r.rel_error for r in results[:3]), "the error of the check stays with the time"
    assert told(log)[-1] == "race works works"
    assert "prepare 4@uniform 99" in told(log)

    crew.submit(job("works"), Fidelity.SHORT).result()
    assert "prepare 4@uniform 1" in told(log)[-3:], "the search goes on with its own inputs"

    # Who dies in the race dies alone.
    results = crew.finals([job("works"), job("dies in the race"), job("works")], seed=5)
    statuses = [r.status for r in results]
    assert statuses == [TrialStatus.OK, TrialStatus.LAUNCH_ERROR, TrialStatus.OK]
    assert "SIGKILL" in str(results[1].error)


def test_two_cards_share_a_search_and_both_confirm(log: Path) -> None:
    crew = Crew(FACTORY, {"GPU-a": (log,), "GPU-b": (log,)}, DEADLINES)
    try:
        crew.prepare(SETTING)
        futures = [crew.submit(job("works"), Fidelity.SHORT) for _ in range(12)]
        assert {f.result().status for f in futures} == {TrialStatus.OK}
        assert len({line.split()[0] for line in log.read_text().splitlines()}) == 2
        results = crew.finals([job("works", 1), job("forgets one", 2)], seed=7)
        assert [r.config.stages for r in results] == [1, 2, 1, 2]
        statuses = [r.status for r in results]
        assert statuses == [TrialStatus.OK, TrialStatus.WRONG_RESULT] * 2
    finally:
        crew.close()


def test_inputs_that_cannot_be_made_are_the_users_to_know(crew: Crew) -> None:
    with pytest.raises(UserError, match="does not fit"):
        crew.prepare(replace(SETTING, bucket=Bucket.parse("128")))
    with pytest.raises(
        UserError, match=r"cannot measure .* on GPU-a: RuntimeError: out of memory$"
    ):
        crew.prepare(replace(SETTING, seed=666))
    crew.prepare(SETTING)
    assert crew.submit(job("works"), Fidelity.SHORT).result().status is TrialStatus.OK


def test_a_child_that_was_killed_while_idle_is_replaced(crew: Crew, log: Path) -> None:
    os.kill(int(log.read_text().split()[0]), signal.SIGKILL)
    first = crew.submit(job("works"), Fidelity.SHORT).result()
    second = crew.submit(job("works"), Fidelity.SHORT).result()
    assert first.status is TrialStatus.LAUNCH_ERROR
    assert second.status is TrialStatus.OK


def test_close_ends_a_measurement_and_cancels_the_rest(log: Path) -> None:
    crew = Crew(FACTORY, {"GPU-a": (log,)})
    crew.prepare(SETTING)
    pid = int(log.read_text().split()[0])
    running, waiting = (crew.submit(job("hangs"), Fidelity.SHORT) for _ in range(2))
    while "check hangs" not in log.read_text():
        time.sleep(0.01)
    crew.close()
    crew.close()
    for future in (running, waiting):
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    assert is_gone(pid)


def test_children_end_with_a_killed_parent(log: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from tests.tuner.test_worker import *
crew = Crew(FACTORY, {{"GPU-a": (Path({str(log)!r}),)}})
crew.prepare(SETTING)
crew.submit(job("hangs"), Fidelity.SHORT)
print("ready", flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    child = int(log.read_text().split()[0])
    parent.kill()
    parent.wait()
    assert is_gone(child)
