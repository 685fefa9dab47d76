"""LayerOracle: what a layer should answer, in fp32, and how far a config's answer may be off.

Where two experts compete within a rounding error for a token's last slot, two right gates may
choose differently, and the token's answers have little in common. Such tokens are left out: those
for which logits moved by a little choose other experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.measuring.layer_inputs import LayerInputs
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.numerics import HALF_ULP_F16, tolerance
from templates.gate_reference import choose, gate_logits
from templates.glu import glu

_NUDGE = 1e-4  # of logits up to 10: far above what orders of fp32 sums differ by
_NUDGES = 4
_ROWS_AT_ONCE = 2048  # bounds the fp32 temporaries
# A token's error is the norm of its row's, where errors of single elements average out; these
# bound what the second GEMM makes of errors of the first, whose results are gate times up.
_FIRST_SHARE = 3.0
_ROUNDINGS = 4  # to fp16: activations, partial rows, the answer, and one to spare


@dataclass(frozen=True)
class LayerOracle:
    """``values`` [T, H] fp32; ``clear`` [T] tells which tokens have one right answer."""

    values: torch.Tensor
    clear: torch.Tensor

    def error(self, answer: torch.Tensor) -> float:
        """The largest ||y - ref|| / ||ref|| of a clear token; a NaN counts as infinite."""
        wrong = (answer.float() - self.values).norm(dim=1) / self.values.norm(dim=1)
        return float(wrong[self.clear].nan_to_num(nan=torch.inf).max())


def layer_oracle(inputs: LayerInputs) -> LayerOracle:
    """One expert's weights at a time are held in fp32. Some token has to be clear."""
    gate, weights = inputs.problem.gate, inputs.weights
    logits = gate_logits(gate, inputs.hidden, weights.router)
    ids, shares = choose(gate, logits, weights.bias, 1.0)
    generator = torch.Generator(logits.device).manual_seed(0)
    clear = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(_NUDGES):
        noise = torch.empty_like(logits).normal_(generator=generator)
        others, _ = choose(gate, logits + _NUDGE * noise, weights.bias, 1.0)
        clear &= (others.sort(dim=1).values == ids.sort(dim=1).values).all(dim=1)
    values = torch.zeros(len(ids), inputs.problem.hidden, device=ids.device)
    for expert in range(gate.all_experts):
        tokens, slots = torch.nonzero(ids == expert, as_tuple=True)
        for rows in torch.arange(len(tokens), device=ids.device).split(_ROWS_AT_ONCE):
            answers = _expert(inputs, expert, inputs.hidden[tokens[rows]].float())
            share = shares[tokens[rows], slots[rows], None]
            values.index_add_(0, tokens[rows], share * answers)
    assert clear.any(), "every token is a tie"
    return LayerOracle(values, clear)


def allowed_error(problem: LayerProblem, config: LayerConfig) -> float:
    """The largest error of a right config, as :meth:`LayerOracle.error` tells it."""
    first = tolerance(config.gate_up.acc, problem.hidden).scale
    second = tolerance(config.down.acc, problem.intermediate).scale
    return _FIRST_SHARE * first + second + _ROUNDINGS * HALF_ULP_F16


def _expert(inputs: LayerInputs, expert: int, x: torch.Tensor) -> torch.Tensor:
    """[rows, H] fp32 of x [rows, H]."""
    weights = inputs.weights
    activations = glu(x @ weights.gate_up[expert].float().T, inputs.problem.epilogue)
    return activations @ weights.down[expert].float().T
