"""Samples: a problem, a card and trials for the tuning DB's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from search_spaces.bucket import Bucket, Skew
from search_spaces.problem import Problem
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB, Verified

GATE_UP = Problem("grouped_gemm", 8, 28672, 4096, 2, label="mixtral-8x7b/gate_up")
DOWN = Problem("grouped_gemm", 8, 4096, 14336, 2, label="mixtral-8x7b/down")
SIXTEEN = Bucket(16.0)
SKEWED = Bucket(0.25, Skew("zipf", 1.2))
H100 = GpuRecord(
    name="NVIDIA H100 80GB HBM3",
    arch="sm_90",
    uuid="GPU-1",
    sms=132,
    memory_bytes=85_899_345_920,
    driver="535.54",
)
NO_CARD = GpuRecord(name="NVIDIA GeForce RTX 2080 Ti", arch="sm_75")
CONFIG = "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
OTHER = "16x128x64_w1x4x1_s3_sw3.3.3_f16p4_r1x16_nm_cs_o2_g1_k4"


def begin(db: TuningDB, command: str = "python -m tuner.search --op grouped_gemm") -> int:
    """A run with both cards registered."""
    db.gpu_id(H100)
    db.gpu_id(NO_CARD)
    return db.begin_run(command, {"light-moe": "0.1.0", "nvrtc": "12.8"}, "abc123-dirty", 7)


def trial(run_id: int, **changes: Any) -> TrialRecord:
    """A measured trial on the H100; ``changes`` are fields."""
    return replace(
        TrialRecord(
            run_id=run_id,
            problem=GATE_UP,
            bucket=SIXTEEN,
            gpu_name="H100",
            gpu_uuid="GPU-1",
            config=CONFIG,
            status=TrialStatus.OK,
            source=Source.MEASURED,
            verified=Verified.GPU,
            time_us=100.0,
        ),
        **changes,
    )


def predicted(run_id: int, **changes: Any) -> TrialRecord:
    """A predicted trial on a 2080 Ti that nobody has."""
    target = {"gpu_name": "RTX 2080 Ti", "gpu_uuid": None, "verified": Verified.NONE}
    return trial(run_id, **{**target, "source": Source.PREDICTED, **changes})


FULL: dict[str, Any] = {
    "bucket": SKEWED,
    "time_us": 412.0625,
    "time_spread_us": 1.5,
    "tflops": 281.3,
    "gbps": 1755.0,
    "roofline": 0.63,
    "is_default": True,
    "is_finalist": True,
    "rel_error": 2.1e-4,
    "error": 'two lines,\nwith "quotes", commas and µ',
    "registers": 238,
    "spills": 0,
    "smem_bytes": 65536,
    "registers_native": 240,
    "spills_native": 8,
    "compile_seconds": 0.43,
    "template_hash": "0123456789abcdef",
    "sm_clock_mhz": 1755.0,
    "temperature_c": 61.0,
    "gpu_busy": "python (pid 12)",
    "created_at": datetime(2026, 7, 1, 12, 30, 0, 123456, tzinfo=timezone.utc),
}
