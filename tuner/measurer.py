"""GpuMeasurer: checks and times configs on one card, in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import torch

from search_spaces.errors import UserError
from search_spaces.numerics import tolerance
from templates.device import device_uuid
from tuner.backends.base import Fidelity, Measurement
from tuner.bound_kernel import BoundKernel, bind
from tuner.card import Card
from tuner.inputs import Inputs, Reference, full_reference, make_inputs, sampled_reference
from tuner.job import Job, Setting
from tuner.timing import FULL, SHORT, Repeats, Stopwatch, Timing
from tuner.verify import Verdict, check_values, check_writes
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
        self._inputs: Inputs | None = None
        self._sample: Reference | None = None

    @property
    def inputs(self) -> Inputs:
        """What ``prepare`` made."""
        assert self._inputs is not None, "nothing was prepared"
        return self._inputs

    def prepare(self, setting: Setting) -> None:
        """Make inputs and the reference of sampled rows. Raises UserError when they do not fit."""
        import cupy

        cupy.clear_memo()  # which would keep every module ever loaded, and its memory
        self._inputs = self._sample = None  # both sets at once might not fit
        self._inputs = make_inputs(setting.problem, setting.bucket, setting.seed, self.device)
        self._sample = sampled_reference(self._inputs)

    def evaluate(self, job: Job, fidelity: Fidelity) -> Measurement:
        """Check sampled rows, then time."""
        return self.measure(job, _REPEATS[fidelity])

    def measure(self, job: Job, repeats: Repeats) -> Measurement:
        """Check sampled rows, then time as often as told."""

        def run(kernel: BoundKernel) -> Measurement:
            assert self._sample is not None
            verdict = self._check(job, kernel, [self._sample])
            if not verdict.ok:
                return self._wrong(job, verdict)
            [timing] = self.stopwatch.race([kernel], repeats, random.Random(0))
            return self._right(job, verdict.rel_error, timing)

        return self._launched(job, run)

    def check_all_rows(self, job: Job) -> Measurement:
        """Check every row; nothing is timed."""

        def run(kernel: BoundKernel) -> Measurement:
            verdict = self._check(job, kernel, full_reference(self.inputs))
            return self._right(job, verdict.rel_error) if verdict.ok else self._wrong(job, verdict)

        return self._launched(job, run)

    def race(self, jobs: Sequence[Job], seed: int) -> list[Measurement]:
        """Time jobs in turns, their order drawn from ``seed``; nothing is checked."""
        kernels = bind(jobs, self.inputs)
        for kernel in kernels:
            kernel()
        torch.cuda.synchronize()
        timings = self.stopwatch.race(kernels, FULL, random.Random(seed))
        return [self._right(job, None, timing) for job, timing in zip(jobs, timings, strict=True)]

    def _launched(self, job: Job, run: Callable[[BoundKernel], Measurement]) -> Measurement:
        """``run`` on the bound kernel; what the process survives becomes a failed Measurement."""
        try:
            [kernel] = bind([job], self.inputs)
            return run(kernel)
        except torch.OutOfMemoryError as error:
            reason = f"out of memory: {str(error).partition('. ')[0]}"
        except UserError as error:  # the driver does not take this machine code
            reason = str(error)
        return self._failed(job, TrialStatus.LAUNCH_ERROR, Verified.NONE, reason)

    def _check(self, job: Job, kernel: BoundKernel, references: Iterable[Reference]) -> Verdict:
        """Launch once on poisoned memory and look at everything it left behind."""
        self.inputs.poison()
        kernel()
        torch.cuda.synchronize()
        bound = tolerance(job.config.acc, self.inputs.problem.k)
        verdict = check_values(self.inputs.c, references, bound)
        # A hole in C or a write beside it says more than the wrong numbers that come with it.
        reason = check_writes(self.inputs)
        if reason is None and not kernel.counters_are_zero():
            reason = "split-K counters are not zero after the launch"
        return verdict if reason is None else Verdict(verdict.rel_error, reason)

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
