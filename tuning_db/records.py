"""Records: what goes into the tuning DB and what comes out, free of SQL."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.problems import AnyProblem


class TrialStatus(str, Enum):
    """How a trial ended. A failure is data, so that no config is tried twice."""

    OK = "ok"
    REJECTED = "rejected"
    COMPILE_ERROR = "compile_error"
    LAUNCH_ERROR = "launch_error"
    WRONG_RESULT = "wrong_result"
    TIMEOUT = "timeout"


class Source(str, Enum):
    """Where a time comes from: a GPU's clock, the cost model, or a recording of another run."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    REPLAYED = "replayed"

    @property
    def trust(self) -> int:
        """A winner is replaced only by one of equal or higher trust."""
        return (Source.PREDICTED, Source.REPLAYED, Source.MEASURED).index(self)


class Verified(str, Enum):
    """Where the result was checked against fp32: nowhere, in an emulator, on a GPU."""

    NONE = "none"
    EMULATED = "emulated"
    GPU = "gpu"


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class GpuRecord:
    """A card: ``uuid`` and ``driver`` are None for a target without hardware."""

    name: str
    arch: str
    uuid: str | None = None
    sms: int | None = None
    memory_bytes: int | None = None
    driver: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One config evaluated for one problem and bucket on one GPU.

    Times are microseconds, ``roofline`` a share of the floor time (0..1), ``tflops`` 1e12 FLOP/s,
    ``gbps`` 1e9 bytes/s. ``registers`` and ``spills`` are the compiler's report for the template's
    own architecture, ``*_native`` that of the real GPU where it differs. ``gpu_busy`` names what
    else ran on the card. Raises UserError for a time that is no positive number.
    """

    run_id: int
    problem: AnyProblem
    bucket: Bucket
    gpu_name: str
    config: str
    status: TrialStatus
    source: Source
    id: int | None = None
    gpu_uuid: str | None = None
    verified: Verified = Verified.NONE
    time_us: float | None = None
    time_spread_us: float | None = None
    tflops: float | None = None
    gbps: float | None = None
    roofline: float | None = None
    is_default: bool = False
    is_finalist: bool = False
    rel_error: float | None = None
    error: str | None = None
    registers: int | None = None
    spills: int | None = None
    smem_bytes: int | None = None
    registers_native: int | None = None
    spills_native: int | None = None
    compile_seconds: float | None = None
    template_hash: str | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    gpu_busy: str | None = None
    created_at: datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        for name in ("time_us", "time_spread_us", "tflops", "gbps", "roofline", "compile_seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"trial {self.config}: {name}={value} is no finite number >= 0")
        if self.time_us == 0:
            raise UserError(f"trial {self.config}: time_us=0, shorter than any clock can tell")
        if self.rel_error is not None and math.isnan(self.rel_error):
            # SQL has no portable NaN; an output with a NaN in it is infinitely wrong.
            object.__setattr__(self, "rel_error", math.inf)


@dataclass(frozen=True)
class Winner:
    """The trial chosen for (problem, bucket, GPU model).

    ``default_us`` is the default config's time from the same source, in the same run where there
    is one; None when the default was never timed.
    """

    problem: AnyProblem
    bucket: Bucket
    gpu_name: str
    trial: TrialRecord
    default_us: float | None
