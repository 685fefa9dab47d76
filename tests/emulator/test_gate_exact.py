"""The router fused with the choice, on sums that are exact: emulated against brute force."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from search_spaces.gate_problem import GateProblem
from templates import CompilePool
from tests.emulator.gates import BuiltGate, build
from tuner.gate_inputs import GateInputs

FUSED = GateProblem(60, 264, 4, shared=2, shared_gate=True)
KERNELS = {
    "mma": "mma16x64x32_w1x4x1_s2_te_k1_l8_pass",
    "mma in parts": "mma8x32x32_w1x2x1_s2_et_k2_l16_last",
    "fma": "fma4x64x256_w1x8x1_s1_te_k1_l8_last",
    "fma in parts": "fma2x16x256_w1x2x2_s1_te_k1_l32_pass",
}


@pytest.fixture(scope="module")
def gates(pool: CompilePool) -> Iterator[dict[str, BuiltGate]]:
    yield dict(
        zip(KERNELS, build(pool, *((FUSED, name) for name in KERNELS.values())), strict=True)
    )


def exact(gate: BuiltGate, tokens: int, seed: int) -> GateInputs:
    """Inputs of small whole numbers: their sums are exact in any order, and full of ties."""
    inputs = gate.drawn(tokens, seed)
    inputs.x.copy_(inputs.x.round().clamp(-1, 1) / 4)
    assert inputs.router is not None
    inputs.router.copy_((16 * inputs.router).round().clamp(-2, 2))
    return inputs


@pytest.mark.parametrize("name", KERNELS)
def test_exact_sums_choose_exactly(name: str, gates: dict[str, BuiltGate]) -> None:
    gates[name].check(exact(gates[name], 21, seed=4))


@pytest.mark.parametrize("tokens", [0, 1, 7, 33])
@pytest.mark.parametrize("name", KERNELS)
def test_numbers_of_tokens(name: str, tokens: int, gates: dict[str, BuiltGate]) -> None:
    gates[name].check(exact(gates[name], tokens, seed=tokens))


@pytest.mark.parametrize("name", KERNELS)
def test_a_nan_in_a_hidden_state_is_told_and_stays_in_its_token(
    name: str, gates: dict[str, BuiltGate]
) -> None:
    inputs = exact(gates[name], 19, seed=6)
    inputs.x[17, 263] = torch.nan
    gates[name].check(inputs)


@pytest.mark.parametrize("name", KERNELS)
def test_a_nan_in_the_shared_gate_is_told(name: str, gates: dict[str, BuiltGate]) -> None:
    inputs = exact(gates[name], 3, seed=8)
    assert inputs.router is not None
    inputs.router[60, 7] = torch.nan
    gates[name].run(inputs)
    assert int(inputs.result("flag")) == 1
    assert bool(inputs.result("weights")[:, :4].isfinite().all())
