"""GateVerdict: are a gate's choices, weights and permutation right? Works on any torch device.

Experts have to be those of the reference, in its order, wherever the gaps between what decides
exceed what fp32 sums in another order may differ by; where logits are given and compared as they
are, everywhere. Weights are held to the reference's for the experts that were chosen, and the
permutation, which follows from these, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from search_spaces.gate_problem import GateProblem
from search_spaces.numerics import ACTIVATION_ERROR, tolerance
from templates.gate_reference import LEAST_SUM, choice_scores, choose
from templates.permute_reference import permute_reference
from tuner.gate_inputs import GUARD, POISON, GateInputs
from tuner.reference import full_precision
from tuner.verify import Verdict

TOKENS_AT_ONCE = 8192  # bounds the temporaries
SCORE_ERROR = 2.0**-20  # of a softmax or sigmoid in fp32: exp, sum and quotient
# Of a weight, for each error of a logit: softmax doubles it, dividing by a sum doubles that again.
WEIGHT_GROWTH = 4.0
TINY = 1e-30  # weights of nothing


@dataclass(frozen=True)
class GateReference:
    """fp32 ``logits`` [T, router_rows or E], the most they may be off by [T], the reference's
    ``ids`` [T, slots], and the tokens [T] for which these are ``sure``."""

    logits: torch.Tensor
    errors: torch.Tensor
    ids: torch.Tensor
    sure: torch.Tensor


def reference_of(inputs: GateInputs) -> GateReference:
    """What no kernel changes: worked out once for all of them."""
    parts = [
        _part(inputs, inputs.x[first : first + TOKENS_AT_ONCE])
        for first in range(0, inputs.tokens, TOKENS_AT_ONCE)
    ]
    return GateReference(*(torch.cat(part) for part in zip(*parts, strict=True)))


def check_routing(inputs: GateInputs, reference: GateReference) -> Verdict:
    """Everything a kernel left behind. ``rel_error`` is that of the weights (Frobenius)."""
    reason = _check_guards(inputs) or _check_ids(inputs, reference)
    if reason is not None:
        return Verdict(float("inf"), reason)
    error, reason = _check_weights(inputs, reference)
    reason = reason or _check_permutation(inputs)
    if reason is None and int(inputs.result("flag")) != 0:
        reason = "the flag tells of a NaN, and no logit is one"
    return Verdict(error, reason)


def _part(inputs: GateInputs, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    problem, logits = inputs.problem, x.float()
    errors = torch.zeros(len(x), device=x.device)
    if inputs.router is not None:
        router = inputs.router.float()
        with full_precision():
            scale = (logits.square() @ router.square().T).sqrt_().amax(dim=1)
            logits = logits @ router.T
        errors = tolerance("f32", problem.hidden).scale * scale
    ids, _ = choose(problem, logits, inputs.bias, inputs.scaling)
    return logits, errors, ids, _sure(problem, logits, errors, inputs.bias)


def _sure(
    problem: GateProblem, logits: torch.Tensor, errors: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Tokens [T] whose experts no rounding can change."""
    scores, order = choice_scores(problem, logits[:, : problem.experts], bias)
    sure = torch.ones_like(errors, dtype=torch.bool)
    errors = errors if not problem.bias else errors + SCORE_ERROR
    if problem.topk_group < problem.groups:
        summed = problem.group_score == "top2"
        worth = _worth(problem, scores if summed else order)
        best = worth.sort(dim=1, descending=True, stable=True)
        gap = best.values[:, problem.topk_group - 1] - best.values[:, problem.topk_group]
        sure &= _apart(gap, 2 * (errors + SCORE_ERROR) if summed else errors)
        lost = torch.ones_like(worth, dtype=torch.bool)
        lost.scatter_(1, best.indices[:, : problem.topk_group], False)
        size = problem.experts // problem.groups
        order = order.masked_fill(lost.repeat_interleave(size, dim=1), -torch.inf)
    highest = order.topk(min(problem.top_k + 1, problem.experts), dim=1).values
    gaps = (highest[:, :-1] - highest[:, 1:]).amin(dim=1) if highest.shape[1] > 1 else errors + 1
    return sure & _apart(gaps, errors)


def _worth(problem: GateProblem, values: torch.Tensor) -> torch.Tensor:
    """What each group counts as, [T, groups]."""
    each = values.view(len(values), problem.groups, -1)
    return each.topk(2 if problem.group_score == "top2" else 1, dim=2).values.sum(dim=2)


def _apart(gap: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """Whether two values stay in order when each is off by its error; without any, ties too."""
    return (errors == 0) | (gap > 2 * errors)


def _check_guards(inputs: GateInputs) -> str | None:
    for name, buffer in inputs.guarded.items():
        for where, guard in (("before", buffer[:GUARD]), ("beyond", buffer[-GUARD:])):
            if bool((guard != POISON).any()):
                return f"memory {where} {name} was written"
    for name in inputs.guarded:
        bits = inputs.guarded[name][GUARD:-GUARD]
        if bool((bits == POISON).any()):
            return f"{name}[{int((bits == POISON).nonzero()[0])}] was never written"
    return None


def _check_ids(inputs: GateInputs, reference: GateReference) -> str | None:
    """Valid and distinct everywhere, the reference's where it is sure."""
    problem, ids = inputs.problem, inputs.result("ids")
    valid = ((ids >= 0) & (ids < problem.all_experts)).all(dim=1)
    ascending = ids.sort(dim=1).values
    valid &= (ascending[:, 1:] != ascending[:, :-1]).all(dim=1)
    valid &= (ids[:, problem.top_k :] == reference.ids[:, problem.top_k :]).all(dim=1)
    wrong = ~valid | (reference.sure & (ids != reference.ids).any(dim=1))
    if not bool(wrong.any()):
        return None
    token = int(wrong.nonzero()[0])
    return (
        f"the experts of {int(wrong.sum())} of {inputs.tokens} tokens are wrong, the first "
        f"ids[{token}] = {ids[token].tolist()} instead of {reference.ids[token].tolist()}"
    )


def _check_weights(inputs: GateInputs, reference: GateReference) -> tuple[float, str | None]:
    """Against the reference's weights of the experts that the kernel chose."""
    got = inputs.result("weights")
    expected = _weights(inputs, reference.logits)
    allowed = WEIGHT_GROWTH * reference.errors[:, None] + ACTIVATION_ERROR
    difference = (got - expected).abs()
    wrong = (difference <= allowed * expected + TINY).logical_not_()
    size = float(torch.linalg.vector_norm(expected, dtype=torch.float64))
    error = float(torch.linalg.vector_norm(difference, dtype=torch.float64)) / size
    if not bool(wrong.any()):
        return error, None
    token, slot = wrong.nonzero()[0].tolist()
    return error, (
        f"{int(wrong.sum())} of {wrong.numel()} weights are wrong, the first "
        f"weights[{token}, {slot}] = {float(got[token, slot]):.6g} instead of "
        f"{float(expected[token, slot]):.6g}"
    )


def _weights(inputs: GateInputs, logits: torch.Tensor) -> torch.Tensor:
    """fp32 [T, slots] for the ids that the kernel left, which are valid."""
    problem, ids = inputs.problem, inputs.result("ids").long()
    experts = logits[:, : problem.experts]
    scores = experts.softmax(dim=1) if problem.score == "softmax" else experts.sigmoid()
    routed = scores.gather(1, ids[:, : problem.top_k])
    if problem.renormalise:
        routed = routed / routed.sum(dim=1, keepdim=True).clamp_min(LEAST_SUM)
    shared = torch.ones(len(ids), problem.shared, device=ids.device)
    if problem.shared_gate:
        shared *= logits[:, problem.experts :].sigmoid()
    return torch.cat([routed * inputs.scaling, shared], dim=1)


def _check_permutation(inputs: GateInputs) -> str | None:
    expected = permute_reference(inputs.result("ids"), inputs.problem.all_experts)
    for name, wanted in expected._asdict().items():
        got = inputs.result(name)
        wrong = (got != wanted).flatten()
        if bool(wrong.any()):
            index = int(wrong.nonzero()[0])
            return (
                f"{int(wrong.sum())} of {wrong.numel()} {name} are wrong, the first "
                f"{name}[{index}] = {int(got.flatten()[index])} instead of "
                f"{int(wanted.flatten()[index])}"
            )
    return None
