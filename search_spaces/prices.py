"""Prices: what the cost model of any op thinks a config takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces import cost_model
from search_spaces.cost_model import Prediction
from search_spaces.gate_cost import predict_gate
from search_spaces.gate_problem import GateProblem
from search_spaces.gpu import GpuSpec
from search_spaces.problem import Problem
from search_spaces.problems import AnyProblem


def predict(
    problem: AnyProblem, config: Any, gpu: GpuSpec, rows_per_expert: Sequence[int]
) -> Prediction:
    """Time of one launch of a valid config on ``rows_per_expert`` rows, [E].

    A gate's time depends on the tokens alone that these rows come from.
    """
    if isinstance(problem, GateProblem):
        return predict_gate(problem, config, gpu, sum(rows_per_expert) // problem.top_k)
    assert isinstance(problem, Problem), "a layer is priced part by part"
    return cost_model.predict(problem, config, gpu, rows_per_expert)
