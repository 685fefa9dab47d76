"""Reads of memory that nobody wrote."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind, Unwritten

SHARED = ".shared .align 16 .b8 s[256];"
MINE = "shl.b32 %r2, %r0, 2; mov.u32 %r3, s; add.s32 %r3, %r3, %r2;"


def unwritten(body: str, *args: object, **options: object) -> str:
    with pytest.raises(EmulationFault) as raised:
        run(body, args, variables=SHARED, **options)  # type: ignore[arg-type]
    assert raised.value.kind is FaultKind.UNWRITTEN
    return str(raised.value)


def test_shared_memory() -> None:
    run(MINE + "st.shared.u32 [%r3], %r0; ld.shared.u32 %r4, [%r3];", variables=SHARED)
    body = (
        MINE + "setp.ne.u32 %p1, %r0, 5; @%p1 st.shared.u32 [%r3], %r0; ld.shared.u32 %r4, [%r3];"
    )
    assert "thread (5,0,0)" in unwritten(body)
    run(body, variables=SHARED, checks=False)


def test_every_byte_of_shared_memory_counts() -> None:
    """Fifteen bytes of a line are written, in pieces; the read takes sixteen."""
    pieces = """st.shared.u64 [s], %rd0; st.shared.u32 [s+8], %r0; st.shared.u16 [s+12], %h0;
    st.shared.u8 [s+14], %r0; """
    line = "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [s];"
    assert "0x0 of shared memory" in unwritten(pieces + line, threads=1)
    run(pieces + "st.shared.u8 [s+15], %r0;" + line, threads=1, variables=SHARED)
    assert "0x10" in unwritten(pieces + "ld.shared.u8 %r4, [s+16];", threads=1)


def test_a_cta_does_not_inherit_what_another_wrote() -> None:
    body = (
        MINE + "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [%r3], %r0; ld.shared.u32 %r4, [%r3];"
    )
    assert "CTA (1,0,0)" in unwritten(body, ctas=2)
    assert "CTA (1,0,0)" in unwritten(body, ctas=2, cohort_lanes=32)


def test_global_memory() -> None:
    out = np.zeros(33, np.int32)
    body = """mul.wide.u32 %rd1, %r0, 4; add.s64 %rd1, %rd1, %rd0; st.global.u32 [%rd1], %r0;
    ld.global.u32 %r2, [%rd1];"""
    run(body, [Unwritten(out)])
    assert out.tolist() == [*range(32), 0]
    text = unwritten(body + "ld.global.u32 %r2, [%rd0+128];", Unwritten(out))
    assert "offset 128 of buffer 'a0'" in text
    run(body + "ld.global.u32 %r2, [%rd0+128];", [out])


def test_an_atomic_reads_too() -> None:
    body = "atom.global.add.u32 %r2, [%rd0], 1;"
    assert "updates 4 bytes" in unwritten(body, Unwritten(np.zeros(1, np.int32)))
    assert "updates 4 bytes" in unwritten("atom.shared.add.u32 %r2, [s], 1;")
    run("st.volatile.global.u32 [%rd0], 0;" + body, [Unwritten(np.zeros(1, np.int32))], threads=1)
    run("st.volatile.shared.u32 [s], 0; red.shared.add.u32 [s], 1; ld.shared.u32 %r2, [s];",
        threads=1, variables=SHARED)  # fmt: skip


def test_local_memory() -> None:
    local = ".local .align 8 .b8 l[16]; "
    run(local + "st.local.u32 [l+4], %r0; ld.local.u32 %r2, [l+4];")
    assert "0x0 of its local memory" in unwritten(
        local + "st.local.u32 [l+4], %r0; ld.local.u64 %rd2, [l];"
    )
    run(local + "ld.local.u64 %rd2, [l];", checks=False)
