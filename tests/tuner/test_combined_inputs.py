"""Inputs and references of combined rows, against float64 slot by slot."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from search_spaces import Bucket, Problem
from search_spaces.numerics import tolerance
from tuner import reference as reference_module
from tuner.inputs import Inputs, make_inputs
from tuner.reference import full_reference, sampled_reference
from tuner.verify import check_values, check_writes

CPU = torch.device("cpu")
F32 = tolerance("f32", 64)
PROBLEM = Problem("grouped_gemm", 4, 48, 64, 2, combine="ordered")


def drawn(seed: int = 3) -> Inputs:
    return make_inputs(PROBLEM, Bucket.parse("12@zipf:1.2"), seed, CPU)


def exact(inputs: Inputs) -> torch.Tensor:
    """C in float64: every slot's row found by looking for it."""
    assert inputs.slots is not None and inputs.weights is not None
    c = torch.zeros(24, 48, dtype=torch.float64)
    expert = torch.repeat_interleave(torch.arange(4), torch.tensor(inputs.histogram))
    slots = inputs.slots.tolist()
    for token in range(24):
        for j in range(2):
            row = slots.index(2 * token + j)
            product = inputs.b[expert[row]].double() @ inputs.a[row].double()
            c[token] += float(inputs.weights[token, j]) * product
    return c


def test_each_slot_has_one_row_and_slots_ascend_within_an_expert() -> None:
    inputs = drawn()
    assert inputs.slots is not None and inputs.weights is not None and inputs.tokens is None
    assert (inputs.a.shape, inputs.c.shape, inputs.rows) == ((48, 64), (24, 48), 48)
    assert Counter(inputs.slots.tolist()) == dict.fromkeys(range(48), 1)
    for first, last in pairwise(inputs.offsets.tolist()):
        part = inputs.slots[first:last]
        assert torch.equal(part, part.sort().values)
    assert (inputs.weights.shape, inputs.weights.dtype) == ((24, 2), torch.float32)
    torch.testing.assert_close(inputs.weights.sum(dim=1), torch.ones(24))
    assert not torch.equal(inputs.weights[0], inputs.weights[1])


@pytest.mark.parametrize("scratch", [1 << 30, 1 << 14])
def test_references_are_exact(scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_module, "SCRATCH_BYTES", scratch)
    inputs = drawn()
    expected, blocks = exact(inputs), list(full_reference(inputs))
    assert (len(blocks) > 2) == (scratch < 1 << 30)
    assert torch.cat([block.rows for block in blocks]).tolist() == list(range(24))
    full = torch.cat([block.results() for block in blocks])
    torch.testing.assert_close(full.double(), expected, rtol=1e-4, atol=1e-6)
    sample = sampled_reference(inputs, count=3)
    assert 3 <= len(sample.rows) < 14
    torch.testing.assert_close(
        sample.results().double(), expected[sample.rows], rtol=1e-4, atol=1e-6
    )
    inputs.c.copy_(expected.half())
    assert check_values(inputs.c, blocks, F32).ok


def test_mistakes_are_seen() -> None:
    """A neighbour's token or column, a weight swapped, a slot or a k-step left out."""
    inputs = drawn()
    right, weights = exact(inputs).half(), inputs.weights
    assert weights is not None
    wrong = {"token": right.roll(1, dims=0), "column": right.roll(1, dims=1)}
    kept = weights.clone()
    weights.copy_(kept.flip(1))
    wrong["weight"] = exact(inputs).half()
    weights.copy_(kept)
    weights[:, 1] = 0
    wrong["slot"] = exact(inputs).half()
    weights.copy_(kept)
    inputs.a[:, 8:16] = 0
    wrong["k-step"] = exact(inputs).half()
    fresh = drawn()
    for name, c in wrong.items():
        fresh.c.copy_(c)
        assert not check_values(fresh.c, full_reference(fresh), F32).ok, name


def test_holes_writes_beside_c_and_overflow_are_seen() -> None:
    inputs = drawn()
    inputs.poison()
    inputs.c.copy_(exact(inputs).half())
    assert check_writes(inputs) is None
    inputs.guarded_c[-256, 3] = 0
    assert "beyond C" in str(check_writes(inputs))
    inputs.poison()
    inputs.c[:23].zero_()
    assert check_writes(inputs) == "C[23, 0] was never written"
    inputs.a.mul_(1000)
    inputs.b.mul_(300)
    results = torch.cat([block.results() for block in full_reference(inputs)])
    assert float(results.abs().max()) == 65504.0
    inputs.c.copy_(results.half())
    assert check_values(inputs.c, full_reference(inputs), F32).ok
    inputs.c[results == 65504.0] = math.inf
    assert not check_values(inputs.c, full_reference(inputs), F32).ok
