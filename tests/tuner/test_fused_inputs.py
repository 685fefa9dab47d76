"""Inputs and references of gated and gathered problems, against float64 element by element."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from search_spaces import Bucket, Problem
from search_spaces.numerics import tolerance
from search_spaces.problem import GATED
from tuner.inputs import Inputs, draw_inputs, make_inputs
from tuner.reference import full_reference, part_reference, sampled_reference
from tuner.verify import check_values

CPU = torch.device("cpu")
F32 = tolerance("f32", 64)


def drawn(epilogue: str) -> Inputs:
    problem = Problem("grouped_gemm", 4, 48, 64, 2, epilogue=epilogue, gather=True)
    return make_inputs(problem, Bucket.parse("12@zipf:1.2"), seed=3, device=CPU)


def act(epilogue: str, x: float) -> float:
    if epilogue == "swiglu":
        return x / (1 + math.exp(-x))
    if epilogue == "geglu":
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return max(x, 0.0)


def exact(inputs: Inputs) -> torch.Tensor:
    """C in float64, column j from row 16 (j / 8) + j % 8 of the weights and the eighth after it."""
    assert inputs.tokens is not None
    c = torch.empty(inputs.rows, 24, dtype=torch.float64)
    expert = torch.repeat_interleave(torch.arange(4), torch.tensor(inputs.histogram))
    for row in range(inputs.rows):
        sums = inputs.b[expert[row]].double() @ inputs.a[inputs.tokens[row]].double()
        for column in range(24):
            gate = 16 * (column // 8) + column % 8
            c[row, column] = act(inputs.problem.epilogue, float(sums[gate])) * sums[gate + 8]
    return c


def test_each_token_appears_top_k_times_and_in_order_within_an_expert() -> None:
    inputs = drawn("swiglu")
    assert inputs.tokens is not None and inputs.tokens.dtype is torch.int32
    assert (inputs.a.shape, inputs.c.shape) == ((24, 64), (48, 24))
    assert Counter(inputs.tokens.tolist()) == dict.fromkeys(range(24), 2)
    for first, last in pairwise(inputs.offsets.tolist()):
        part = inputs.tokens[first:last]
        assert torch.equal(part, part.sort().values)
    assert inputs.tokens.tolist() != sorted(inputs.tokens.tolist())
    again = drawn("swiglu").tokens
    assert again is not None and torch.equal(again, inputs.tokens)


def test_rows_that_top_k_does_not_divide_leave_the_last_token_short() -> None:
    problem = Problem("grouped_gemm", 2, 16, 64, 2, gather=True)
    inputs = draw_inputs(problem, Bucket(2.5), [4, 1], 1, CPU)
    assert inputs.tokens is not None and inputs.a.shape[0] == 3
    assert sorted(Counter(inputs.tokens.tolist()).values()) == [1, 2, 2]


@pytest.mark.parametrize("epilogue", GATED)
def test_references_are_exact(epilogue: str) -> None:
    inputs = drawn(epilogue)
    expected = exact(inputs)
    full = torch.cat([block.results() for block in full_reference(inputs)])
    torch.testing.assert_close(full.double(), expected, rtol=1e-4, atol=1e-6)
    sample = sampled_reference(inputs, count=6)
    torch.testing.assert_close(
        sample.results().double(), expected[sample.rows], rtol=1e-4, atol=1e-6
    )
    expert = max(range(4), key=lambda e: inputs.histogram[e])
    first = int(inputs.offsets[expert])
    part = part_reference(inputs, expert, range(first + 1, first + 4), range(8, 24))
    torch.testing.assert_close(
        part.results().double(), expected[first + 1 : first + 4, 8:], rtol=1e-4, atol=1e-6
    )
    inputs.c.copy_(expected.half())
    for references in ([sample], [part], full_reference(inputs)):
        assert check_values(inputs.c, references, F32).ok


@pytest.mark.parametrize("epilogue", GATED)
def test_mistakes_are_seen(epilogue: str) -> None:
    """Another token's row, a column of its neighbour, a k-step left out."""
    inputs = drawn(epilogue)
    right = exact(inputs).half()
    shifted, other = right.roll(1, dims=1), right.roll(1, dims=0)
    inputs.a[:, 8:16] = 0
    short = exact(inputs).half()
    inputs = drawn(epilogue)
    for wrong in (shifted, other, short):
        inputs.c.copy_(wrong)
        assert not check_values(inputs.c, full_reference(inputs), F32).ok


def test_what_exceeds_half_saturates() -> None:
    inputs = drawn("reglu")
    inputs.a.mul_(1000)
    results = torch.cat([block.results() for block in full_reference(inputs)])
    assert float(results.abs().max()) == 65504.0
    inputs.c.copy_(results.half())
    assert check_values(inputs.c, full_reference(inputs), F32).ok
    inputs.c[results == 65504.0] = math.inf
    assert not check_values(inputs.c, full_reference(inputs), F32).ok
