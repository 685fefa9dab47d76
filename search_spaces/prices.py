"""Prices: what the cost model of any op thinks a config takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces import cost_model
from search_spaces.cost_model import Prediction
from search_spaces.gpu import GpuSpec
from search_spaces.problem import Problem
from search_spaces.problems import AnyProblem


def predict(
    problem: AnyProblem, config: Any, gpu: GpuSpec, rows_per_expert: Sequence[int]
) -> Prediction:
    """Time of one launch of a valid config on ``rows_per_expert`` rows, [E].

    A gate's time depends on the tokens alone that these rows come from.
    """
    assert isinstance(problem, Problem)
    return cost_model.predict(problem, config, gpu, rows_per_expert)


def explain(prediction: Prediction) -> list[str]:
    """Lines that tell where the predicted time goes, longest first."""
    return cost_model.explain(prediction)
