"""Backend: what can tell how fast a built config is. The seam between search and measuring."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from search_spaces.bucket import Bucket
from search_spaces.gpu import GpuSpec
from search_spaces.problems import AnyProblem
from templates.built import Built
from tuning_db.records import Source, TrialStatus, Verified


@dataclass(frozen=True)
class Candidate:
    """A config, with what the build made of it."""

    config: Any
    built: Built


class Fidelity(Enum):
    """How long a time is taken: enough to rank, or enough to tell contenders apart."""

    SHORT = "short"
    FULL = "full"


@dataclass(frozen=True)
class Measurement:
    """What a backend found out about one config.

    ``time_us`` is the median and ``spread_us`` (p90 - p10) / 2, both in microseconds and None
    unless ``status`` is ok. ``rel_error`` is the largest error relative to fp32, ``error`` the
    reason of a failure. Clock, temperature and ``gpu_busy`` (what else ran on the card) stand
    beside measured times.
    """

    config: Any
    status: TrialStatus
    source: Source
    verified: Verified
    time_us: float | None = None
    spread_us: float | None = None
    rel_error: float | None = None
    error: str | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    gpu_busy: str | None = None
    gpu_uuid: str | None = None


class Backend(Protocol):
    """One GPU model, or a stand-in for it, that evaluates configs.

    ``archs`` are the real architectures to assemble for, the tier's own first: ("sm_75",) or
    ("sm_75", "sm_90"). ``slots`` evaluations may be in flight at once. A config that fails is a
    Measurement with that status, never an exception.
    """

    source: Source
    gpu: GpuSpec
    archs: tuple[str, ...]
    slots: int

    def prepare(self, problem: AnyProblem, bucket: Bucket, seed: int) -> None:
        """Makes inputs and reference for (problem, bucket) from ``seed``, which the log names."""

    def submit(self, candidate: Candidate, fidelity: Fidelity) -> Future[Measurement]:
        """Checks and times one candidate for what was prepared last."""

    def finals(self, candidates: Sequence[Candidate], seed: int) -> list[Measurement]:
        """Checks every row on inputs from a new seed, then times all candidates interleaved.

        With several identical cards each of them does so: one Measurement per (candidate, card).
        """

    def close(self) -> None:
        """Ends what the backend started. May be called twice."""
