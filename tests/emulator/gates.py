"""Gates for the emulated tests: built, run on logits of one's own, compared with brute force."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from templates import Built, CompilePool, Target
from templates.fused_gate import render
from templates.gate_reference import gate_logits
from tests.gate_oracle import route_all
from tests.permutation_oracle import sorted_slots
from tuner.emulated_gate import run_gate
from tuner.gate_inputs import GateInputs, draw_gate_inputs

PTX_ONLY = Target("compute_75", ())


@dataclass(frozen=True)
class BuiltGate:
    """A kernel and what it was built for."""

    problem: GateProblem
    config: GateConfig
    built: Built

    def drawn(self, tokens: int, seed: int = 1) -> GateInputs:
        return draw_gate_inputs(self.problem, tokens, seed, torch.device("cpu"))

    def run(self, inputs: GateInputs) -> None:
        """Launches; the counters have to be as they were."""
        _, left = run_gate(inputs, self.config, self.built, count=False)
        assert not left, "counters are not zero"

    def check(self, inputs: GateInputs) -> None:
        """Launches; all results have to be those of brute force, given the logits."""
        self.run(inputs)
        logits = gate_logits(self.problem, inputs.x, inputs.router)
        ids, weights = route_all(self.problem, logits, inputs.bias, inputs.scaling)
        assert torch.equal(inputs.result("ids"), ids)
        some = ~logits[:, : self.problem.experts].isnan().all(dim=1)  # else weights mean nothing
        got = inputs.result("weights").double()
        torch.testing.assert_close(got[some], weights[some], rtol=1e-5, atol=1e-12)
        assert int(inputs.result("flag")) == int(logits.isnan().any())
        self.check_permutation(inputs)

    def check_permutation(self, inputs: GateInputs) -> None:
        listed, experts = inputs.result("ids").flatten().tolist(), self.problem.all_experts
        expected = sorted_slots(listed, experts, self.problem.slots)
        for name, wanted in vars(expected).items():
            assert inputs.result(name).flatten().tolist() == wanted, name


def build(pool: CompilePool, *kernels: tuple[GateProblem, str]) -> list[BuiltGate]:
    """Kernels of these problems and configs."""
    pairs = [(problem, GateConfig.parse(name)) for problem, name in kernels]
    results = list(pool.build([render(*pair) for pair in pairs], PTX_ONLY))
    gates = []
    for (problem, config), built in zip(pairs, results, strict=True):
        assert isinstance(built, Built), built
        gates.append(BuiltGate(problem, config, built))
    return gates
