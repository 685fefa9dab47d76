"""Parameters, variables, initial values and registers."""

from __future__ import annotations

import struct

import pytest

from tests.emulator.ptx_texts import HEADER, assembles, kernel_text, read_kernel
from tuner.emulator.ptx import Entry, Param, PtxError, Register, Relocation, Variable, read_module


def entry(header: str) -> Entry:
    [kernel] = read_module(f"{HEADER}{header}\n{{\nret;\n}}\n").entries.values()
    return kernel


def declared(text: str) -> Variable:
    """The last variable of a module."""
    return read_module(HEADER + text).variables[-1]


def test_parameters() -> None:
    kernel = entry(
        """.visible .entry k(
  .param .u64 a,
  .param .align 8 .b8 structure[32], // by value
  .param .u64 .ptr .global .align 16 p,
  .param .u64 .ptr .align 1 q,
  .param .f32 f, .param .u8 flag
)"""
    )
    assert kernel.params == (
        Param("a", "u64", 8, 8, None),
        Param("structure", "b8", 8, 32, 32),
        Param("p", "u64", 8, 8, None),
        Param("q", "u64", 8, 8, None),
        Param("f", "f32", 4, 4, None),
        Param("flag", "u8", 1, 1, None),
    )


@pytest.mark.parametrize("header", [".entry k", ".entry k()", ".visible .entry k(\n)"])
def test_no_parameters(header: str) -> None:
    assert entry(header).params == ()


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("", {}),
        (".maxntid 256, 1, 1", {"maxntid": (256, 1, 1)}),
        (".maxntid 256\n.minnctapersm 2", {"maxntid": (256, 1, 1), "minnctapersm": (2,)}),
        (".reqntid 8,4", {"reqntid": (8, 4, 1)}),
        ('.pragma "nounroll";\n.maxnreg 64', {"maxnreg": (64,)}),
    ],
)
def test_directives(text: str, directives: dict[str, tuple[int, ...]]) -> None:
    header = f".visible .entry k() {text}"
    assert entry(header).directives == directives
    assert assembles(f"{HEADER}{header}\n{{\nret;\n}}\n")


def variable(
    name: str, space: str, kind: str, align: int, size: int, external: bool = False
) -> Variable:
    return Variable(name, space, kind, align, size, external, None)


UNINITIALISED = {
    ".extern .shared .align 16 .b8 s[];": variable("s", "shared", "b8", 16, 0, True),
    ".shared .align 4 .b8 s[1024];": variable("s", "shared", "b8", 4, 1024),
    ".shared .f32 s[2][3][4];": variable("s", "shared", "f32", 4, 96),
    ".visible .global .u32 g;": variable("g", "global", "u32", 4, 4),
    ".extern .global .u64 g;": variable("g", "global", "u64", 8, 8, True),
    ".const .align 2 .b8 c[0x10];": variable("c", "const", "b8", 2, 16),
    ".global .v4 .f32 g;": variable("g", "global", "f32", 16, 16),
    ".weak .global .align 8 .v2 .u16 g[3];": variable("g", "global", "u16", 8, 12),
    ".global .attribute(.managed) .align 4 .b32 m;": variable("m", "global", "b32", 4, 4),
}


@pytest.mark.parametrize("text", UNINITIALISED)
def test_variables_without_a_value(text: str) -> None:
    assert declared(text) == UNINITIALISED[text]
    assert assembles(kernel_text("", text.replace(".extern .global", ".global") + "\n"))


def test_one_declaration_may_name_several() -> None:
    module = read_module(HEADER + ".global .align 8 .u32 a, b[2] = {1, 2}, c = 3;")
    assert [(v.name, v.align, v.size) for v in module.variables] == [
        ("a", 8, 4),
        ("b", 8, 8),
        ("c", 8, 4),
    ]
    assert [v.initial for v in module.variables] == [
        None,
        b"\1\0\0\0\2\0\0\0",
        b"\3\0\0\0",
    ]


INITIALISED = {
    ".global .u32 g = 3;": struct.pack("<I", 3),
    ".global .s16 g = -2;": struct.pack("<h", -2),
    ".global .b8 g[4] = {1, 0xFF, -1};": b"\x01\xff\xff\x00",
    ".global .b8 g[] = {97, 59, 0};": b"a;\0",
    ".const .b8 g[2][2] = {{1, 2}, {3, 4}};": b"\1\2\3\4",
    ".const .b8 g[2][3] = {{1}, {2, 3}};": b"\1\0\0\2\3\0",
    ".const .b8 g[][2] = {{1}, {2}};": b"\1\0\2\0",
    ".global .f32 g[3] = {1.5, 0f3F800000, 0.1};": struct.pack("<3f", 1.5, 1.0, 0.1),
    ".global .f64 g = 0d4004000000000000;": struct.pack("<d", 2.5),
    ".global .f64 g = 0.1;": struct.pack("<d", 0.1),
    ".global .u64 g = 0x123456789abcdef0;": struct.pack("<Q", 0x123456789ABCDEF0),
    ".global .b16 g = 0x3c00;": struct.pack("<e", 1.0),
    ".global .v2 .f32 g[2] = {{1.0, 2.0}, {3.0, 4.0}};": struct.pack("<4f", 1, 2, 3, 4),
}


@pytest.mark.parametrize("text", INITIALISED)
def test_initial_values(text: str) -> None:
    read = declared(text)
    assert (read.initial, read.size) == (INITIALISED[text], len(INITIALISED[text]))
    assert read.relocations == ()
    assert assembles(kernel_text("", text + "\n"))


def test_addresses_as_initial_values() -> None:
    text = (
        ".global .align 1 .b8 $str[4];\n"
        ".global .u64 p[4] = {generic($str), 5, $str+2, generic( $str ) + 3};\n"
    )
    pointers = declared(text)
    assert pointers.initial == struct.pack("<4Q", 0, 5, 0, 0)
    assert pointers.relocations == (
        Relocation(0, 8, "$str", 0, True),
        Relocation(16, 8, "$str", 2, False),
        Relocation(24, 8, "$str", 3, True),
    )
    assert assembles(kernel_text("", text))


def test_bytes_of_addresses_as_initial_values() -> None:
    text = (
        ".global .align 1 .b8 s[4];\n.global .align 1 .u8 p[4] = "
        "{7, 0XFF(generic(s)), 0xFF00(generic(s)+2), 0xFF00000000000000(s)};\n"
    )
    packed = declared(text)
    assert packed.initial == b"\7\0\0\0"
    assert packed.relocations == (
        Relocation(1, 1, "s", 0, True, 0),
        Relocation(2, 1, "s", 2, True, 1),
        Relocation(3, 1, "s", 0, False, 7),
    )


def test_registers() -> None:
    body = ".reg .b32 %x<3>, y;\n.reg .f16x2 h<0x2>;\nmov.b32 %x2, y; mov.b32 h0, h1;"
    first, second, _ = read_kernel(body).instructions
    assert first.operands == (Register("%x2", "b32"), Register("y", "b32"))
    assert second.operands == (Register("h0", "f16x2"), Register("h1", "f16x2"))


# Refused by ptxas as well.
WRONG_MODULE = {
    ".global .u32 g; .global .u32 g;": "'g' is declared twice",
    ".global .b8 g[2] = {1, 2, 3};": "3 values where 2 fit",
    ".global .b8 g = {1, 2};": "2 values where 1 fit",
    ".global .b8 g[2] = 1;": "takes a list",
    ".global .b8 g[2] = {1, {2};": "braces",
    ".global .f32 g = 3;": "'3' is no value of type .f32",
    ".global .u32 g = 3.0;": "'3.0' is no value of type .u32",
    ".global .u64 p = later; .global .u32 later;": "'later' is not declared before",
    ".global .u32 p[]; ": "has no size",
    ".global .u32 p[2][] = {{1}}; ": "first extent",
    ".global .u32 p[0]; ": "'0' is no count",
    ".global .u32 p[-1]; ": "no name of a variable",
    ".global .align 3 .u32 g;": "power of two",
    ".global .pred g;": "cannot be stored",
    ".global .u33 g;": "cannot be stored",
    ".global .u32 g": "g",
    ".shared .u32 s = 1;": "take a value",
    ".local .u32 l;": "no directive of a module",
    ".nonsense 3;": "no directive of a module",
    "add.s32 %r1, %r1, 1;": "no directive of a module",
    "}": "no directive of a module",
}
# Here ptxas wraps numbers, overlooks what is missing, or crashes (on the second "k").
REFUSED_MODULE = {
    ".global .u32 k;": "'k' is declared twice",
    ".global .u32 ;": "no declaration such as",
    ".global .b8 g = 300;": "'300' is no value of type .b8",
    ".global .u16 g = -32769;": "'-32769' is no value",
    ".global .f32 g = 1e99;": "'1e99' is no value",
    ".global .u32 h; .global .u32 g = h;": "fills 64 bits",
    ".global .b8 g[0x40000001];": "is no count",
    ".global .b32 g[0x40000][0x40000];": "at most 1073741824 bytes",
    ".extern .global .u32 g = 1;": "take a value",
}


@pytest.mark.parametrize("text", [*WRONG_MODULE, *REFUSED_MODULE])
def test_wrong_declarations(text: str) -> None:
    with pytest.raises(PtxError) as caught:
        read_module(kernel_text("", f"\n{text}\n"))
    assert (WRONG_MODULE | REFUSED_MODULE)[text] in str(caught.value)
    # A second "k" is the kernel itself, a line further down.
    assert caught.value.line == (6 if text == ".global .u32 k;" else 5)


@pytest.mark.parametrize("text", WRONG_MODULE)
def test_the_assembler_agrees_that_it_is_wrong(text: str) -> None:
    assert not assembles(kernel_text("", f"\n{text}\n"))


WRONG_BODY = {
    ".reg .b32 a; .reg .u32 a;": "'a' is declared twice",
    ".reg .b32 a; .shared .b32 a;": "'a' is declared twice",
    ".reg .b33 a;": "registers are declared as",
    ".reg .b32 a b;": "no register name",
    ".reg .b32 a<3;": "no register name",
    ".maxntid 1;": "no directive of a kernel's body",
    ".shared .b32 s[];": "has no size",
}


REFUSED_BODY = {
    ".reg .b32 ;": "registers are declared as",
    ".reg .b32 a<0>;": "'0' is no count",
    ".reg .b32 a<1048577>;": "at most 1048576",
    ".reg .v2 .b32 a;": "registers are declared as",
}


@pytest.mark.parametrize("text", [*WRONG_BODY, *REFUSED_BODY])
def test_wrong_declarations_in_a_body(text: str) -> None:
    with pytest.raises(PtxError) as caught:
        read_kernel(f"\n{text}")
    assert caught.value.line == 11
    assert (WRONG_BODY | REFUSED_BODY)[text] in str(caught.value)


@pytest.mark.parametrize("text", WRONG_BODY)
def test_the_assembler_agrees_about_bodies(text: str) -> None:
    assert not assembles(kernel_text(text))


WRONG_HEADER = {
    ".entry k(.param .u64 a, .param .u64 a)": "'a' is declared twice",
    ".entry k(.param .pred a)": "cannot be stored",
    ".entry k(.u64 a)": "no kernel parameter",
    ".entry k(.param .u64 a,)": "no kernel parameter",
    ".entry k() .maxntid 0": "1 to 3 numbers",
    ".entry k() .maxntid 1,1,1,1": "1 to 3 numbers",
    ".entry k() .minnctapersm 1, 2": "1 to 3 numbers",
    ".entry k() .maxnonsense 1": "no directive of a kernel",
    ".entry 3k()": "needs a name",
}


@pytest.mark.parametrize("header", WRONG_HEADER)
def test_wrong_headers(header: str) -> None:
    with pytest.raises(PtxError) as caught:
        entry(header)
    assert caught.value.line == 4
    assert WRONG_HEADER[header] in str(caught.value)
    assert not assembles(f"{HEADER}{header}\n{{\nret;\n}}\n")
