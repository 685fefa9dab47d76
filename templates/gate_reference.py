"""fused_gate in torch, fp32 on any device: what kernels are held to, and what a CPU runs."""

from __future__ import annotations

import torch

from search_spaces.gate_problem import GateProblem

LEAST_SUM = 1e-20  # renormalised weights are divided by no less


def gate_logits(problem: GateProblem, x: torch.Tensor, router: torch.Tensor | None) -> torch.Tensor:
    """fp32 logits [T, E], with a shared gate [T, E + 1], of hidden states [T, H]; or x itself."""
    if not problem.hidden:
        return x.float()
    assert router is not None, "hidden states need a router"
    return x.float() @ router.float().T


def gate_reference(
    problem: GateProblem,
    x: torch.Tensor,
    router: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    scaling: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids int32 [T, slots] and weights fp32 [T, slots].

    ``x`` is hidden states [T, H] or logits [T, E], ``router`` [E, H] (with a shared gate one row
    more), ``bias`` fp32 [E]. Without a bias, experts are ordered by their logits: scores grow
    with them, and where fp32 rounds two scores to one, their logits still tell which is larger.
    A NaN counts as a logit of -inf, and is chosen after those.
    """
    return choose(problem, gate_logits(problem, x, router), bias, scaling)


def choose(
    problem: GateProblem, logits: torch.Tensor, bias: torch.Tensor | None, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids and weights for given fp32 logits [T, E], with a shared gate [T, E + 1]."""
    experts = logits[:, : problem.experts]
    scores, order = choice_scores(problem, experts, bias)
    lost = torch.zeros_like(order, dtype=torch.int8)
    lost[experts.isnan()] = 1
    lost[~_in_best_groups(problem, scores, order)] = 2
    ids = _best(order, lost)[:, : problem.top_k]
    weights = _scores(problem, experts).gather(1, ids)
    if problem.renormalise:
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(LEAST_SUM)
    return _with_shared(problem, logits, ids.int(), weights * scaling)


def choice_scores(
    problem: GateProblem, experts: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [T, E] that groups are judged by, and what experts are ordered by."""
    scores, order = _scores(problem, experts), experts
    if problem.bias:
        assert bias is not None, "the problem has a correction bias"
        scores = order = scores + bias
    missing = experts.isnan()
    return tuple(t.masked_fill(missing, -torch.inf) for t in (scores, order))  # type: ignore[return-value]


def _scores(problem: GateProblem, experts: torch.Tensor) -> torch.Tensor:
    finite = experts.masked_fill(experts.isnan(), -torch.inf)
    return finite.softmax(dim=1) if problem.score == "softmax" else finite.sigmoid()


def _in_best_groups(
    problem: GateProblem, scores: torch.Tensor, order: torch.Tensor
) -> torch.Tensor:
    """Which experts [T, E] may be chosen."""
    tokens, size = len(order), problem.experts // problem.groups
    if problem.groups == 1:
        return torch.ones_like(order, dtype=torch.bool)
    if problem.group_score == "max":
        worth = order.view(tokens, problem.groups, size).amax(dim=2)
    else:
        worth = scores.view(tokens, problem.groups, size).topk(2, dim=2).values.sum(dim=2)
    best = worth.sort(dim=1, descending=True, stable=True).indices[:, : problem.topk_group]
    kept = torch.zeros_like(worth, dtype=torch.bool).scatter_(1, best, True)
    return kept.repeat_interleave(size, dim=1)


def _best(order: torch.Tensor, lost: torch.Tensor) -> torch.Tensor:
    """Experts [T, E] by (lost, descending order, ascending number)."""
    ids = order.sort(dim=1, descending=True, stable=True).indices
    by_loss = lost.gather(1, ids).sort(dim=1, stable=True).indices
    return ids.gather(1, by_loss)


def _with_shared(
    problem: GateProblem, logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    if not problem.shared:
        return ids, weights
    numbers = torch.arange(problem.experts, problem.all_experts, device=ids.device).int()
    ones = torch.ones_like(weights[:, :1])
    gate = logits[:, problem.experts :].sigmoid() if problem.shared_gate else ones
    shape = (len(ids), problem.shared)
    return torch.cat([ids, numbers.expand(shape)], 1), torch.cat([weights, gate.expand(shape)], 1)
