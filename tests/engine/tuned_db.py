"""Tuning DBs as a search leaves them: real SQLite files with trials and winners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from search_spaces import Bucket, Problem, find_gpu, space_for
from search_spaces.problems import AnyProblem
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB

GATE_UP = Problem("grouped_gemm", 8, 28672, 4096, 2, label="mixtral-8x7b/gate_up")
CARD = "NVIDIA GeForce RTX 2080 Ti"  # as the driver spells it
DEFAULT = str(space_for("grouped_gemm").view(GATE_UP, find_gpu(CARD)).default())
FEW = "16x128x64_w1x4x1_s2_sw3.3.3_f32_r2x16_mn_cs_o1_g1_k1"
MANY = "128x64x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"


def add_bucket(
    file: Path,
    bucket: str,
    times: Mapping[str, float],
    *,
    problem: AnyProblem = GATE_UP,
    source: Source = Source.MEASURED,
    gpu: str = CARD,
    winner: str | None = None,
) -> None:
    """One run: an ok trial per config, and the fastest (or ``winner``) declared the winner."""
    with TuningDB.open(file) as db:
        run = db.begin_run("python -m tuner.search", {}, None, 1)
        db.gpu_id(GpuRecord(name=gpu, arch="sm_75"))
        ids = {}
        for config, time_us in times.items():
            trial = TrialRecord(
                run_id=run,
                problem=problem,
                bucket=Bucket.parse(bucket),
                gpu_name=gpu,
                config=config,
                status=TrialStatus.OK,
                source=source,
                time_us=time_us,
                is_default=config == DEFAULT,
            )
            ids[config] = db.add_trial(trial)
        best = winner or min(times, key=lambda name: times[name])
        db.set_winner(problem, Bucket.parse(bucket), gpu, ids[best])
        db.end_run(run, "finished")
