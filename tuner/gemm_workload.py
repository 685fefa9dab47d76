"""GemmWorkload: a grouped GEMM's operands on a device, its kernels checked against fp32."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from search_spaces.numerics import tolerance
from search_spaces.problem import Problem
from tuner.bound_kernel import BoundKernel, bind
from tuner.inputs import make_inputs
from tuner.job import Job, Setting
from tuner.reference import full_reference, sampled_reference
from tuner.verify import Verdict, check_values, check_writes
from tuner.workload import Launchable, launched


class GemmWorkload:
    """A :class:`tuner.workload.Workload`. Raises UserError when the operands do not fit."""

    def __init__(self, problem: Problem, setting: Setting, device: torch.device) -> None:
        self.inputs = make_inputs(problem, setting.bucket, setting.seed, device)
        self._sample = sampled_reference(self.inputs)

    def bind(self, jobs: Sequence[Job]) -> list[BoundKernel]:
        """On the same operands, one after another."""
        return bind(jobs, self.inputs)

    def check(self, job: Job, kernel: Launchable, *, every_row: bool) -> Verdict:
        """Sampled rows, or all of them. A hole in C or a write beside it says more than the wrong
        numbers that come with it."""
        inputs = self.inputs
        inputs.poison()
        left = launched(kernel, inputs.a.device)
        references = full_reference(inputs) if every_row else [self._sample]
        verdict = check_values(inputs.c, references, tolerance(job.config.acc, inputs.problem.k))
        reason = check_writes(inputs) or left
        return verdict if reason is None else Verdict(verdict.rel_error, reason)
