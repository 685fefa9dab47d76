"""Bugs planted into the gate's headers: a missing barrier or fence is a race, the rest shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from tests.emulator.gates import BuiltGate
from tests.emulator.planted import Edit, built_with
from tuner.emulator import EmulationFault, FaultKind

PROBLEM = GateProblem(60, 520, 4, "f16", shared=1, shared_gate=True)
PARTS = GateConfig.parse("fma4x16x256_w1x2x2_s1_te_k2_l8_last")
WHOLE = GateConfig.parse("fma4x64x256_w1x8x1_s1_te_k1_l8_pass")
TOKENS = 6
GATE, ARRIVAL, CONTEST = "gate_sm75.cuh", "gate_arrival.cuh", "gate_contest.cuh"

RACES = {
    "parts are not released": (
        PARTS, Edit(ARRIVAL, "  __threadfence();\n  __syncthreads();\n", "  __syncthreads();\n"),
    ),
    "parts are not acquired": (PARTS, Edit(ARRIVAL, "    __threadfence();\n    if", "    if")),
    "the count is read early": (
        PARTS, Edit(ARRIVAL, "1);\n  __syncthreads();", "1);"),
    ),
    "sums of warps are read early": (
        PARTS, Edit("gate_fma.cuh", "      __syncthreads();\n      if (warp_k", "      if (warp_k"),
    ),
    "logits are read early": (
        WHOLE, Edit(GATE, "logits, shared);\n    __syncthreads();", "logits, shared);"),
    ),
    "ids are read early": (
        WHOLE, Edit(GATE, "return;\n  __syncthreads();\n  if constexpr", "return;\n  if constexpr"),
    ),
}  # fmt: skip
WRONG = {
    "ties to the higher lane": (
        WHOLE, Edit(CONTEST, "__ffs(tied >> first) - 1",
                    "31 - __clz(tied >> first & 0xffffffffu >> (32 - kLanes))"),
    ),
    "ties to the higher item": (WHOLE, Edit(CONTEST, "keys[i] > best ?", "keys[i] >= best ?")),
    "a part is left out": (
        PARTS, Edit("gate_row.cuh", "split < splits; ", "split < splits - 1; "),
    ),
    "the counter stays": (PARTS, Edit(ARRIVAL, "*counter = 0", "*counter = 1")),
    "one weight for all": (
        WHOLE, Edit("gate_choice.cuh", "chosen[i] = number_of(most)", "chosen[i] = top"),
    ),
    "the scaling of shared experts": (
        WHOLE, Edit(GATE, "weights[i] : shared_weight<V>(row)",
                    "weights[i] : args.scaling * shared_weight<V>(row)"),
    ),
}  # fmt: skip


def run(config: GateConfig, folder: Path, *edits: Edit) -> None:
    """Raises when something is wrong. Sums are exact and full of ties."""
    gate = BuiltGate(PROBLEM, config, built_with(PROBLEM, config, folder, *edits))
    inputs = gate.drawn(TOKENS)
    inputs.x.copy_(inputs.x.round().clamp(-1, 1) / 4)
    assert inputs.router is not None
    inputs.router.copy_((22 * inputs.router).round().clamp(-2, 2))
    inputs.x[:, 3:517] = 0
    gate.check(inputs)


@pytest.mark.parametrize("config", [PARTS, WHOLE], ids=str)
def test_nothing_is_wrong_without_a_bug(config: GateConfig, tmp_path: Path) -> None:
    run(config, tmp_path)


@pytest.mark.parametrize("bug", RACES)
def test_a_race_is_found(bug: str, tmp_path: Path) -> None:
    config, edit = RACES[bug]
    with pytest.raises(EmulationFault) as fault:
        run(config, tmp_path, edit)
    assert fault.value.kind in (FaultKind.SHARED_RACE, FaultKind.GLOBAL_RACE), fault.value


@pytest.mark.parametrize("bug", WRONG)
def test_a_wrong_result_is_found(bug: str, tmp_path: Path) -> None:
    config, edit = WRONG[bug]
    with pytest.raises(AssertionError):
        run(config, tmp_path, edit)
