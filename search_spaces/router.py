"""Router: how a model's gate scores and chooses experts, by its family."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Router:
    """What of :class:`search_spaces.gate_problem.GateProblem` a config.json decides.

    ``score`` is softmax or sigmoid; ``bias`` a correction per expert that only the choice sees.
    The chosen experts come from the ``topk_group`` best of ``groups`` groups, which count as
    ``group_score``. ``scaling`` multiplies the weights, at run time. ``shared_gate``: a sigmoid
    weighs the shared experts.
    """

    score: str = "softmax"
    bias: bool = False
    groups: int = 1
    topk_group: int = 1
    group_score: str = "max"
    scaling: float = 1.0
    shared_gate: bool = False
