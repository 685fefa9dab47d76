"""``python -m tuner.search`` from start to end, compiling for real."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Bucket, Problem, find_gpu
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from tests.tuner.cli import command, environment, search
from tests.tuner.recordings import write_recording
from tuning_db import Source, TuningDB, frame

SHAPE = "E=8,N=512,K=512,top_k=2"
PROBLEM = Problem("grouped_gemm", experts=8, n=512, k=512, top_k=2)
GPU = find_gpu("RTX 2080 Ti")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def transcript(folder: Path) -> str:
    """What a tiny search of two buckets prints where there is no GPU."""
    arguments = ("--shape", SHAPE, "--buckets", "16,1", "--trials", "4", "--seed", "5")
    result = search(folder, "--op", "grouped_gemm", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_plan_comes_first(transcript: str) -> None:
    count = GROUPED_GEMM.view(PROBLEM, GPU).count
    plan = transcript.splitlines()[:6]
    assert plan[0].startswith("no GPU here: predicting for the RTX 2080 Ti")
    assert plan[1] == "GPU      RTX 2080 Ti (sm_75, predicted by the cost model)"
    assert plan[2] == f"problem  {PROBLEM}: {count:,} valid configs"
    assert plan[3] == "buckets  1@uniform, 16@uniform (tokens per expert @ skew)"
    assert plan[4] == "budget   quick: 4 trials a bucket; sampler tpe, seed 5"


def test_lines_tell_the_best_so_far(transcript: str) -> None:
    best = re.findall(r"custom 16@uniform: (\d)/4 best ([\d.]+) µs", transcript)
    assert [int(number) for number, _ in best] == sorted({int(number) for number, _ in best})
    assert best[-1][0] == "4"
    times = [float(time) for _, time in best]
    assert times == sorted(times, reverse=True)


def test_the_table_shows_what_the_db_holds(transcript: str, folder: Path) -> None:
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        winners = db.winners("RTX 2080 Ti")
    assert [str(winner.bucket) for winner in winners] == ["1@uniform", "16@uniform"]
    for winner in winners:
        assert winner.trial.source is Source.PREDICTED
        assert winner.default_us is not None and winner.trial.time_us is not None
        assert winner.trial.time_us <= winner.default_us
        [row] = [line for line in transcript.splitlines() if f"│ {winner.bucket} " in line]
        assert winner.trial.config in row
        assert f"{winner.trial.time_us:.1f}" in row
        assert f"{winner.default_us:.1f}" in row
        assert "predicted" in row


def test_what_it_tells_to_type_next_works(transcript: str, folder: Path) -> None:
    assert f"python -m tuning_db show --db {folder / 'tuning.sqlite'}" in transcript
    assert f"optuna-dashboard sqlite:///{folder / 'tuning.sqlite.optuna.sqlite'}" in transcript
    [line] = [line for line in transcript.splitlines() if line.startswith("  python -c ")]
    done = subprocess.run(
        line.replace("python", sys.executable, 1), shell=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in frame(folder / "tuning.sqlite").config:
        assert name in done.stdout


def test_a_narrow_terminal_shows_every_column(folder: Path, transcript: str) -> None:
    again = ["--shape", SHAPE, "--buckets", "16,1", "--trials", "4", "--resume"]
    leader, follower = pty.openpty()
    environ = environment(COLUMNS="60", TERM="xterm")
    subprocess.run(
        command(*again), cwd=folder, env=environ, stdout=follower, check=True, timeout=120
    )
    os.close(follower)
    output = os.read(leader, 65536).decode()
    os.close(leader)
    _, heading, table = output.partition("best config")
    assert heading
    for part in ("16@uniform", "roofline", "default µs", "speed-up", "predicted"):
        assert part in table


def test_trials_carry_what_the_compiler_said(transcript: str, folder: Path) -> None:
    with TuningDB.open(folder / "tuning.sqlite", readonly=True) as db:
        trials = db.trials(PROBLEM, Bucket(16.0), "RTX 2080 Ti")
    searched = [trial for trial in trials if not trial.is_finalist]
    assert len(searched) == 4
    assert searched[0].is_default or any(trial.is_default for trial in searched)
    for trial in searched:
        assert trial.registers is not None and 16 <= trial.registers <= 255
        assert trial.spills is not None
        assert trial.smem_bytes is not None
        assert trial.compile_seconds is not None
        assert trial.template_hash is not None
        assert (trial.gpu_name, trial.gpu_uuid) == ("RTX 2080 Ti", None)


def test_json_is_one_document_and_all_else_goes_to_stderr(tmp_path: Path) -> None:
    arguments = ("--shape", SHAPE, "--arch", "sm_90a", "--buckets", "4", "--trials", "2", "--json")
    result = search(tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["status"] == "finished"
    [place] = found["places"]
    assert (place["gpu"], place["arch"], place["source"]) == ("H100", "sm_90", "predicted")
    assert place["trials"] == 2
    assert place["winner"]["time_us"] <= place["default"]["time_us"]
    assert "budget" in result.stderr
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        trials = db.trials(PROBLEM, Bucket(4.0), "NVIDIA H100 80GB HBM3")
    assert all(trial.registers and trial.registers_native for trial in trials)


def test_a_named_config_is_tried(tmp_path: Path) -> None:
    name = "64x64x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
    arguments = ("--shape", SHAPE, "--buckets", "16", "--trials", "2", "--config", name)
    assert search(tmp_path, *arguments).returncode == 0
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        tried = {trial.config for trial in db.trials(PROBLEM, Bucket(16.0), GPU.name)}
    assert name in tried


def test_a_replay_tells_how_soon_it_was_near_the_optimum(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.json.gz", 120)
    arguments = ("--replay", "r.json.gz", "--sampler", "exhaustive", "--json")
    result = search(tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    for place in json.loads(result.stdout)["places"]:
        assert place["source"] == "replayed"
        assert place["trials"] == place["valid_configs"] == 120
        assert place["winner"]["time_us"] == place["optimum_us"]
        assert 1 <= place["evaluations_to_5_percent"] <= 120
    assert "within 5 % of the recording's optimum" in result.stderr


def test_a_new_run_measures_afresh_and_deletes_nothing(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.json.gz", 30)
    arguments = ("--replay", "r.json.gz", "--buckets", "64", "--trials", "10")
    for _ in range(2):
        assert search(tmp_path, *arguments).returncode == 0
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        key = "grouped_gemm/E8.N512.K512.top2.f16.promoted"
        rows = db.trials(Problem.parse(key), Bucket(64.0), GPU.name)
        winner = db.winner(Problem.parse(key), Bucket(64.0), GPU.name)
    searched = [row.run_id for row in rows if not row.is_finalist]
    assert sorted(searched) == [1] * 10 + [2] * 10
    finals = [row.time_us for row in rows if row.is_finalist and row.time_us]
    assert winner is not None and winner.trial.time_us == min(finals)
