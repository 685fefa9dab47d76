"""Asynchronous copies: what they bring, and when."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.errors import UserError
from tests.emulator.cuda import ptx_of
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind, Unwritten, emulate

SHARED = ".shared .align 16 .b8 s[2048];"
# %rd3: 16 bytes of the input, %rd4: of the output, %r9: in shared memory, %r10: the next thread's
PLACES = """mul.wide.u32 %rd2, %r0, 16; add.s64 %rd3, %rd2, %rd0; add.s64 %rd4, %rd2, %rd1;
mul.lo.u32 %r9, %r0, 16; mov.u32 %r8, s; add.s32 %r9, %r9, %r8; xor.b32 %r10, %r9, 16;
setp.eq.u32 %p1, %r0, 3;
"""
COPY = "cp.async.cg.shared.global [%r9], [%rd3], 16;"
COMMIT, ALL = "cp.async.commit_group;", "cp.async.wait_all;"
READ = "ld.shared.v4.u32 {%r11, %r12, %r13, %r14}, [%r9];"
GIVE = "st.global.v4.u32 [%rd4], {%r11, %r12, %r13, %r14};"
DATA = np.random.default_rng(2).integers(1, 256, 512).astype(np.uint8)


def copied(body: str, threads: int = 32, **options: object) -> np.ndarray:
    out = np.zeros(512, np.uint8)
    run(PLACES + body, [DATA.copy(), out], threads=threads, variables=SHARED, **options)  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("wait", [ALL, COMMIT + "cp.async.wait_group 0;"])
@pytest.mark.parametrize("how", ["cg", "ca", "cg.L2::128B"])
def test_sixteen_bytes(wait: str, how: str) -> None:
    copy = (
        f"cp.async.{how.replace('.', '.shared.global.') if '.' in how else how + '.shared.global'}"
    )
    got = copied(f"{copy} [%r9], [%rd3], 16; {wait}" + READ + GIVE)
    assert got.tolist() == DATA.tolist()


@pytest.mark.parametrize("size", [4, 8, 16])
def test_other_sizes_and_sources_that_end_early(size: int) -> None:
    """Thread t takes t % (size + 1) bytes; the rest are zeros."""
    body = f"""st.shared.v4.u32 [%r9], {{-1, -1, -1, -1}}; rem.u32 %r2, %r0, {size + 1};
    cp.async.ca.shared.global [%r9], [%rd3], {size}, %r2; {ALL}"""
    got = copied(body + READ + GIVE).reshape(32, 16)
    for thread, row in enumerate(got):
        taken = thread % (size + 1)
        expected = [*DATA.reshape(32, 16)[thread][:taken], *[0] * (size - taken)]
        assert row.tolist() == expected + [255] * (16 - size)


def test_an_ignored_source_is_not_read() -> None:
    body = f"""setp.ge.u32 %p2, %r0, 20; @%p2 mov.u64 %rd3, 0;
    cp.async.cg.shared.global [%r9], [%rd3], 16, %p2; {ALL}"""
    got = copied(body + READ + GIVE).reshape(32, 16)
    assert got[:20].tolist() == DATA.reshape(32, 16)[:20].tolist() and not got[20:].any()


def test_no_byte_behind_a_source_that_ends_early_is_read() -> None:
    data, out = np.arange(1, 20, dtype=np.uint8), np.zeros(16, np.uint8)
    body = PLACES + "cp.async.cg.shared.global [%r9], [%rd0+16], 16, COUNT;" + ALL + READ + GIVE
    run(body.replace("COUNT", "3"), [data, out], threads=1, variables=SHARED)
    assert out.tolist() == [17, 18, 19] + [0] * 13
    with pytest.raises(EmulationFault, match="1 bytes beyond buffer 'a0'"):
        run(body.replace("COUNT", "4"), [data, out], threads=1, variables=SHARED)


TWO = (
    "cp.async.ca.shared.global [%r9], [%rd3], 4;" + COMMIT
    + "cp.async.ca.shared.global [%r9+4], [%rd3+4], 4;" + COMMIT
)  # fmt: skip


def test_groups_land_in_order() -> None:
    """After wait_group 1 the older of two groups has landed, the newer one has not."""
    start = "st.shared.v4.u32 [%r9], {-1, -1, -1, -1};"
    first = TWO + "cp.async.wait_group 1; ld.shared.u32 %r11, [%r9]; st.global.u32 [%rd4], %r11;"
    got = copied(start + first).reshape(32, 16)
    assert got[:, :4].tolist() == DATA.reshape(32, 16)[:, :4].tolist()
    stale = start + TWO + "cp.async.wait_group 1;" + READ + GIVE
    got = copied(stale, checks=False).reshape(32, 16)
    assert (got[:, 4:] == 255).all() and (got[:, :4] != 255).any()
    with pytest.raises(EmulationFault, match="waited for too late") as raised:
        copied(stale)
    assert raised.value.kind is FaultKind.UNWRITTEN


def test_threads_wait_for_their_own_copies() -> None:
    """Only thread 3 waits; the others' data has not come."""
    wait = COPY + COMMIT + "@%p1 cp.async.wait_group 0;"
    got = copied(wait + "@%p1 " + READ + "@%p1 " + GIVE).reshape(32, 16)
    assert got[3].tolist() == DATA[48:64].tolist() and not got[[0, 1, 2, 4, 31]].any()
    with pytest.raises(EmulationFault, match=r"thread \(0,0,0\).*waited for too late"):
        copied(wait + READ)


def test_who_waits_later_gets_the_data_later() -> None:
    got = copied(COPY + COMMIT + "@%p1 cp.async.wait_group 0;" + ALL + READ + GIVE)
    assert got.tolist() == DATA.tolist()


def kind_of(body: str, threads: int = 32) -> FaultKind | None:
    try:
        copied(body, threads)
    except EmulationFault as fault:
        return fault.kind
    return None


OTHER = READ.replace("%r9", "%r10")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (COPY + ALL + "bar.sync 0;" + OTHER, None),
        (COPY + ALL + COPY, None),
        (COPY + ALL + OTHER, FaultKind.SHARED_RACE),
        (COPY + READ, FaultKind.UNWRITTEN),
        (COPY + "bar.sync 0;" + OTHER, FaultKind.UNWRITTEN),
        # the next round's copy begins while others still read
        (COPY + ALL + "bar.sync 0;" + OTHER + COPY, FaultKind.SHARED_RACE),
        (COPY + ALL + "bar.sync 0;" + OTHER + "bar.sync 0;" + COPY, None),
        (COPY + "st.shared.u32 [%r9], 1;", FaultKind.SHARED_RACE),
        (COPY + "bar.sync 0; st.shared.u32 [%r10], 1;", FaultKind.SHARED_RACE),
        (COPY + COPY, FaultKind.SHARED_RACE),
        ("cp.async.cg.shared.global [s], [%rd3], 16;", FaultKind.SHARED_RACE),
        ("st.shared.u32 [%r10], 1;" + COPY, FaultKind.SHARED_RACE),
    ],
)
def test_order(body: str, kind: FaultKind | None) -> None:
    assert kind_of(body) is kind


def test_copies_are_counted() -> None:
    out = np.zeros(512, np.uint8)
    emulation = run(PLACES + COPY + ALL, [DATA.copy(), out], variables=SHARED)
    assert emulation.counters is not None
    totals = emulation.counters.totals()
    assert totals.shared["copy"].bytes == totals.globals["copy"].bytes == 512


@pytest.mark.parametrize(
    "body",
    [
        "cp.async.cg.shared.global [%r9], [%rd3], 8;",
        "cp.async.ca.shared.global [%r9], [%rd3], 12;",
        "cp.async.ca.shared.global [%r9], [%rd3], %r1;",
        "cp.async.ca.global.shared [%rd3], [%r9], 4;",
        "cp.async.ca.shared.global.L2::cache_hint [%r9], [%rd3], 4, %rd1;",
        "cp.async.bulk.commit_group;",
        "cp.async.wait_group %r1;",
        "cp.async.mbarrier.arrive.shared.b64 [%r9];",
    ],
)
def test_unknown_forms(body: str) -> None:
    with pytest.raises(UserError, match=r"PTX line 1[0-9]"):
        run(body, variables=SHARED)


PIPELINE = """
#include <cuda_pipeline.h>
extern "C" __global__ void pipeline(float const* in, float* out, int steps) {
  __shared__ float stage[STAGES][64];
  auto fetch = [&](int step) {
    if (step < steps)
      __pipeline_memcpy_async(&stage[step % STAGES][threadIdx.x], in + step * 64 + threadIdx.x, 4);
    __pipeline_commit();
  };
  for (int step = 0; step < STAGES - 1; ++step) fetch(step);
  float sum = 0;
  for (int step = 0; step < steps; ++step) {
    __pipeline_wait_prior(WAIT);
    __syncthreads();
    fetch(step + AHEAD);
    sum += stage[step % STAGES][63 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}"""


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_a_pipeline(stages: int) -> None:
    def launch(wait: int, ahead: int) -> None:
        values = np.random.default_rng(1).standard_normal((9, 64)).astype(np.float32)
        out = np.zeros(64, np.float32)
        source = PIPELINE.replace("STAGES", str(stages)).replace("WAIT", str(wait))
        ptx = ptx_of(source.replace("AHEAD", str(ahead)), "compute_80")
        emulate(ptx, (1, 1, 1), (64, 1, 1), 0, [values, Unwritten(out), np.int32(9)])
        np.testing.assert_allclose(out[::-1], values.sum(axis=0), rtol=1e-5, atol=1e-5)

    launch(wait=stages - 2, ahead=stages - 1)
    with pytest.raises(EmulationFault, match="waited for too late"):
        launch(wait=stages - 1, ahead=stages - 1)
    with pytest.raises(EmulationFault, match=r"race on shared memory|waited for too late"):
        launch(wait=stages - 2, ahead=stages)
