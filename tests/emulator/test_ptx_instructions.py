"""Instructions: guards, modifiers, lines, labels, blocks and branch tables."""

from __future__ import annotations

import pytest

from tests.emulator.ptx_texts import (
    FIRST_LINE,
    assembles,
    kernel_text,
    read_kernel,
    read_one,
)
from tuner.emulator.ptx import Immediate, Label, PtxError, Register, read_module


def test_parts_of_an_instruction() -> None:
    load = read_one("@!%p1  ld.global.L2::128B.v2.u32\t{%r1,\n %r2}, [%rd1];")
    assert (load.opcode, load.root) == ("ld.global.L2::128B.v2.u32", "ld")
    assert load.modifiers == ("global", "L2::128B", "v2", "u32")
    assert load.predicate == Register("%p1", "pred") and load.negated
    assert load.text == "@!%p1 ld.global.L2::128B.v2.u32 {%r1, %r2}, [%rd1]"
    assert load.line == FIRST_LINE
    assert load.has("v2") and not load.has("v4") and not load.has("ld")


@pytest.mark.parametrize("guard", ["@%p2 ", "@ %p2\n", "@%p2\t"])
def test_guards(guard: str) -> None:
    text = f"{guard}add.s32 %r1, %r1, 1;"
    instruction = read_one(text)
    assert instruction.predicate == Register("%p2", "pred") and not instruction.negated
    assert assembles(kernel_text(text))


@pytest.mark.parametrize(
    ("statement", "types", "last"),
    [
        ("cvt.rn.f16.f32 %r1, %f1;", ("f16", "f32"), "f32"),
        ("ld.global.nc.v4.f32 {%f1, %f1, %f2, %f2}, [%rd1];", ("f32",), "f32"),
        ("and.pred %p1, %p2, %p3;", ("pred",), "pred"),
        ("mul.wide.s32 %rd1, %r1, 4;", ("s32",), "s32"),
        ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {}, {}, {}, {};".replace("{}", "%r1"),
         ("f32", "f16", "f16", "f32"), "f32"),
    ],
)  # fmt: skip
def test_types(statement: str, types: tuple[str, ...], last: str) -> None:
    instruction = read_one(statement)
    assert (instruction.types, instruction.type) == (types, last)


def test_asking_for_the_type_of_what_has_none() -> None:
    barrier = read_one("bar.sync 0;")
    assert barrier.types == ()
    with pytest.raises(PtxError, match=r"PTX line 10: 'bar.sync 0': names no type"):
        _ = barrier.type


def test_lines_are_those_of_the_text_given() -> None:
    text = kernel_text(
        "// one\nadd.s32 %r1, %r1, 1; sub.s32 %r1, %r1, 1; /* two\nthree */\n"
        "L:\n\n  @%p1\n bra\n L;"
    )
    lines = text.splitlines()
    for instruction in read_module(text).entries["k"].instructions:
        first_word = instruction.text.split()[0]
        assert first_word in lines[instruction.line - 1], instruction


def test_labels_point_at_instructions() -> None:
    kernel = read_kernel("first: second:\nbra third;\nadd.s32 %r1, %r1, 1;\nthird: bra first;")
    assert dict(read_kernel("bra last; last:").labels) == {"last": 1}
    end = read_module(kernel_text("bra last;\nlast:").replace("ret;\n", "")).entries["k"]
    assert end.labels["last"] == len(end.instructions) == 1
    assert dict(kernel.labels) == {"first": 0, "second": 0, "third": 2}


BLOCKS = """
.reg .b32 a;
mov.u32 a, 1;
{ mov.u32 a, 2; .reg .b32 a, t; mov.u32 a, 3; mov.u32 t, 3;
  again: bra again; }
{ .reg .pred t; again: @t bra again; { .reg .f32 a; mov.f32 a, 0f00000000; bra outside; } }
mov.u32 a, 4;
outside:
"""


def test_blocks_have_names_of_their_own() -> None:
    """A name means the innermost declaration above; outside the block it is gone."""
    kernel = read_kernel(BLOCKS)
    a, inner = Register("a", "b32"), Register("a#2", "b32")
    innermost = Register("a#3", "f32")
    moved = [i.operands[0] for i in kernel.instructions if i.root == "mov"]
    assert moved == [a, a, inner, Register("t", "b32"), innermost, a]
    branches = [i for i in kernel.instructions if i.root == "bra"]
    names = [i.operands[0] for i in branches]
    assert names == [Label("again"), Label("again#2"), Label("outside")]
    assert branches[1].predicate == Register("t#2", "pred")
    assert [kernel.labels[name] for name in ("again", "again#2", "outside")] == [4, 5, 9]
    assert assembles(kernel_text(BLOCKS))


def test_a_block_may_shadow_what_the_module_declares() -> None:
    before = ".global .align 4 .u32 x;\n"
    body = "{ .shared .align 4 .b32 x; st.shared.u32 [x], %r1; } st.global.u32 [x], %r1;"
    kernel = read_kernel(body, before)
    assert [variable.name for variable in kernel.variables] == ["x#2"]
    named = [str(i.operands[0]) for i in kernel.instructions if i.root == "st"]
    assert "x#2" in named[0] and "x#2" not in named[1]
    assert assembles(kernel_text(body, before))


def test_branch_tables() -> None:
    body = """mov.u32 %r1, %tid.x;
table: .branchtargets
  one,
  two, one;
@%p1 brx.idx.uni %r1, table;
one: add.s32 %r1, %r1, 1;
two:"""
    kernel = read_kernel(body)
    branch = kernel.instructions[1]
    labels = (Label("one"), Label("two"), Label("one"))
    assert branch.operands == (Register("%r1", "b32"), *labels)
    assert branch.opcode == "brx.idx.uni" and branch.predicate is not None
    assert dict(kernel.labels) == {"one": 2, "two": 3}
    assert assembles(kernel_text(body))


def test_calls_keep_their_text() -> None:
    before = ".func (.param .b32 r) helper(.param .b32 a)\n{ .reg .b32 %q; L: bra L; }\n"
    body = """{ // callseq 0, 0
.param .b32 param0;
st.param.b32 [param0+0], %r1;
.param .b32 retval0;
call.uni (retval0), helper, (param0);
ld.param.b32 %r2, [retval0];
}"""
    kernel = read_kernel(body + body, before)
    calls = [i for i in kernel.instructions if i.root == "call"]
    assert [call.operands for call in calls] == [(), ()]
    assert calls[0].text == "call.uni (retval0), helper, (param0)"
    names = [(variable.name, variable.space) for variable in kernel.variables]
    assert names == [(n, "param") for n in ("param0", "retval0", "param0#2", "retval0#2")]
    assert assembles(kernel_text(body + body, before))


def test_noise_is_no_code() -> None:
    text = kernel_text(
        '.pragma "nounroll; } {";\n.loc 1 2 3, function_name $L__info, inlined_at 1 2 3\n'
        "/* add.s32 %r9; { */ // }\nadd.s32 %r1, %r1, 0x7; // 1"
    )
    text += '.file 1 "/a//b/*c.cu"\n.section .debug_str\n{\n$L__info:\n.b8 95,90,0\n}\n'
    kernel = read_module(text).entries["k"]
    assert [i.root for i in kernel.instructions] == ["add", "ret"]
    assert kernel.instructions[0].operands[2] == Immediate(7, "int")
