"""TunedKernels.fused_gate on a machine without a GPU: answers, memory it is given, bad input."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import TunedKernels
from engine.kernels.gate import check_gate
from engine.kernels.routing import Routing
from engine.kernels.scratch import Scratch
from search_spaces import UserError
from search_spaces.gate_problem import GateProblem

CPU = torch.device("cpu")
GATE = GateProblem(8, 64, 2, bias=True, shared=1, shared_gate=True)
LOGITS = GateProblem(8, 0, 2, dtype="bf16")


@pytest.fixture
def kernels(tmp_path: Path) -> TunedKernels:
    return TunedKernels(tmp_path / "none.sqlite", "cpu")


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_a_permutation_leads_there_and_back(kernels: TunedKernels) -> None:
    x, router = normal(30, 64).half(), normal(9, 64).half()
    found = kernels.fused_gate(x, router, problem=GATE, bias=normal(8))
    assert found.weights is not None and found.ids.shape == found.inverse.shape == (30, 3)
    flat = found.ids.flatten()
    assert torch.equal(found.slots[found.inverse.flatten()], torch.arange(90, dtype=torch.int32))
    assert torch.equal(found.rows, found.slots // 3)
    assert torch.equal(flat[found.slots], flat.sort().values)
    assert torch.equal(found.offsets.diff(), flat.bincount(minlength=9).int())
    shared = (x.float() @ router[8].float()).sigmoid()
    torch.testing.assert_close(found.weights[:, 2], shared)


def test_memory_that_is_given_is_filled_and_its_flag_only_set(kernels: TunedKernels) -> None:
    logits = normal(4, 8).bfloat16()
    out = Routing.empty(9, LOGITS, CPU).first(4)
    assert kernels.fused_gate(logits, problem=LOGITS, out=out) is out
    assert out.flag is not None and not out.flag
    logits[2, 3] = torch.nan
    kernels.fused_gate(logits, problem=LOGITS, out=out)
    assert out.flag == 1 and 3 not in out.ids[2]
    kernels.fused_gate(normal(4, 8).bfloat16(), problem=LOGITS, out=out)
    assert out.flag == 1


def test_no_tokens_have_no_rows(kernels: TunedKernels) -> None:
    found = kernels.fused_gate(normal(0, 8).bfloat16(), problem=LOGITS)
    assert found.ids.shape == (0, 2) and not found.offsets.any()


@pytest.mark.parametrize(
    ("problem", "changes", "message"),
    [
        (GATE, {"x": normal(3, 56).half()}, "x has 56 columns: fused_gate/E8.H64"),
        (GATE, {"x": normal(3, 64)}, "x is torch.float32: must be torch.float16"),
        (GATE, {"x": normal(64, 3).half().T}, "x has strides [1, 3]: must be contiguous"),
        (GATE, {"x": [1.0]}, "x is a list: give a torch.Tensor"),
        (GATE, {"router": None}, "router is missing: fused_gate/E8.H64"),
        (GATE, {"router": normal(8, 64).half()}, "router has shape [8, 64]: fused_gate/"),
        (GATE, {"bias": None}, "bias is missing: fused_gate/E8.H64"),
        (GATE, {"bias": normal(9)}, "bias has shape [9]: fused_gate/"),
        (GATE, {"bias": normal(8).half()}, "bias is torch.float16: must be torch.float32"),
        (replace(GATE, bias=False), {}, "bias is given: fused_gate/E8.H64"),
        (LOGITS, {"x": normal(3, 8).bfloat16()}, "router is given: fused_gate/E8.top2"),
    ],
)
def test_tensors_that_do_not_fit_the_problem(
    problem: GateProblem, changes: dict[str, Any], message: str, kernels: TunedKernels
) -> None:
    given: dict[str, Any] = {"x": normal(3, 64).half(), "router": normal(9, 64).half()}
    given |= {"bias": normal(8), **changes}
    with pytest.raises(UserError, match=re.escape(message)):
        kernels.fused_gate(problem=problem, **given)


def test_more_slots_than_kernels_count() -> None:
    x = torch.empty(1 << 30, 8, dtype=torch.bfloat16, device="meta")
    with pytest.raises(UserError, match="1073741824 tokens of 2 slots: at most 1073741824 slots"):
        check_gate(LOGITS, x, None, None, x.device)
    assert check_gate(LOGITS, x[: 1 << 29], None, None, x.device)[0] == 1 << 29


def test_an_out_that_does_not_fit(kernels: TunedKernels) -> None:
    logits, out = normal(4, 8).bfloat16(), Routing.empty(4, LOGITS, CPU)
    message = "out is for 4 tokens of 2 slots among 8 experts: 3 tokens of fused_gate/"
    with pytest.raises(UserError, match=message):
        kernels.fused_gate(logits[:3], problem=LOGITS, out=out)
    with pytest.raises(UserError, match=r"rows has shape \[7\]: ids of \[4, 2\] need \[8\]"):
        kernels.fused_gate(logits, problem=LOGITS, out=replace(out, rows=out.rows[:7]))
    with pytest.raises(UserError, match=r"weights is torch\.int32: must be torch\.float32"):
        kernels.fused_gate(logits, problem=LOGITS, out=replace(out, weights=out.ids))
    with pytest.raises(UserError, match="out has no weights or no flag"):
        kernels.fused_gate(logits, problem=LOGITS, out=replace(out, flag=None))


def test_scratch_grows_twofold_and_its_counters_are_zero() -> None:
    scratch = Scratch(CPU)
    first = scratch.pointers(1000, 3)
    ctypes.memset(first[1], 1, 4)  # as a kernel might while it runs
    assert scratch.pointers(64, 2) == first
    workspace, counters = scratch.pointers(1001, 3)
    assert (workspace, counters) != first and counters == first[1]
    assert scratch.pointers(2000, 3) == (workspace, counters)
    _, grown = scratch.pointers(0, 4)
    assert grown != counters and (ctypes.c_int32 * 6).from_address(grown)[:] == [0] * 6
    ctypes.memset(first[0], 1, 1000)  # a graph that was captured before writes there still
