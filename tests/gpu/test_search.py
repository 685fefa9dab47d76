"""``python -m tuner.search`` on a real card, and a replay of what it recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from search_spaces import GPUS, Bucket, Problem
from templates.device import device_spec, device_uuid
from tuning_db import Source, TuningDB, Verified

pytestmark = pytest.mark.gpu

SHAPE = "E=8,N=1024,K=1024,top_k=2"
PROBLEM = Problem("grouped_gemm", experts=8, n=1024, k=1024, top_k=2)


def search(folder: Path, *arguments: str) -> dict[str, Any]:
    """Runs the command; its JSON document."""
    result = subprocess.run(
        [sys.executable, "-m", "tuner.search", "--json", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_measured_winner_is_proved_replayed_and_never_replaced_by_a_guess(
    tmp_path: Path,
) -> None:
    gpu = device_spec(0)
    tuned = ("--shape", SHAPE, "--buckets", "16")
    search(tmp_path, *tuned, "--gpus", "0", "--trials", "8", "--record", "r.json.gz")
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        winner = db.winner(PROBLEM, Bucket(16.0), gpu.name)
        trials = db.trials(PROBLEM, Bucket(16.0), gpu.name)
    assert winner is not None and winner.default_us is not None
    trial = winner.trial
    assert (trial.source, trial.verified) == (Source.MEASURED, Verified.GPU)
    assert trial.is_finalist and trial.gpu_uuid == device_uuid(0)
    assert trial.time_us is not None and trial.time_us <= winner.default_us
    assert trial.rel_error is not None and trial.registers is not None
    searched = [one for one in trials if not one.is_finalist]
    assert len({one.config for one in searched}) == len(searched) == 8

    runs: list[tuple[str, ...]] = [("--replay", "r.json.gz", "--db", "replay.sqlite")]
    if gpu.name in {known.name for known in GPUS}:
        runs.append((*tuned, "--gpu", gpu.name, "--trials", "4", "--check", "none"))
    with ThreadPoolExecutor() as both:
        replayed, *guessed = both.map(lambda arguments: search(tmp_path, *arguments), runs)
    [place] = replayed["places"]
    assert place["source"] == "replayed"
    assert place["valid_configs"] == 8
    if guessed:
        with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
            still = db.winner(PROBLEM, Bucket(16.0), gpu.name)
        assert still is not None and still.trial == trial
