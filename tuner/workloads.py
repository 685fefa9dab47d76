"""Workloads: the workload of any op's setting."""

from __future__ import annotations

import torch

from search_spaces.gate_problem import GateProblem
from search_spaces.problem import Problem
from tuner.gate_workload import GateWorkload
from tuner.gemm_workload import GemmWorkload
from tuner.job import Setting
from tuner.workload import Workload


def make_workload(setting: Setting, device: torch.device) -> Workload:
    """Draws operands from the setting's seed. Raises UserError when they do not fit."""
    problem = setting.problem
    if isinstance(problem, GateProblem):
        return GateWorkload(problem, setting, device)
    assert isinstance(problem, Problem), "a layer is measured part by part"
    return GemmWorkload(problem, setting, device)
