"""EmulatedGate: a fused gate's PTX, executed on the CPU and checked like on a GPU."""

from __future__ import annotations

import torch

from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from templates.built import Built
from templates.fused_gate import launch_shape
from tuner.emulated import Emulated
from tuner.emulated_passes import emulate_passes
from tuner.emulator import Emulation, EmulationFault, Unwritten
from tuner.gate_inputs import GateInputs, draw_gate_inputs
from tuner.gate_verdict import check_routing, reference_of
from tuner.verify import Verdict
from tuning_db.records import TrialStatus

BUDGET = 100_000_000  # warp instructions of a cohort: minutes
CPU = torch.device("cpu")


def check_gate(
    problem: GateProblem,
    config: GateConfig,
    built: Built,
    tokens: int,
    seed: int,
    *,
    count: bool = False,
    budget: int = BUDGET,
) -> Emulated:
    """Runs ``built``, which was built for (problem, config), on operands drawn from ``seed``.

    Every id, weight, offset, row, slot and inverse of ``tokens`` tokens is compared with torch's
    and has to be written; memory beside them, the flag and the counters have to stay as they are.
    ``count`` keeps the emulation's counters. Raises PtxError for PTX that the emulator does not
    know.
    """
    inputs = draw_gate_inputs(problem, tokens, seed, CPU)
    try:
        emulation, left = run_gate(inputs, config, built, count=count, budget=budget)
    except EmulationFault as fault:
        return Emulated(TrialStatus.LAUNCH_ERROR, str(fault), None, None)
    verdict = check_routing(inputs, reference_of(inputs))
    if verdict.reason is None and left:
        verdict = Verdict(verdict.rel_error, "counters are not zero after the launch")
    status = TrialStatus.OK if verdict.reason is None else TrialStatus.WRONG_RESULT
    return Emulated(status, verdict.reason, verdict.rel_error, emulation)


def run_gate(
    inputs: GateInputs, config: GateConfig, built: Built, *, count: bool, budget: int = BUDGET
) -> tuple[Emulation, bool]:
    """Poisons the results and runs all passes; True where counters are not zero afterwards.

    Raises EmulationFault for what the kernel does wrong.
    """
    inputs.poison()
    shape = launch_shape(inputs.problem, config, inputs.tokens, inputs.scaling)
    counters = torch.zeros(shape.counters, dtype=torch.int32)
    x, router, bias, *results, flag = inputs.operands
    fresh = [Unwritten(result) for result in results]
    operands = (x, router, bias, *fresh, flag)
    emulation = emulate_passes(built, shape, operands, counters, count=count, budget=budget)
    return emulation, bool(counters.any())
