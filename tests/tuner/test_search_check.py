"""What a search without a GPU stores is proved by emulation first; what is wrong cannot win."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Bucket, Problem, UserError, find_gpu, space_for
from templates import CompilePool, Target, Variant, render
from tests.tuner.cli import command, environment, error_line, search
from tests.tuner.planted import BEYOND, LEFT_OUT, plant
from tests.tuner.recordings import write_recording
from tuner.backends.checked import CheckedBackend
from tuner.backends.predict import PredictBackend
from tuner.builder import PoolBuilder
from tuner.emulation_check import EmulationCheck
from tuner.final import hold_final
from tuner.ledger import Ledger
from tuner.options import parse_options
from tuner.plan import Place, make_plan
from tuner.target import Target as GpuModel
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB, Verified, frame

GPU = find_gpu("RTX 2080 Ti")
PROBLEM = Problem("grouped_gemm", experts=8, n=512, k=512, top_k=2)
BUCKET = Bucket(16.0)
VIEW = space_for("grouped_gemm").view(PROBLEM, GPU)
PARSE = VIEW.space.config_type.parse
RIGHT = PARSE("64x64x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1")
WRONG = PARSE("16x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1")
FAULTY = PARSE("32x32x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1")
SEARCH = ("--shape", "E=4,N=256,K=256,top_k=2", "--buckets", "2", "--seed", "1")
PLANTED = {WRONG: LEFT_OUT, FAULTY: BEYOND}


def rendered(problem: Problem, config: Any) -> Variant:
    """The real template's source, with a bug planted for two configs."""
    variant = render(problem, config)
    return plant(variant, PLANTED[config]) if config in PLANTED else variant


@pytest.fixture(scope="module")
def builder() -> Iterator[PoolBuilder]:
    with CompilePool(1) as pool:
        yield PoolBuilder(pool, rendered, Target.for_tier("sm_75"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    place = Place(PROBLEM, BUCKET, GpuModel(GPU), Source.PREDICTED, VIEW)
    with TuningDB.open(tmp_path / "t.sqlite") as db:
        run = db.begin_run("a test", {}, None, 0)
        db.gpu_id(GpuRecord(name=GPU.name, arch=GPU.arch))
        yield Ledger(db, run, place)


def final(builder: PoolBuilder, ledger: Ledger, configs: list[Any]) -> dict[Any, TrialRecord]:
    """Holds it, and returns what the DB holds of it then. The winner is under None."""
    backend = CheckedBackend(PredictBackend(GPU, "sm_75"), EmulationCheck(builder))
    backend.prepare(PROBLEM, BUCKET, 1)
    verdict = hold_final(configs, builder, backend, ledger, seed=3)
    stored = ledger.db.trials(PROBLEM, BUCKET, GPU.name)
    found = {PARSE(trial.config): trial for trial in stored}
    return found if verdict.winner is None else {**found, None: verdict.winner}


def test_a_wrong_and_a_faulty_config_cannot_win(builder: PoolBuilder, ledger: Ledger) -> None:
    found = final(builder, ledger, [WRONG, FAULTY, RIGHT])
    assert found[None].config == str(RIGHT)
    right = found[RIGHT]
    assert (right.status, right.verified) == (TrialStatus.OK, Verified.EMULATED)
    assert right.time_us is not None and right.rel_error is not None and right.rel_error < 1e-3

    wrong = found[WRONG]
    assert (wrong.status, wrong.verified) == (TrialStatus.WRONG_RESULT, Verified.EMULATED)
    assert wrong.time_us is None and wrong.rel_error is not None and wrong.rel_error > 0.1
    assert wrong.error is not None and "elements are wrong" in wrong.error

    faulty = found[FAULTY]
    assert (faulty.status, faulty.verified) == (TrialStatus.LAUNCH_ERROR, Verified.NONE)
    assert faulty.error is not None
    assert "emulated on a small problem: out of bounds at PTX line" in faulty.error
    with pytest.raises(UserError, match="cannot win: its status is wrong_result"):
        ledger.db.set_winner(PROBLEM, BUCKET, GPU.name, wrong.id or 0)


def test_nobody_wins_when_all_are_wrong(builder: PoolBuilder, ledger: Ledger) -> None:
    found = final(builder, ledger, [WRONG, FAULTY])
    assert None not in found
    assert {trial.time_us for trial in found.values()} == {None}


def test_a_verdict_holds_for_the_run(builder: PoolBuilder) -> None:
    check = EmulationCheck(builder)
    first = check.check(PROBLEM, [RIGHT], seed=1)[RIGHT]
    again = check.check(replace(PROBLEM, n=1024, k=1536), [RIGHT], seed=2)[RIGHT]
    assert again is first  # one small problem stands for both
    raster = replace(RIGHT, group_m=1)
    assert check.check(PROBLEM, [raster], seed=1)[raster] is not first


def test_a_search_stores_what_was_proved(tmp_path: Path) -> None:
    result = search(tmp_path, *SEARCH, "--trials", "2")
    assert result.returncode == 0, result.stderr
    assert "check    finalists are emulated on a small problem" in result.stdout
    [row] = [line for line in result.stdout.splitlines() if line.startswith("│ 2@uniform ")]
    assert "predicted │ emulated" in row
    assert list(frame(tmp_path / "tuning.sqlite").verified) == ["emulated"]
    trials = frame(tmp_path / "tuning.sqlite", "trials")
    assert set(trials[trials.is_finalist].verified) == {"emulated"}
    assert set(trials[~trials.is_finalist].verified) == {"none"}


def test_without_the_check_nothing_is_proved(tmp_path: Path) -> None:
    result = search(tmp_path, *SEARCH, "--trials", "1", "--check", "none", "--json")
    assert result.returncode == 0, result.stderr
    [place] = json.loads(result.stdout)["places"]
    assert place["winner"]["verified"] == "none"
    assert "emulated" not in result.stderr


def test_ctrl_c_proves_the_best_so_far(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(*SEARCH, "--trials", "400"),
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = [next(line for line in process.stdout if "/400 best" in line)]
    process.send_signal(signal.SIGINT)
    told += process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 130
    assert "stopping: storing what was found (Ctrl-C once more quits at once)" in told
    assert list(frame(tmp_path / "tuning.sqlite").verified) == ["emulated"]


def test_the_default_depends_on_who_measures() -> None:
    default, asked, off = (
        parse_options(["--check", word] if word else []) for word in ("", "emulate", "none")
    )
    assert (default.emulates(measured=False), default.emulates(measured=True)) == (True, False)
    assert asked.emulates(measured=True) and asked.emulates(measured=False)
    assert not off.emulates(measured=False)


def test_bad_input_is_told(tmp_path: Path) -> None:
    told = error_line(search(tmp_path, "--check", "emulated"))
    assert "unknown check 'emulated' (did you mean emulate?)" in told
    write_recording(tmp_path / "r.json.gz", 5)
    with pytest.raises(UserError, match="--check emulate does not go with --replay"):
        make_plan(parse_options(["--replay", str(tmp_path / "r.json.gz"), "--check", "emulate"]))
