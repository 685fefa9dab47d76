"""Children that measure whole layers: real processes of engine.measure, on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from search_spaces import Skew, UserError, find_gpu
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import MOE_LAYER
from templates.child import ORPHANED
from tests.tuner.cli import HIDDEN, environment
from tuner.layer_child import Finding, LayerChild, Question, Stopped
from tuning_db import TrialStatus

LAYER = LayerProblem(GateProblem(4, 64, 2, renormalise=True), 64)
QUESTION = Question(LAYER, tokens=8, skew=Skew(), seed=11, device="cpu")
DEFAULT = MOE_LAYER.view(LAYER, find_gpu("RTX 2080 Ti")).default()
OK, LOST, SLOW = TrialStatus.OK, TrialStatus.LAUNCH_ERROR, TrialStatus.TIMEOUT


def ordered(group_m: int) -> str:
    """The default with another raster order of the second GEMM."""
    return str(replace(DEFAULT, down=replace(DEFAULT.down, group_m=group_m)))


RIGHT, OTHER, RAISES, HANGS = map(ordered, (1, 8, 16, 4))
REAL = LayerChild(lambda: False, environment=HIDDEN)
PLANTED = replace(REAL, command=(sys.executable, "-m", "tests.tuner.planted_layer"), silence=4.0)


def check_timed(finding: Finding) -> None:
    assert (finding.status, finding.error) == (OK, None)
    assert finding.time_us is not None and finding.time_us > 1
    assert finding.spread_us is not None and finding.spread_us >= 0
    assert finding.rel_error is not None and 0 < finding.rel_error < 0.01


def test_every_config_is_proved_and_timed_and_what_cannot_run_is_told() -> None:
    wrong = str(replace(DEFAULT, gate_up=replace(DEFAULT.gate_up, stages=7)))
    configs = [wrong, RIGHT, OTHER]
    findings = REAL.measure(QUESTION, configs)
    assert [finding.config for finding in findings] == configs
    assert (findings[0].status, findings[0].time_us) == (LOST, None)
    assert "stages=7" in str(findings[0].error)
    check_timed(findings[1])
    check_timed(findings[2])


def test_a_fatal_config_costs_itself_only() -> None:
    """Three children: each goes on where the last one was lost."""
    right, *fatal = PLANTED.measure(QUESTION, [RIGHT, RAISES, HANGS])
    check_timed(right)
    assert [(finding.config, finding.status) for finding in fatal] == [
        (RAISES, LOST),
        (HANGS, SLOW),
    ]
    assert fatal[0].error == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert fatal[1].error == "no sign of life for 4 s"
    assert all(finding.time_us is None for finding in fatal)


def test_a_race_that_dies_is_nobodys_doing_in_particular() -> None:
    racing = replace(PLANTED, command=(*PLANTED.command, "race"))
    findings = racing.measure(QUESTION, [RIGHT, OTHER])
    assert {(f.status, f.error) for f in findings} == {(LOST, "the process was ended by SIGKILL")}


def test_a_child_that_is_killed_before_it_has_begun() -> None:
    killed = replace(REAL, watch=lambda pid: os.kill(pid, signal.SIGKILL))
    findings = killed.measure(QUESTION, [RIGHT, OTHER])
    assert {(f.status, f.error) for f in findings} == {(LOST, "the process was ended by SIGKILL")}


def test_a_child_that_never_begins() -> None:
    frozen = replace(REAL, watch=lambda pid: os.kill(pid, signal.SIGSTOP), begin=0.5)
    [finding] = frozen.measure(QUESTION, [RIGHT])
    assert (finding.status, finding.error) == (SLOW, "no sign of life for 0.5 s")


def test_a_refused_request_is_the_users_to_know() -> None:
    with pytest.raises(UserError, match=r"^no usable GPU: .*--device cpu"):
        REAL.measure(replace(QUESTION, device="0"), [RIGHT])


def test_who_stops_does_not_wait() -> None:
    stop, seen = Event(), list[int]()

    def watch(pid: int) -> None:
        seen.append(pid)
        stop.set()

    with pytest.raises(Stopped):
        replace(REAL, stopped=stop.is_set, watch=watch).measure(QUESTION, [RIGHT])
    assert not Path(f"/proc/{seen[0]}").exists()


def test_a_child_does_not_outlive_who_started_it() -> None:
    """It waits for its request, gets it, and stdin is closed while its kernel hangs."""
    line = QUESTION.line([HANGS])
    with subprocess.Popen(
        PLANTED.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline() == b'{"event": "ready"}\n'
        process.stdin.close()
        assert process.wait(timeout=20) == ORPHANED
