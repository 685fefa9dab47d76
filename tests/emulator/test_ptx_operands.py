"""Operands: every form, checked against what the PTX ISA says it means."""

from __future__ import annotations

import struct

import pytest

from tests.emulator.ptx_texts import assembles, kernel_text, read_kernel, read_one
from tuner.emulator.ptx import (
    Address,
    Immediate,
    Label,
    Negated,
    Operand,
    Pair,
    PtxError,
    Register,
    Sink,
    Special,
    Symbol,
    Vector,
)

R1, R2 = Register("%r1", "b32"), Register("%r2", "b32")
RD1, P1 = Register("%rd1", "b64"), Register("%p1", "pred")
GLOBAL = ".global .align 4 .b32 data[8];\n"


def double(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


INTEGERS = {
    "0": 0,
    "5U": 5,
    "-16": -16,
    "+3": 3,
    "0x10": 16,
    "-0X1f": -31,
    "0b101": 5,
    "017": 15,
    "4294967295": 4294967295,
    "0xFFFFFFFFFFFFFFFF": 2**64 - 1,
    "-9223372036854775808": -(2**63),
}
FLOATS = {
    "0f3F800000": Immediate(0x3F800000, "f32"),
    "0FfF800000": Immediate(0xFF800000, "f32"),
    "0d3FF0000000000000": Immediate(0x3FF0000000000000, "f64"),
    "1.5": Immediate(double(1.5), "f64"),
    "-.25": Immediate(double(-0.25), "f64"),
    "2.": Immediate(double(2.0), "f64"),
    "1e3": Immediate(double(1000.0), "f64"),
    "-1.0E-3": Immediate(double(-0.001), "f64"),
}


@pytest.mark.parametrize("text", INTEGERS)
def test_integer_constants(text: str) -> None:
    statement = f"mov.u64 %rd1, {text};"
    assert read_one(statement).operands[1] == Immediate(INTEGERS[text], "int")
    assert assembles(kernel_text(statement))


@pytest.mark.parametrize("text", FLOATS)
def test_float_constants(text: str) -> None:
    statement = f"mov.f32 %f1, {text};"
    assert read_one(statement).operands[1] == FLOATS[text]


ADDRESSES: dict[str, Operand] = {
    "[%rd1]": Address(RD1, 0),
    "[%rd1+16]": Address(RD1, 16),
    "[%rd1+-16]": Address(RD1, -16),
    "[%rd1-16]": Address(RD1, -16),
    "[%rd1--16]": Address(RD1, 16),
    "[ %rd1 + 0x10 ]": Address(RD1, 16),
    "[%rd1+4+8]": Address(RD1, 12),
    "[data]": Address(Symbol("data", 0), 0),
    "[data+4]": Address(Symbol("data", 0), 4),
    "[64]": Address(None, 64),
    "[out]": Address(Symbol("out", 0), 0),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses(text: str) -> None:
    assert read_one(f"ld.global.u32 %r1, {text};", GLOBAL).operands == (R1, ADDRESSES[text])


PLAIN: dict[str, tuple[Operand, ...]] = {
    "mov.u32 %r1, %tid.x;": (R1, Special("%tid.x")),
    "mov.u32 %r1, %lanemask_lt;": (R1, Special("%lanemask_lt")),
    "mov.u64 %rd1, %clock64;": (RD1, Special("%clock64")),
    "mov.u32 %r1, WARP_SZ;": (R1, Special("WARP_SZ")),
    "mov.u64 %rd1, data;": (RD1, Symbol("data", 0)),
    "mov.u64 %rd1, data+8;": (RD1, Symbol("data", 8)),
    "mov.u64 %rd1, k;": (RD1, Symbol("k", 0)),
    "mov.b64 {%r1, %r2}, %rd1;": (Vector((R1, R2)), RD1),
    "mov.b64 {_, %r2}, %rd1;": (Vector((Sink(), R2)), RD1),
    "mov.b64 %rd1, {%r1,7};": (RD1, Vector((R1, Immediate(7, "int")))),
    "shfl.sync.idx.b32 %r1|%p1, %r2, 0, 31, -1;": (
        Pair(R1, P1),
        R2,
        Immediate(0, "int"),
        Immediate(31, "int"),
        Immediate(-1, "int"),
    ),
    "setp.eq.s32 %p1 | _, %r1, %r2;": (Pair(P1, Sink()), R1, R2),
    "selp.b32 %r1, 1, 2, !%p1;": (R1, Immediate(1, "int"), Immediate(2, "int"), Negated(P1)),
    "bra end; end:": (Label("end"),),
    "bar.warp.sync -1;": (Immediate(-1, "int"),),
    "ret;": (),
}


@pytest.mark.parametrize("statement", PLAIN)
def test_other_operands(statement: str) -> None:
    assert read_one(statement, GLOBAL).operands == PLAIN[statement]
    assert assembles(kernel_text(statement, GLOBAL))


def test_no_blank_between_opcode_and_vector() -> None:
    tight = read_one("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32{%f1,%f1,%f2,%f2},"
                     "{%r1,%r2},{%r3},{%f1,%f1,%f2,%f2};")  # fmt: skip
    assert [type(operand) for operand in tight.operands] == [Vector] * 4
    assert tight.operands[1] == Vector((R1, R2))


# What ptxas refuses as well.
WRONG = {
    "add.s32 %r1, %r2, %r9;": "'%r9' is not declared",
    "add.s32 %r1, %r2, nothing;": "'nothing' is not declared",
    "mov.u32 %r1, %TID.x;": "'%TID.x' is no operand",
    "mov.u32 %r1, %tid.q;": "'%tid.q' is no operand",
    "add.s32 %r1 %r2, %r3;": "'%r1 %r2': a ',' or ';' is missing",
    "add.s32 %r1, %r2, %r3,;": "no operand",
    "add.s32 %r1,, %r3;": "no operand",
    "mov.u32 %r1, 99999999999999999999;": "at most 64 bits",
    "mov.u32 %r1, 0x;": "at most 64 bits",
    "mov.u32 %r1, 08;": "at most 64 bits",
    "mov.f32 %f1, 0f3F80;": "at most 64 bits",
    "mov.f32 %f1, -0f3F800000;": "at most 64 bits",
    "ld.global.u32 %r1, [%rd9];": "'%rd9' is not declared",
    "ld.global.u32 %r1, [%rd1+%r1];": "offset",
    "ld.global.u32 %r1, [];": "an address is",
    "ld.global.u32 %r1, [%rd1;": "no operand",
    "mov.b64 %rd1, {%r1,};": "a vector holds",
    "mov.b64 %rd1, {};": "a vector holds",
    "setp.eq.s32 %p1|, %r1, %r2;": "beside a '|'",
    "setp.eq.s32 %p1|3, %r1, %r2;": "beside a '|'",
    "selp.b32 %r1, 1, 2, !%p9;": "'%p9' is not declared",
    "selp.b32 %r1, 1, 2, !%r1;": "'%r1' is no predicate",
    "ld.global.u32 %r1, [here]; here:": "is a label",
}
# Beyond what the reader promises: it says so instead of guessing.
REFUSED = {
    "mov.u32 %r1, 1+2;": "not as a sum",
    "ld.global.u32 %r1, [%rd1+(2*4)];": "an address is",
    "ld.global.u32 %r1, data[1];": "no operand",
}


@pytest.mark.parametrize("statement", [*WRONG, *REFUSED])
def test_wrong_operands(statement: str) -> None:
    with pytest.raises(PtxError) as caught:
        read_kernel(f"\n\n{statement}", "")
    assert caught.value.line == 12
    assert (WRONG | REFUSED)[statement] in str(caught.value)


@pytest.mark.parametrize("statement", WRONG)
def test_the_assembler_agrees_that_it_is_wrong(statement: str) -> None:
    assert not assembles(kernel_text(statement))
