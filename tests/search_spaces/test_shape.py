"""Shapes typed on a command line: read right, or refused in one line that names the fault."""

from __future__ import annotations

import pytest

from search_spaces import Numerics, UserError, parse_shape


def test_shape_is_read_in_any_order_and_spacing() -> None:
    problem = parse_shape("E=8,N=28672,K=4096,top_k=2")
    assert problem.key == "grouped_gemm/E8.N28672.K4096.top2.f16.promoted"
    assert parse_shape(" top_k=2 , K = 4096, E=8,N=28672 ") == problem
    assert problem.label == "custom"


def test_group_and_numerics() -> None:
    problem = parse_shape(
        "E=8,N=64,K=256,top_k=2,group=128", op="int4_gemm", numerics=Numerics.FP32
    )
    assert problem.key == "int4_gemm/E8.N64.K256.top2.f16.fp32.g128"


def test_a_group_that_does_not_divide_k() -> None:
    with pytest.raises(UserError, match="group=48 does not divide K=64"):
        parse_shape("E=8,N=64,K=64,top_k=2,group=48", op="int4_gemm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty shape", "E=8"]),
        ("  ", ["empty shape"]),
        (",", ["no KEY=NUMBER"]),
        ("8,28672,4096,2", ["'8'", "no KEY=NUMBER"]),
        ("E=8,N=64,K=64,top_k=2,", ["''", "no KEY=NUMBER"]),
        ("E=8,N=64,K=64", ["lacks top_k"]),
        ("E=8", ["lacks N, K, top_k"]),
        ("E=8,N=64,K=64,top_k=2,H=1", ["unknown key 'H'", "group"]),
        ("e=8,N=64,K=64,top_k=2", ["unknown key 'e'"]),
        ("E=8,E=8,N=64,K=64,top_k=2", ["E is given twice"]),
        ("E=,N=64,K=64,top_k=2", ["E= must be a whole number"]),
        ("E=8.0,N=64,K=64,top_k=2", ["E=8.0", "whole number"]),
        ("E=-8,N=64,K=64,top_k=2", ["E=-8", "whole number"]),
        ("E=0,N=64,K=64,top_k=2", ["E=0"]),
        ("E=8,N=0x40,K=64,top_k=2", ["N=0x40"]),
        ("E=8,N=64,K=99999999,top_k=2", ["K=99999999", "1048576"]),
        ("E=8,N=" + "9" * 5000 + ",K=64,top_k=2", ["N=999"]),
        ("E=8,N=60,K=64,top_k=2", ["N=60", "multiple of 8"]),
        ("E=8,N=64,K=63,top_k=2", ["K=63", "multiple of 8"]),
        ("E=8,N=64,K=64,top_k=9", ["top_k=9", "E=8"]),
        ("E=8,N=64,K=64,top_k=2,group=32", ["grouped_gemm", "group=32", "scales"]),
    ],
)
def test_malformed_shapes_are_refused(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse_shape(text)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)
