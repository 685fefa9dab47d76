"""Inputs, reference and verdicts on CPU tensors, against float64 and against planted mistakes."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import pytest
import torch

from search_spaces import Bucket, Problem
from search_spaces.numerics import Tolerance, tolerance
from tuner import reference as reference_module
from tuner.inputs import GUARD_ROWS, POISON, Inputs, make_inputs
from tuner.reference import Reference, full_reference, part_reference, sampled_reference
from tuner.verify import check_values, check_writes

PROBLEM = Problem("grouped_gemm", experts=4, n=72, k=64, top_k=2)
CPU = torch.device("cpu")
F32 = tolerance("f32", PROBLEM.k)


@pytest.fixture
def inputs() -> Inputs:
    made = make_inputs(PROBLEM, Bucket.parse("12@zipf:1.2"), seed=3, device=CPU)
    made.poison()
    return made


def exact(inputs: Inputs) -> torch.Tensor:
    """C in float64, row by row with each row's expert looked up on its own."""
    result = torch.empty(inputs.rows, inputs.problem.n, dtype=torch.float64)
    for row in range(inputs.rows):
        expert = max(e for e in range(4) if int(inputs.offsets[e]) <= row)
        result[row] = inputs.b[expert].double() @ inputs.a[row].double()
    return result


def right(inputs: Inputs) -> None:
    inputs.c.copy_(exact(inputs).half())


def test_inputs_follow_the_bucket_and_the_seed(inputs: Inputs) -> None:
    again = make_inputs(PROBLEM, inputs.bucket, 3, CPU)
    other = make_inputs(PROBLEM, inputs.bucket, 4, CPU)
    assert torch.equal(inputs.a, again.a)
    assert torch.equal(inputs.b, again.b)
    assert not torch.equal(inputs.a, other.a)
    assert inputs.offsets.tolist() == [0, *accumulate(inputs.bucket.histogram(PROBLEM, 3))]
    assert inputs.offsets.dtype == torch.int32
    assert inputs.rows == 48 == inputs.c.shape[0]
    assert abs(float(inputs.a.float().std()) - 1) < 0.1
    assert abs(float(inputs.b.float().std()) * math.sqrt(PROBLEM.k) - 1) < 0.1
    assert inputs.active_experts == 4


def test_one_token_reaches_top_k_experts() -> None:
    made = make_inputs(PROBLEM, Bucket.parse("0.5"), 1, CPU)
    assert made.rows == 2 == made.active_experts


@pytest.mark.parametrize("scratch", [1 << 30, 20_000])
def test_full_reference_is_exact(
    inputs: Inputs, scratch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little scratch memory it comes in many blocks, and says the same."""
    monkeypatch.setattr(reference_module, "SCRATCH_BYTES", scratch)
    blocks = list(full_reference(inputs))
    if scratch < 1 << 30:
        assert len(blocks) > 4
    assert torch.cat([block.rows for block in blocks]).tolist() == list(range(inputs.rows))
    values = torch.cat([block.results() for block in blocks])
    assert torch.allclose(values.double(), exact(inputs), rtol=1e-5, atol=1e-6)
    expert = torch.repeat_interleave(torch.arange(4), torch.tensor(inputs.histogram))
    square = inputs.a.double()[:, None, :] ** 2 * inputs.b.double()[expert] ** 2
    scale = torch.cat([block.allowed(Tolerance(0, 1, 0)) for block in blocks])
    assert torch.allclose(scale.double(), square.sum(-1).sqrt(), rtol=1e-5)


def test_sampled_rows_hold_every_border_and_match_the_full_reference(inputs: Inputs) -> None:
    sample = sampled_reference(inputs, count=6)
    ends = inputs.offsets.tolist()
    borders = {row for a, b in pairwise(ends) if a < b for row in (a, b - 1)}
    rows = sample.rows.tolist()
    assert borders <= set(rows)
    assert rows == sorted(set(rows))
    assert len(rows) <= 6 + len(borders)
    assert torch.allclose(sample.results().double(), exact(inputs)[sample.rows], atol=1e-5)
    assert torch.equal(sampled_reference(inputs, count=6).rows, sample.rows)


def test_a_right_result_passes_with_its_rounding_as_error(inputs: Inputs) -> None:
    right(inputs)
    assert check_writes(inputs) is None
    for references in ([sampled_reference(inputs)], full_reference(inputs)):
        verdict = check_values(inputs.c, references, F32)
        assert verdict.ok
        assert 5e-5 < verdict.rel_error < 2**-11


def test_relative_error_is_frobenius(inputs: Inputs) -> None:
    right(inputs)
    want = exact(inputs)
    by_hand = float((inputs.c.double() - want).norm() / want.norm())
    got = check_values(inputs.c, full_reference(inputs), F32).rel_error
    assert got == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("position", [(0, 0), (47, 71), (20, 8)])
def test_an_unwritten_element_is_named(inputs: Inputs, position: tuple[int, int]) -> None:
    right(inputs)
    inputs.c.view(torch.int16)[position] = POISON
    assert check_writes(inputs) == f"C[{position[0]}, {position[1]}] was never written"


@pytest.mark.parametrize("row", [-1, 48])
def test_a_write_outside_c_is_named(inputs: Inputs, row: int) -> None:
    right(inputs)
    inputs.guarded_c[GUARD_ROWS + row, 5] = 0.0
    where = "before C" if row < 0 else "beyond C"
    assert where in str(check_writes(inputs))


def test_a_computed_nan_is_wrong_but_not_unwritten(inputs: Inputs) -> None:
    right(inputs)
    inputs.c[7, 9] = math.nan
    assert check_writes(inputs) is None
    verdict = check_values(inputs.c, full_reference(inputs), F32)
    assert not verdict.ok
    assert verdict.rel_error == math.inf
    assert "C[7, 9] = nan" in str(verdict.reason)


def test_the_worst_element_is_described(inputs: Inputs) -> None:
    right(inputs)
    inputs.c[30, 3] += 0.5
    inputs.c[30, 4] += 2
    verdict = check_values(inputs.c, full_reference(inputs), F32)
    assert str(verdict.reason).startswith("2 of ")
    assert "C[30, 4]" in str(verdict.reason)


@pytest.mark.parametrize("acc", ["f32", "f16p4"])
def test_a_missing_k_step_or_a_wrong_expert_is_seen(acc: str) -> None:
    problem = Problem("grouped_gemm", experts=2, n=64, k=1024, top_k=2)
    made = make_inputs(problem, Bucket.parse("8"), 5, CPU)
    bound = tolerance(acc, problem.k)
    for missing in range(0, problem.k, 128):
        a = made.a.float()
        a[:, missing : missing + 8] = 0
        for expert in (0, 1):
            rows = slice(8 * expert, 8 * expert + 8)
            made.c[rows] = (a[rows] @ made.b[expert].float().T).half()
        assert not check_values(made.c, full_reference(made), bound).ok
    made.c.copy_(made.a.float() @ made.b[0].float().T)
    assert not check_values(made.c, full_reference(made), bound).ok


def test_an_overflow_is_wrong() -> None:
    reference = Reference(torch.tensor([0]), torch.tensor([[1.0, 2.0]]), torch.ones(1, 2))
    verdict = check_values(torch.tensor([[1.0, math.inf]]).half(), [reference], F32)
    assert not verdict.ok
    assert verdict.rel_error == math.inf


def test_a_part_of_c_is_judged_by_itself(inputs: Inputs) -> None:
    """Rows of one expert in some columns; a mistake is told by its place in all of C."""
    expert = max(range(4), key=lambda e: inputs.histogram[e])
    first = int(inputs.offsets[expert])
    part = part_reference(inputs, expert, range(first + 1, first + 4), range(24, 40))
    torch.testing.assert_close(
        part.values.double(), exact(inputs)[first + 1 : first + 4, 24:40], rtol=1e-5, atol=1e-6
    )
    inputs.c[first + 1 : first + 4, 24:40] = part.values.half()
    assert check_values(inputs.c, [part], F32).ok  # the poison around it is none of its business
    inputs.c[first + 2, 31] += 1
    reason = check_values(inputs.c, [part], F32).reason
    assert reason is not None
    assert f"1 of 48 elements are wrong, the worst C[{first + 2}, 31] =" in reason
