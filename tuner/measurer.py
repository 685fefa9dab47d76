"""GpuMeasurer: checks and times configs on one card, in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch

from search_spaces.errors import UserError
from templates.device import device_uuid
from tuner.backends.base import Fidelity, Measurement
from tuner.bound_kernel import BoundKernel
from tuner.card import Card
from tuner.job import Job, Setting
from tuner.timing import FULL, SHORT, Repeats, Stopwatch, Timing
from tuner.verify import Verdict
from tuner.workload import Workload
from tuner.workloads import make_workload
from tuning_db.records import Source, TrialStatus, Verified

_REPEATS = {Fidelity.SHORT: SHORT, Fidelity.FULL: FULL}


class GpuMeasurer:
    """A :class:`tuner.job.Measurer` for CUDA device number ``index``.

    Its methods raise RuntimeError when CUDA fails: an illegal address, say, which nothing in this
    process survives.
    """

    def __init__(self, index: int) -> None:
        torch.cuda.set_device(index)
        self.device = torch.device("cuda", index)
        self.card = Card(device_uuid(index))
        self.stopwatch = Stopwatch(self.device, self.card)
        self._workload: Workload | None = None

    @property
    def workload(self) -> Workload:
        """What ``prepare`` made."""
        assert self._workload is not None, "nothing was prepared"
        return self._workload

    def prepare(self, setting: Setting) -> None:
        """Make inputs and the reference of sampled rows. Raises UserError when they do not fit."""
        import cupy

        cupy.clear_memo()  # which would keep every module ever loaded, and its memory
        self._workload = None  # two at once might not fit
        self._workload = make_workload(setting, self.device)

    def evaluate(self, job: Job, fidelity: Fidelity) -> Measurement:
        """Check sampled rows, then time."""
        return self.measure(job, _REPEATS[fidelity])

    def measure(self, job: Job, repeats: Repeats) -> Measurement:
        """Check sampled rows, then time as often as told."""

        def run(kernel: BoundKernel) -> Measurement:
            verdict = self.workload.check(job, kernel, every_row=False)
            if not verdict.ok:
                return self._wrong(job, verdict)
            [timing] = self.stopwatch.race([kernel], repeats, random.Random(0))
            return self._right(job, verdict.rel_error, timing)

        return self._launched(job, run)

    def check_all_rows(self, job: Job) -> Measurement:
        """Check every row; nothing is timed."""

        def run(kernel: BoundKernel) -> Measurement:
            verdict = self.workload.check(job, kernel, every_row=True)
            return self._right(job, verdict.rel_error) if verdict.ok else self._wrong(job, verdict)

        return self._launched(job, run)

    def race(self, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        """Time jobs in turns, their order drawn from ``seed``; nothing is checked."""
        kernels = self.workload.bind(jobs)
        for kernel in kernels:
            kernel()
        torch.cuda.synchronize()
        timings = self.stopwatch.race(kernels, FULL, random.Random(seed))
        return [self._right(job, None, timing) for job, timing in zip(jobs, timings, strict=True)]

    def _launched(self, job: Job, run: Callable[[BoundKernel], Measurement]) -> Measurement:
        """``run`` on the bound kernel; what the process survives becomes a failed Measurement."""
        try:
            [kernel] = self.workload.bind([job])
            return run(kernel)
        except torch.OutOfMemoryError as error:
            reason = f"out of memory: {str(error).partition('. ')[0]}"
        except UserError as error:  # the driver does not take this machine code
            reason = str(error)
        return self._failed(job, TrialStatus.LAUNCH_ERROR, Verified.NONE, reason)

    def _right(
        self, job: Job, rel_error: float | None, timing: Timing | None = None
    ) -> Measurement:
        state = timing.state if timing else self.card.state()
        return Measurement(
            config=job.config,
            status=TrialStatus.OK,
            source=Source.MEASURED,
            verified=Verified.GPU,
            time_us=timing.median_us if timing else None,
            spread_us=timing.spread_us if timing else None,
            rel_error=rel_error,
            sm_clock_mhz=state.sm_clock_mhz,
            temperature_c=state.temperature_c,
            gpu_busy=state.busy,
            gpu_uuid=self.card.uuid,
        )

    def _wrong(self, job: Job, verdict: Verdict) -> Measurement:
        status, error = TrialStatus.WRONG_RESULT, verdict.rel_error
        return self._failed(job, status, Verified.GPU, verdict.reason, error)

    def _failed(
        self,
        job: Job,
        status: TrialStatus,
        verified: Verified,
        reason: str | None,
        rel_error: float | None = None,
    ) -> Measurement:
        return Measurement(
            job.config, status, Source.MEASURED, verified,
            rel_error=rel_error, error=reason, gpu_uuid=self.card.uuid,
        )  # fmt: skip
