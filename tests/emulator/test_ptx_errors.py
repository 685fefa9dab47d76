"""PTX that cannot be read: one clear line with its number, whatever is wrong."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search_spaces.errors import UserError
from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_texts import FIRST_LINE, HEADER, assembles, kernel_text
from tuner.emulator.ptx import TARGETS, PtxError, read_module

SMALL = r"""
extern "C" __global__ void k(int* p, float f) {
  __shared__ int s[32];
  int r = p[threadIdx.x];
  asm volatile("{ .reg .pred q; setp.ne.s32 q, %0, 0; @!q bra L; add.s32 %0, %0, 3; L: }"
               : "+r"(r));
  s[threadIdx.x] = r * f;
  __syncthreads();
  p[threadIdx.x] = s[threadIdx.x ^ 1] + __shfl_xor_sync(~0u, r, 1);
}
"""


def error_of(text: str) -> PtxError:
    with pytest.raises(PtxError) as caught:
        read_module(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"PTX line {caught.value.line}: ")
    return caught.value


@pytest.mark.parametrize("target", ["sm_70", "sm_86", "sm_90a", "sm_750"])
def test_other_targets(target: str) -> None:
    error = error_of(HEADER.replace("sm_75", target))
    assert error.line == 2 and f".target {target}" in str(error)
    assert all(known in str(error) for known in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_known_targets(target: str) -> None:
    text = f"// comment\n{HEADER}".replace("sm_75", f"{target}, debug")
    module = read_module(text)
    assert (module.version, module.target, module.address_size) == ("8.0", target, 64)
    assert module.variables == () and dict(module.entries) == {}


@pytest.mark.parametrize(
    ("text", "line", "piece"),
    [
        ("", 1, "PTX begins with"),
        ("\n\nnot PTX at all", 3, "'not PTX at all': PTX begins with"),
        (".target sm_75\n", 1, "PTX begins with"),
        (".version 8.0\n.target sm_75\n", 1, "PTX begins with"),
        (".version eight\n.target sm_75\n.address_size 64", 1, "PTX begins with"),
        (HEADER.replace("64", "32"), 3, ".address_size 32"),
        (HEADER.replace("sm_75", "sm_75, texmode_unified"), 2, "texmode_unified"),
        (HEADER + "/* never closed", 4, "/* is opened here and never closed"),
        (HEADER + '.file 1 "a"\n.pragma "never;\n', 5, "never closed"),
        (HEADER + ".section .debug_str {\n .b8 1\n", 4, ".section is opened here"),
    ],
)
def test_modules(text: str, line: int, piece: str) -> None:
    error = error_of(text)
    assert error.line == line and piece in str(error)


BODIES = {
    "{ add.s32 %r1, %r1, 1;": (5, "never closed"),
    "add.s32 %r1, %r1, 1; }": (11, "no directive of a module"),
    "{ } }": (11, "no directive of a module"),
    "add.s32 %r1, %r1, 1\nsub.s32 %r1, %r1, 1;": (10, "'1 sub.s32 %r1': a ',' or ';' is missing"),
    "add.s32 %r1, %r1, 1\nend:\n": (10, "1 end: ret': a ',' or ';' is missing"),
    "{ add.s32 %r1, %r1, 1 }": (10, "no ';' ends"),
    "@%p1 { ret; }": (10, "no ';' ends"),
    ";": (10, "no statement before it"),
    "ret;;": (10, "no statement before it"),
    "bra nowhere;": (10, "'nowhere' is not declared"),
    "bra inside; { inside: }": (10, "'inside' is not declared"),
    "bra %r1;": (10, "branches to one label"),
    "bra;": (10, "branches to one label"),
    "bra a, a; a:": (10, "branches to one label"),
    "bra k;": (10, "branches to one label"),
    "here:\nhere: ret;": (11, "'here' stands twice"),
    "t: .branchtargets a; t: a:": (10, "'t' stands twice"),
    "t: .branchtargets a;\nbra t; a:": (11, "'t' is no label"),
    "brx.idx %r1, a; a:": (10, ".branchtargets table"),
    "brx.idx %r1;": (10, ".branchtargets table"),
    "t: .branchtargets a;\nbrx.idx %r1, t;": (10, "'a' is not declared"),
    "t: .branchtargets %r1;\nbrx.idx %r1, t;": (10, "lists labels only"),
    ".maxreg 3;": (10, "no directive of a kernel's body"),
    "3 %r1;": (10, "no instruction"),
    "@%p1;": (10, "no instruction"),
    "@%p9 ret;": (10, "'%p9' is not declared"),
    "@%r1 ret;": (10, "'%r1' is no predicate"),
    "mov..u32 %r1, 1;": (10, "no instruction"),
}


@pytest.mark.parametrize("body", BODIES)
def test_bodies(body: str) -> None:
    error = error_of(kernel_text(body))
    line, piece = BODIES[body]
    assert (error.line, piece in str(error)) == (line, True), str(error)


@pytest.mark.parametrize("body", BODIES)
def test_the_assembler_agrees_that_it_is_wrong(body: str) -> None:
    assert not assembles(kernel_text(body))


def test_two_kernels_of_one_name() -> None:
    kernel = kernel_text("").removeprefix(HEADER)
    error = error_of(HEADER + kernel + kernel)
    assert error.line == 3 + kernel.count("\n") + 1 and "'k' is declared twice" in str(error)


def test_long_statements_are_shortened() -> None:
    error = error_of(kernel_text(f"nonsense!{'x' * 5000};"))
    assert error.line == FIRST_LINE and len(str(error)) < 250


def test_the_error_is_one_a_user_can_mend_and_travels_between_processes() -> None:
    error = error_of(kernel_text("bra nowhere;"))
    assert isinstance(error, UserError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.line) == (PtxError, str(error), FIRST_LINE)


def test_every_cut_is_noticed() -> None:
    """A kernel that ends anywhere before its last brace is never taken for a whole one."""
    text = ptx_of(SMALL)
    first, last = text.index(".visible"), text.rindex("}")
    for end in range(first + len(".visible"), last):
        error = error_of(text[:end])
        assert error.line <= text[:end].count("\n") + 1


PIECES = st.sampled_from([";", "{", "}", ",", "[", "]", "|", "@", "!", ":", '"', "/*", "//", "."])


@given(st.data())
def test_damaged_text_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever one slip of the pen does to a module, no other exception comes out."""
    text = ptx_of(SMALL)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    damaged = text[:start] + data.draw(PIECES | st.text(max_size=6)) + text[end:]
    try:
        read_module(damaged)
    except PtxError as error:
        assert 1 <= error.line <= damaged.count("\n") + 1


@given(st.text(alphabet='.,;:{}[]()<>|!@%$+-_ \n"/*0123456789abrstuxvf'))
@example("a" * 5000)
@example("9" * 5000)
@example(".x" * 2000)
@example("[1]" * 2000)
@example("{" * 2000 + "}" * 2000)
@example("1," * 3000)
def test_any_statement_is_read_or_refused(text: str) -> None:
    for module in (
        kernel_text(f"mov.u32 %r1, {text};"),
        kernel_text(f".reg .b32 {text};"),
        kernel_text("", f".global .b8 g{text};\n"),
        kernel_text("", f".global .b8 g[4] = {text};\n"),
        kernel_text(text),
    ):
        try:
            read_module(module)
        except PtxError as error:
            assert 1 <= error.line <= module.count("\n") + 1
