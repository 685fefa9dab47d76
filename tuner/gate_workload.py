"""GateWorkload: a fused gate's operands on a device, its kernels checked against fp32."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from search_spaces.gate_problem import GateProblem
from templates.fused_gate import launch_shape
from tuner.bound_kernel import BoundKernel, bind_all
from tuner.gate_inputs import draw_gate_inputs
from tuner.gate_verdict import check_routing, reference_of
from tuner.job import Job, Setting
from tuner.verify import Verdict
from tuner.workload import Launchable, launched


class GateWorkload:
    """A :class:`tuner.workload.Workload`. Raises UserError when the operands do not fit."""

    def __init__(self, problem: GateProblem, setting: Setting, device: torch.device) -> None:
        tokens = setting.bucket.tokens(problem)
        self.inputs = draw_gate_inputs(problem, tokens, setting.seed, device)
        self._reference = reference_of(self.inputs)

    def bind(self, jobs: Sequence[Job]) -> list[BoundKernel]:
        """On the same operands, one after another."""
        inputs = self.inputs
        shapes = [
            launch_shape(inputs.problem, job.config, inputs.tokens, inputs.scaling) for job in jobs
        ]
        return bind_all(jobs, shapes, inputs.operands, inputs.x.device)

    def check(self, job: Job, kernel: Launchable, *, every_row: bool) -> Verdict:
        """All tokens, always: that is quick. What lies beside the results, and what nobody wrote,
        say more than wrong numbers."""
        self.inputs.poison()
        left = launched(kernel, self.inputs.x.device)
        verdict = check_routing(self.inputs, self._reference)
        if verdict.reason is None and left is not None:
            return Verdict(verdict.rel_error, left)
        return verdict
