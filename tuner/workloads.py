"""Workloads: the workload of any op's setting."""

from __future__ import annotations

import torch

from search_spaces.problem import Problem
from tuner.gemm_workload import GemmWorkload
from tuner.job import Setting
from tuner.workload import Workload


def make_workload(setting: Setting, device: torch.device) -> Workload:
    """Draws operands from the setting's seed. Raises UserError when they do not fit."""
    assert isinstance(setting.problem, Problem)
    return GemmWorkload(setting.problem, setting, device)
