"""One bucket's contest: our configs and torch's ways, checked, then timed in turns."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from scripts.grouped_gemm_peers import Peer, expert_loop, grouped_mm
from search_spaces.numerics import tolerance
from tuner.gemm_workload import GemmWorkload
from tuner.inputs import Inputs
from tuner.job import Job, Setting
from tuner.measurer import GpuMeasurer
from tuner.reference import sampled_reference
from tuner.timing import FULL, Launch, Timing
from tuner.verify import check_values
from tuning_db.records import TrialStatus


@dataclass(frozen=True)
class Entry:
    """One contestant's result. ``error`` says why there is no time."""

    name: str
    config: str | None
    rel_error: float | None
    time_us: float | None = None
    spread_us: float | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    gpu_busy: str | None = None
    error: str | None = None

    def json(self) -> dict[str, Any]:
        """What is known of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def contest(measurer: GpuMeasurer, setting: Setting, jobs: Mapping[str, Job]) -> list[Entry]:
    """Check every row of each job (sampled rows of the peers), then time all in turns.

    ``jobs`` are by role ("winner"); equal configs are timed once and told under each role.
    """
    measurer.prepare(setting)
    distinct = list(dict.fromkeys(jobs.values()))
    checks = {job: measurer.check_all_rows(job) for job in distinct}
    sound = [job for job in distinct if checks[job].status is TrialStatus.OK]
    kernels = measurer.workload.bind(sound) if sound else []
    for kernel in kernels:
        kernel()
    others = _peers(measurer)
    launches: list[Launch] = [*kernels, *(peer.launch for peer in others)]
    torch.cuda.synchronize()
    rng = random.Random(setting.seed)
    timings = measurer.stopwatch.race(launches, FULL, rng)
    ours = dict(zip(sound, timings, strict=False))
    entries = [
        _entry(role, str(job.config), checks[job].rel_error, ours.get(job), checks[job].error)
        for role, job in jobs.items()
    ]
    for peer, timing in zip(others, timings[len(sound) :], strict=True):
        entries.append(_entry(peer.name, None, _rel_error(measurer, peer), timing, None))
    return entries


def _peers(measurer: GpuMeasurer) -> list[Peer]:
    inputs = _inputs(measurer)
    found = [peer for peer in (grouped_mm(inputs), expert_loop(inputs)) if peer]
    for peer in found:
        peer.launch()
    return found


def _inputs(measurer: GpuMeasurer) -> Inputs:
    assert isinstance(measurer.workload, GemmWorkload)
    return measurer.workload.inputs


def _rel_error(measurer: GpuMeasurer, peer: Peer) -> float:
    """Told, not judged: bf16 has an error of its own."""
    inputs = _inputs(measurer)
    sample: Sequence[Any] = [sampled_reference(inputs)]
    bound = tolerance("f32", inputs.problem.k)
    return check_values(peer.result(), sample, bound).rel_error


def _entry(
    name: str,
    config: str | None,
    rel_error: float | None,
    timing: Timing | None,
    error: str | None,
) -> Entry:
    if timing is None:
        return Entry(name, config, rel_error, error=error)
    state = timing.state
    return Entry(
        name, config, rel_error, timing.median_us, timing.spread_us,
        state.sm_clock_mhz, state.temperature_c, state.busy,
    )  # fmt: skip
