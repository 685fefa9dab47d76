"""A gate by brute force: one token at a time, Python floats, sorted()."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from search_spaces.gate_problem import GateProblem


def route(
    problem: GateProblem, logits: Sequence[float], bias: Sequence[float] | None, scaling: float
) -> tuple[list[int], list[float]]:
    """Experts and weights of a token with these logits, [E] or with a shared gate [E + 1]."""
    experts = range(problem.experts)
    missing = [math.isnan(logits[e]) for e in experts]
    counted = [-math.inf if missing[e] else logits[e] for e in experts]
    scores = _scores(problem, counted)
    added = [0.0] * problem.experts if bias is None else bias
    sums = [-math.inf if missing[e] else scores[e] + added[e] for e in experts]
    merits = counted if bias is None else sums
    size = problem.experts // problem.groups

    def worth(group: int) -> float:
        members = range(group * size, (group + 1) * size)
        if problem.group_score == "max":
            return max(merits[e] for e in members)
        return sum(sorted(sums[e] for e in members)[-2:])

    order = sorted(range(problem.groups), key=lambda group: (-worth(group), group))
    best = order[: problem.topk_group]
    allowed = [e for e in experts if e // size in best]
    ids = sorted(allowed, key=lambda e: (missing[e], -merits[e], e))[: problem.top_k]
    weights = [scores[e] for e in ids]
    if problem.renormalise:
        weights = [weight / max(sum(weights), 1e-20) for weight in weights]
    shared = 1.0
    if problem.shared_gate:
        shared = _sigmoid(logits[problem.experts])
    ids += range(problem.experts, problem.all_experts)
    return ids, [weight * scaling for weight in weights] + [shared] * problem.shared


def route_all(
    problem: GateProblem, logits: torch.Tensor, bias: torch.Tensor | None, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids int32 [T, slots] and weights fp64 [T, slots] for logits [T, E] or [T, E + 1]."""
    listed = None if bias is None else bias.tolist()
    routed = [route(problem, row, listed, scaling) for row in logits.tolist()]
    ids = torch.tensor([ids for ids, _ in routed], dtype=torch.int32)
    weights = torch.tensor([weights for _, weights in routed], dtype=torch.float64)
    return ids.view(-1, problem.slots), weights.view(-1, problem.slots)


def _scores(problem: GateProblem, logits: Sequence[float]) -> list[float]:
    if problem.score == "sigmoid":
        return [_sigmoid(logit) for logit in logits]
    top = max(logits)
    if top == -math.inf:  # nothing but NaNs: no weight means anything
        return [math.nan] * len(logits)
    parts = [math.exp(logit - top) for logit in logits]
    return [part / sum(parts) for part in parts]


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0
