"""Problem: its key, its arithmetic and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Numerics, Problem, UserError
from search_spaces.problem import COMBINES, EPILOGUES

KEY = "grouped_gemm/E8.N28672.K4096.top2.f16.promoted"
NAME = "grouped_gemm/mixtral-8x7b/gate_up/E8.N28672.K4096.top2.f16.promoted"


def test_key_and_name_read_as_documented() -> None:
    problem = Problem("grouped_gemm", 8, 28672, 4096, 2, label="mixtral-8x7b/gate_up")
    assert problem.key == KEY
    assert str(problem) == NAME
    assert Problem.parse(KEY) == Problem.parse(NAME) == problem
    assert Problem.parse(NAME).label == "mixtral-8x7b/gate_up"


def test_label_is_no_part_of_identity() -> None:
    one = Problem("grouped_gemm", 8, 64, 64, 2, label="one")
    other = Problem("grouped_gemm", 8, 64, 64, 2, label="other")
    assert one == other
    assert hash(one) == hash(other)
    assert one != Problem("grouped_gemm", 8, 64, 64, 2, numerics=Numerics.FP32)


def test_epilogue_and_gather_stand_last_in_the_key_and_plain_leaves_it_as_it_was() -> None:
    fused = Problem("grouped_gemm", 8, 28672, 4096, 2, epilogue="swiglu", gather=True)
    assert fused.key == f"{KEY}.swiglu.gather"
    gathered = Problem("grouped_gemm", 8, 28672, 4096, 2, gather=True)
    assert gathered.key == f"{KEY}.gather"
    assert Problem.parse(f"{KEY}.plain") == Problem.parse(KEY)
    assert len({fused, gathered, Problem.parse(KEY), Problem.parse(f"{KEY}.geglu")}) == 4


def test_combine_stands_last_in_the_key() -> None:
    ordered = Problem("grouped_gemm", 8, 28672, 4096, 2, combine="ordered")
    whatever = Problem("grouped_gemm", 8, 28672, 4096, 2, combine="any")
    assert (ordered.key, whatever.key) == (f"{KEY}.combine", f"{KEY}.combine-any")
    assert len({ordered, whatever, Problem.parse(KEY)}) == 3


@given(
    op=st.sampled_from(["grouped_gemm", "int4_gemm"]),
    experts=st.integers(1, 512),
    n=st.integers(1, 4096).map(lambda i: 16 * i),
    k=st.integers(1, 4096).map(lambda i: 8 * i),
    numerics=st.sampled_from(list(Numerics)),
    group=st.none() | st.integers(1, 1024),
    epilogue=st.sampled_from(EPILOGUES),
    gather=st.booleans(),
    combine=st.sampled_from(("", *COMBINES)),
    label=st.sampled_from(["custom", "olmoe-1b-7b/down", "a b.c/E8/gate_up"]),
    data=st.data(),
)
def test_key_and_name_round_trip(
    op: str,
    experts: int,
    n: int,
    k: int,
    numerics: Numerics,
    group: int | None,
    epilogue: str,
    gather: bool,
    combine: str,
    label: str,
    data: st.DataObject,
) -> None:
    top_k = data.draw(st.integers(1, experts))
    if combine:
        epilogue, gather = "plain", False
    problem = Problem(
        op, experts, n, k, top_k, "f16", numerics, group, epilogue, label, gather, combine
    )
    assert Problem.parse(problem.key) == problem
    again = Problem.parse(str(problem))
    assert (again, again.label) == (problem, label)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0, 64, 64, 1), ["E=0", "at least 1"]),
        ((8, 0, 64, 1), ["N=0"]),
        ((8, 64, -8, 1), ["K=-8"]),
        ((8, 60, 64, 1), ["N=60", "multiple of 8", "64"]),
        ((8, 64, 4100, 1), ["K=4100", "multiple of 8", "4104"]),
        ((8, 64, 64, 0), ["top_k=0", "1..E=8"]),
        ((8, 64, 64, 9), ["top_k=9", "1..E=8"]),
    ],
)
def test_bad_sizes_are_named(values: tuple[int, int, int, int], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        Problem("grouped_gemm", *values)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "grouped_gemm",
        "grouped_gemm/E8.N28672.K4096",
        "grouped_gemm/E8.N28672.K4096.top2.f16.quick",
        "grouped_gemm/E8.N28672.K4096.top2.f16.promoted.",
        "grouped_gemm/Ex.N28672.K4096.top2.f16.promoted",
    ],
)
def test_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no problem key"):
        Problem.parse(text)


@pytest.mark.parametrize(
    ("fused", "words"),
    [
        ({"combine": "sum"}, ["unknown combine 'sum'", "ordered, any"]),
        ({"combine": "any", "gather": True}, ["combine does not go with gather"]),
        ({"combine": "ordered", "epilogue": "geglu"}, ["does not go with epilogue geglu"]),
    ],
)
def test_bad_combinations_are_named(fused: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        Problem("grouped_gemm", 8, 64, 64, 2, **fused)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("n", "epilogue", "words"),
    [
        (64, "silu", ["unknown epilogue 'silu'", "plain, swiglu, geglu, reglu"]),
        (72, "geglu", ["N=72 with epilogue geglu", "multiple of 16", "80"]),
    ],
)
def test_bad_epilogues_are_named(n: int, epilogue: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        Problem("grouped_gemm", 8, n, 64, 2, epilogue=epilogue)
    assert all(word in str(error.value) for word in words)
    with pytest.raises(UserError, match=words[0]):
        Problem.parse(f"grouped_gemm/E8.N{n}.K64.top2.f16.promoted.{epilogue}")


def test_a_gated_epilogue_halves_c_and_gathering_reads_each_token_once() -> None:
    plain = Problem("grouped_gemm", 4, 32, 64, 2)
    fused = Problem("grouped_gemm", 4, 32, 64, 2, epilogue="reglu", gather=True)
    assert (plain.columns, fused.columns) == (32, 16)
    assert (plain.rows_of_a(11), fused.rows_of_a(11)) == (11, 6)
    assert fused.flops(10) == plain.flops(10)
    # three experts' weights, five tokens, ten numbers of four bytes, ten rows of half of C
    assert fused.traffic(10, 3) == 3 * 32 * 64 * 2 + 5 * 64 * 2 + 10 * 4 + 10 * 16 * 2


def test_combining_leaves_a_row_for_each_token() -> None:
    plain = Problem("grouped_gemm", 4, 32, 64, 2)
    combining = Problem("grouped_gemm", 4, 32, 64, 2, combine="ordered")
    assert (plain.rows_of_c(10), combining.rows_of_c(10), combining.rows_of_a(10)) == (10, 5, 10)
    assert combining.flops(10) == plain.flops(10)
    # three experts' weights, ten rows, their slots and weights, five rows of C
    assert combining.traffic(10, 3) == 3 * 32 * 64 * 2 + 10 * 64 * 2 + 10 * 8 + 5 * 32 * 2


def test_flops_and_bytes_by_hand() -> None:
    problem = Problem("grouped_gemm", experts=4, n=16, k=32, top_k=2)
    assert problem.flops(rows=10) == sum(2 for _ in range(10) for _ in range(16) for _ in range(32))
    assert problem.expert_bytes == 16 * 32 * 2
    # three experts' weights, ten rows of A and of C, two bytes each
    assert problem.traffic(rows=10, active_experts=3) == 3 * 1024 + 10 * 32 * 2 + 10 * 16 * 2
