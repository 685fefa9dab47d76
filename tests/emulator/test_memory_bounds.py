"""Out-of-bounds and misaligned accesses, in every space."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.errors import UserError
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind
from tuner.emulator.memory import Memory

SHARED = ".shared .align 16 .b8 s[64];"


def fault(body: str, *args: object, **options: object) -> EmulationFault:
    with pytest.raises(EmulationFault) as raised:
        run(body, args, **options)  # type: ignore[arg-type]
    return raised.value


@pytest.mark.parametrize("checks", [True, False])
def test_beyond_a_buffer(checks: bool) -> None:
    """Thread 30 of 32 is the first whose four bytes are not in the buffer."""
    body = "mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1; ld.global.u32 %r2, [%rd2+8];"
    found = fault(body, np.zeros(32, np.int32), checks=checks)
    assert found.kind is FaultKind.OUT_OF_BOUNDS
    assert "thread (30,0,0) of CTA (0,0,0)" in str(found)
    assert "4 bytes beyond buffer 'a0' of 128 bytes" in str(found)
    assert found.text == "ld.global.u32 %r2, [%rd2+8]" and str(found.line) in str(found)


def test_the_last_byte_is_inside_and_the_next_is_not() -> None:
    data = np.zeros(17, np.uint8)
    run("ld.global.u8 %r2, [%rd0+16]; st.global.u8 [%rd0], %r2;", [data])
    assert "1 bytes beyond" in str(fault("ld.global.u8 %r2, [%rd0+17];", data))
    assert "writes 4 bytes" in str(fault("st.global.u32 [%rd0+16], %r0;", data))
    assert "3 bytes beyond" in str(fault("st.global.u32 [%rd0+16], %r0;", data))


def test_before_a_buffer_and_far_away() -> None:
    first, second = np.zeros(100, np.uint8), np.zeros(4, np.uint8)
    assert "4 bytes before buffer 'a0'" in str(
        fault("ld.global.u32 %r2, [%rd0+-4];", first, second)
    )
    assert "4 bytes before buffer 'a1'" in str(
        fault("ld.global.u32 %r2, [%rd1+-4];", first, second)
    )
    text = str(fault("mov.u64 %rd5, -16; ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd5];", first))
    assert "beyond buffer 'a0'" in text


def test_an_empty_buffer_has_no_byte() -> None:
    empty = np.zeros(0, np.uint8)
    assert "beyond buffer 'a0' of 0 bytes" in str(fault("ld.global.u8 %r2, [%rd0];", empty))


def test_null() -> None:
    body = "setp.eq.u32 %p1, %r0, 3; @%p1 st.global.u32 [%rd0+64], %r0;"
    found = fault(body, None)
    assert "null pointer" in str(found) and "thread (3,0,0)" in str(found)


def test_lanes_in_several_buffers_are_inside_each() -> None:
    a, b, out = (np.full(4, value, np.int32) for value in (7, 9, 0))
    body = """and.b32 %r2, %r0, 1; setp.eq.u32 %p1, %r2, 0; selp.b64 %rd3, %rd0, %rd1, %p1;
    ld.global.u32 %r3, [%rd3+12]; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd4, %rd4, %rd2;
    st.global.u32 [%rd4], %r3;"""
    run(body, [a, b, out], threads=4)
    assert out.tolist() == [7, 9, 7, 9]
    wrong = "selp.b64 %rd3, %rd0, %rd1, %p1; add.s64 %rd3, %rd3, 8; ld.global.u32"
    body = body.replace("selp.b64 %rd3, %rd0, %rd1, %p1;\n    ld.global.u32", wrong)
    assert "thread (0,0,0)" in str(fault(body, a, b, out, threads=4))


def test_shared_memory_ends_with_what_was_asked_for() -> None:
    run("mov.u32 %r2, s; st.shared.u32 [%r2+64], %r0;", smem=4, threads=1, variables=SHARED)
    found = fault("mov.u32 %r2, s; st.shared.u32 [%r2+64], %r0;", variables=SHARED)
    assert found.kind is FaultKind.OUT_OF_BOUNDS
    assert "4 bytes beyond the CTA's 64 bytes of shared memory" in str(found)
    found = fault("st.shared.u32 [%r0], %r0;", threads=1)
    assert "beyond the CTA's 0 bytes" in str(found)


def test_a_cta_cannot_reach_its_neighbour() -> None:
    found = fault("mov.u32 %r2, s; ld.shared.u32 %r3, [%r2+64];", ctas=2, variables=SHARED)
    assert "4 bytes beyond" in str(found)


def test_parameters_constants_and_local_memory() -> None:
    assert "parameters" in str(fault("ld.param.u64 %rd5, [a0+8];", 1))
    constant = ".const .align 4 .b8 c[8];"
    assert "constants" in str(fault("ld.const.u32 %r2, [c+8];", variables=constant))
    local = ".local .align 4 .b8 l[8]; st.local.u32 [l+8], %r0;"
    assert "local memory" in str(fault(local))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("ld.global.u16 %h1, [%rd0+1];", "buffer 'a0'"),
        ("ld.global.v2.u32 {%r2, %r3}, [%rd0+4];", "buffer 'a0'"),
        ("ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd0+8];", "buffer 'a0'"),
        ("st.global.u64 [%rd0+12], %rd0;", "buffer 'a0'"),
        ("atom.global.add.u32 %r2, [%rd0+2], 1;", "buffer 'a0'"),
        ("st.shared.v4.f32 [s+4], {%f1, %f1, %f1, %f1};", "shared memory"),
        ("ld.param.u32 %r2, [a0+2];", "parameters"),
    ],
)
def test_misaligned(body: str, place: str) -> None:
    found = fault(body, np.zeros(64, np.uint8), variables=SHARED)
    assert found.kind is FaultKind.MISALIGNED and place in str(found)


def test_lanes_that_do_not_execute_may_point_anywhere() -> None:
    data = np.zeros(4, np.int32)
    body = """setp.lt.u32 %p1, %r0, 4; mul.wide.u32 %rd1, %r0, 5000000; setp.eq.u32 %p2, %r0, 0;
    @%p2 st.global.u32 [%rd0], 1; @!%p2 bra END;
    add.s64 %rd1, %rd0, %rd1; ld.global.u32 %r2, [%rd1]; st.global.u32 [%rd1+4], %r2;
    END: """
    run(body, [data])
    assert data.tolist() == [1, 1, 0, 0]


def test_two_buffers_of_one_name() -> None:
    memory = Memory(shared_bytes=0, local_bytes=0, const=b"", checks=True)
    memory.add_buffer("x", np.zeros(4, np.uint8), written=True)
    with pytest.raises(UserError, match="two buffers called 'x'"):
        memory.add_buffer("x", np.zeros(4, np.uint8), written=True)
    memory.seal()
    with pytest.raises(UserError, match="no buffer 'y'"):
        memory.content("y")
