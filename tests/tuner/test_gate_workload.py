"""GateWorkload: a right gate passes, whatever its sums' order; each wrong one is told by name."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search_spaces import Bucket, Problem, UserError
from search_spaces.gate_problem import GateProblem
from tests.gate_oracle import route_all
from tests.permutation_oracle import sorted_slots
from tuner.gate_inputs import GUARD, POISON, GateInputs, draw_gate_inputs
from tuner.gate_verdict import check_routing, reference_of
from tuner.gate_workload import GateWorkload
from tuner.gemm_workload import GemmWorkload
from tuner.job import Job, Setting
from tuner.verify import Verdict
from tuner.workloads import make_workload

CPU = torch.device("cpu")
JOB = Job(None, "", Path(), 0, 0)  # what is launched here is no kernel
MIXTRAL = "fused_gate/E8.H64.top2.f16.softmax.renorm"
KEYS = (
    MIXTRAL,
    "fused_gate/E60.H72.top4.bf16.softmax.shared4gated",
    "fused_gate/E64.top6.f16.softmax",
    "fused_gate/E64.top6.f32.softmax.g8of3max",
    "fused_gate/E32.H64.top4.f16.sigmoid.bias.g8of4top2.renorm.shared1",
    "fused_gate/E1.H8.top1.f16.sigmoid",
)


class BruteForce:
    """A gate in Python, its logits summed in fp64; ``spoil`` does something to the results."""

    def __init__(
        self,
        inputs: GateInputs,
        spoil: Callable[[GateInputs], object] = lambda inputs: None,
        counters: bool = True,
    ) -> None:
        self.inputs, self.spoil, self.counters = inputs, spoil, counters

    def __call__(self) -> None:
        inputs = self.inputs
        logits = inputs.x.double()
        if inputs.router is not None:
            logits = logits @ inputs.router.double().T
        ids, weights = route_all(inputs.problem, logits, inputs.bias, inputs.scaling)
        inputs.result("ids").copy_(ids)
        inputs.result("weights").copy_(weights)
        permute(inputs)
        self.spoil(inputs)

    def counters_are_zero(self) -> bool:
        return self.counters


def permute(inputs: GateInputs) -> None:
    """The sorted rows of the ids that are there."""
    listed, problem = inputs.result("ids").flatten().tolist(), inputs.problem
    found = sorted_slots(listed, problem.all_experts, problem.slots)
    for name, values in vars(found).items():
        inputs.result(name).view(-1).copy_(torch.tensor(values))


def workload(key: str, tokens: int = 40) -> GateWorkload:
    problem = GateProblem.parse(key)
    bucket = Bucket(tokens * problem.top_k / problem.experts)
    made = make_workload(Setting(problem, bucket, random.randrange(1 << 31)), CPU)
    assert isinstance(made, GateWorkload) and made.inputs.tokens == tokens
    return made


def verdict_of(made: GateWorkload, spoil: Callable[[GateInputs], object]) -> Verdict:
    return made.check(JOB, BruteForce(made.inputs, spoil), every_row=True)


@pytest.mark.parametrize("key", KEYS)
def test_a_right_gate_passes(key: str) -> None:
    made = workload(key)
    verdict = made.check(JOB, BruteForce(made.inputs), every_row=False)
    assert verdict.ok, verdict.reason
    assert verdict.rel_error < 1e-5


def swap_experts(inputs: GateInputs) -> None:
    """Of every token, expert and weight of the first two slots change places."""
    for name in ("ids", "weights"):
        result = inputs.result(name)
        result[:, :2] = result[:, :2].flip(1).clone()
    permute(inputs)


def set_to(name: str, value: float, index: int = -1) -> Callable[[GateInputs], object]:
    return lambda inputs: inputs.result(name).view(-1)[index : index + 1 or None].fill_(value)


def poisoned(name: str) -> Callable[[GateInputs], object]:
    return lambda inputs: inputs.guarded[name][GUARD : GUARD + 1].fill_(POISON)


def beyond(name: str) -> Callable[[GateInputs], object]:
    return lambda inputs: inputs.guarded[name][-GUARD].fill_(0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (swap_experts, r"the experts of \d+ of 40 tokens are wrong, the first ids\["),
        (set_to("ids", 8), r"the experts of 1 of 40 tokens are wrong, the first ids\[39\]"),
        (set_to("ids", -1), r"the experts of 1 of 40 tokens are wrong"),
        (lambda i: i.result("ids")[3].fill_(5), r"ids\[3\] = \[5, 5\] instead of"),
        (lambda i: i.result("weights").mul_(1.001), r"80 of 80 weights are wrong, the first"),
        (set_to("weights", float("nan")), r"1 of 80 weights are wrong, the first weights\[39, 1\]"),
        (set_to("offsets", 0), r"1 of 9 offsets are wrong, the first offsets\[8\] = 0 instead"),
        (set_to("rows", 40), r"1 of 80 rows are wrong, the first rows\[79\] = 40 instead of"),
        (set_to("slots", 0), r"1 of 80 slots are wrong"),
        (set_to("inverse", -1), r"1 of 80 inverse are wrong"),
        (set_to("flag", 1), "the flag tells of a NaN, and no logit is one"),
        *((poisoned(name), rf"{name}\[0\] was never written") for name in ("ids", "rows")),
        *((beyond(name), f"memory beyond {name} was written") for name in ("weights", "flag")),
    ],
)
def test_a_wrong_gate_is_told(spoil: Callable[[GateInputs], object], reason: str) -> None:
    verdict = verdict_of(workload(MIXTRAL), spoil)
    assert verdict.reason is not None
    assert re.search(reason, verdict.reason), verdict.reason


def test_counters_that_were_left_are_told() -> None:
    made = workload(MIXTRAL)
    verdict = made.check(JOB, BruteForce(made.inputs, counters=False), every_row=True)
    assert verdict.reason == "counters are not zero after the launch"


def test_near_equals_may_change_places_and_others_may_not() -> None:
    """Two experts with all but the same router row: which is first, rounding decides."""
    inputs = draw_gate_inputs(GateProblem.parse(MIXTRAL), 200, 7, CPU)
    assert inputs.router is not None
    inputs.router[1] = inputs.router[0]
    inputs.router[1, 0] *= 1 + 2.0**-10  # one step of fp16
    inputs.x[:, 0] *= 2.0**-9
    reference = reference_of(inputs)
    ids = reference.ids.sort(dim=1).values
    twins = (ids == torch.tensor([0, 1])).all(dim=1)
    assert 0 < int(twins.sum()) < 200
    assert not bool(reference.sure[twins].any())
    assert float(reference.sure[(ids > 1).all(dim=1)].float().mean()) > 0.9

    def swap(chosen: torch.Tensor) -> Callable[[GateInputs], None]:
        def spoil(inputs: GateInputs) -> None:
            for name in ("ids", "weights"):
                result = inputs.result(name)
                result[chosen] = result[chosen].flip(1)
            permute(inputs)

        return spoil

    for chosen, right in ((twins, True), (reference.sure, False)):
        inputs.poison()
        BruteForce(inputs, swap(chosen))()
        assert check_routing(inputs, reference).ok is right


def test_given_logits_that_are_equal_have_one_order() -> None:
    made = workload("fused_gate/E64.top6.f16.softmax")
    made.inputs.x.mul_(2).round_()  # ties everywhere
    reference = reference_of(made.inputs)
    assert bool(reference.sure.all())
    made.inputs.poison()
    BruteForce(made.inputs)()
    assert check_routing(made.inputs, reference).ok


def test_a_seed_means_the_same_operands() -> None:
    problem = GateProblem.parse(KEYS[4])
    first, again, other = (draw_gate_inputs(problem, 9, seed, CPU) for seed in (5, 5, 6))
    for field in dataclasses.fields(GateInputs):
        value = getattr(first, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(again, field.name))
            assert not torch.equal(value, getattr(other, field.name))
    assert first.scaling == again.scaling != other.scaling


def test_each_op_has_its_workload() -> None:
    gemm = Problem("grouped_gemm", experts=2, n=16, k=16, top_k=1)
    assert isinstance(make_workload(Setting(gemm, Bucket(2.0), 1), CPU), GemmWorkload)


def test_too_many_tokens_for_the_emulator_are_told() -> None:
    from tuner.gate_task import GateTask

    with pytest.raises(UserError, match=r"at most 0\.3 GB are emulated: choose a smaller --bucket"):
        GateTask(GateProblem.parse(MIXTRAL), 1 << 22, 1)
