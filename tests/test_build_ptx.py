"""PTX per entry: self-contained, free of what it does not use, blind to batch mates."""

from __future__ import annotations

import pytest

from templates.built import Built
from templates.compiler import compile_batch
from templates.ptx import split_entries
from tests.build_variants import TARGET, chatty, scale

BATCH = [scale("lm_a", 3), chatty("lm_b", 7), chatty("lm_c", 9), scale("lm_d", 5)]


def ptx_of(results: object) -> dict[str, str]:
    assert isinstance(results, list)
    assert all(isinstance(result, Built) for result in results), results
    return {result.variant.entry: result.ptx for result in results}


def test_batch_mates_leave_no_trace() -> None:
    together = ptx_of(compile_batch(BATCH, TARGET))
    turned = ptx_of(compile_batch(BATCH[::-1], TARGET))
    assert together == turned
    for variant in BATCH:
        assert ptx_of(compile_batch([variant], TARGET))[variant.entry] == together[variant.entry]


def test_each_text_holds_one_entry_and_what_it_names() -> None:
    texts = ptx_of(compile_batch(BATCH, TARGET))
    for entry, text in texts.items():
        assert text.count(".entry") == 1 and f".visible .entry {entry}(" in text
        assert text.startswith(".version")
    assert "looked_up" not in texts["lm_a"] and "vprintf" not in texts["lm_a"]
    assert "looked_up" in texts["lm_b"] and "lm_c" not in texts["lm_b"]


# Written by hand after the PTX ISA: what a module may hold at its outer level.
MODULE = """//
// made by hand; .entry in a comment {
.version 8.0
.target sm_75
.address_size 64

.extern .func  (.param .b32 r) outside
(
  .param .b64 p
)
;
.func helper(.param .b32 a);
.global .align 4 .u32 unused = 3;
.global .align 1 .b8 $str$4[3] = {97, 59, 0};
.global .align 8 .u64 pointer = generic($str$4);
.const .align 4 .b8 matrix[2][2] = {{1, 2}, {3, 4}};
.extern .shared .align 16 .b8 smem[];
.func helper(.param .b32 a)
{
  .local .align 4 .b8 __local_depot5[8];
$L__BB5_1: // a label; with { and }
  ld.const.u8 %r1, [matrix];
  ret;
}
.visible .entry first(.param .u64 first_param_0)
.maxntid 128, 1, 1
.minnctapersm 2
{
  ld.global.u64 %rd1, [pointer];
  { // callseq 3, 0
  call.uni helper, (param0);
  } // callseq 3
  bra $L__BB6_2;
$L__BB6_2:
  ret;
}
.visible .entry second(.param .u64 second_param_0)
{
  mov.u32 %r1, smem;
  ret;
}
"""

SECOND = """.version 8.0
.target sm_75
.address_size 64

.extern .shared .align 16 .b8 smem[];

.visible .entry second(.param .u64 second_param_0)
{
  mov.u32 %r1, smem;
  ret;
}
"""


def test_hand_written_module() -> None:
    texts = split_entries(MODULE)
    assert list(texts) == ["first", "second"]
    assert texts["second"] == SECOND
    first = texts["first"]
    for kept in ("matrix[2][2] = {{1, 2}, {3, 4}};", ".minnctapersm 2", "$L__BB0_2", "$str$0"):
        assert kept in first
    for gone in ("unused", "outside", "smem", "second", "//", "depot5", "BB6", "$str$4"):
        assert gone not in first
    assert first.index("$str$0[3]") < first.index("generic($str$0)")
    assert first.index(".b32 a);") < first.index("ret;"), "declarations come first"


@pytest.mark.parametrize("text", ["", "not PTX at all", ".target sm_75\n", MODULE + "();"])
def test_refuses_what_is_no_module(text: str) -> None:
    with pytest.raises(ValueError, match="PTX"):
        split_entries(text)
