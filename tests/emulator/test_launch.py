"""Launches that cannot be: grids, blocks, options, arguments."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.errors import UserError
from tests.emulator.cuda import ptx_of
from tuner.emulator import EmulationFault, emulate

FILL = """
extern "C" __global__ void fill(int* out, int value) { out[threadIdx.x] = value; }"""


def test_bad_launches() -> None:
    ptx = ptx_of(FILL)
    out = np.zeros(4, np.int32)
    one = (1, 1, 1)
    for grid, block, args, message in (
        (one, one, [out], "fill takes 2 arguments, not 1"),
        (one, one, [out, 1.5], "argument 1 .*give an array"),
        (one, one, [out, np.int64(1)], "argument 1 .*8 bytes given, it has 4"),
        (one, one, [out, 1 << 40], "does not fit 32 bits"),
        (one, one, [np.int32(1), np.int32(1)], "argument 0 .*4 bytes given, it has 8"),
        (one, one, [out[::2], np.int32(1)], "contiguous"),
        (one, one, [out, out], "only a 64-bit parameter"),
        (one, (2048, 1, 1), [out, np.int32(1)], "at most 1024"),
        ((0, 1, 1), one, [out, np.int32(1)], "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            emulate(ptx, grid, block, 0, args)


def test_ctas_that_cannot_be_run() -> None:
    for ctas, message in (
        ([0, 4], "CTA 4 does not exist"),
        ([], "names no CTA"),
        ([1, 0, 1], "CTA 1 is named 2 times"),
    ):
        with pytest.raises(UserError, match=message):
            emulate(ptx_of(FILL), (2, 2, 1), (1, 1, 1), 0, [None, 1], ctas=ctas)


def test_the_last_cta_that_checks_tell_apart() -> None:
    clash = ptx_of("""extern "C" __global__ void clash(int* out) { out[0] = blockIdx.x; }""")
    grid, out = (1 << 24, 1, 1), np.zeros(1, np.int32)
    last = (1 << 22) - 2
    with pytest.raises(EmulationFault, match=rf"CTA \(5,0,0\) .* which CTA \({last},0,0\)"):
        emulate(clash, grid, (1, 1, 1), 0, [out], ctas=[5, last])
    with pytest.raises(UserError, match=f"CTA {last + 1}: .*checks=False"):
        emulate(clash, grid, (1, 1, 1), 0, [out], ctas=[5, last + 1])
    emulate(clash, grid, (1, 1, 1), 0, [out], ctas=[5, last + 1], checks=False)
    assert out[0] == last + 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"budget": 0}, "budget=0: give at least 1"),
        ({"cohort_lanes": -5}, "cohort_lanes=-5"),
        ({"processes": 0}, "processes=0"),
    ],
)
def test_bad_options(option: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        emulate(ptx_of(FILL), (1, 1, 1), (1, 1, 1), 0, [None, 1], **option)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="smem_bytes=-1"):
        emulate(ptx_of(FILL), (1, 1, 1), (1, 1, 1), -1, [None, 1])


COPY = """
extern "C" __global__ void copy(int const* in, int* out) { out[threadIdx.x] = in[threadIdx.x]; }"""


def test_arrays_that_overlap_or_may_not_be_written() -> None:
    ptx, values = ptx_of(COPY), np.arange(10, dtype=np.int32)
    one, block = (1, 1, 1), (4, 1, 1)
    with pytest.raises(UserError, match="copy_param_0 and copy_param_1 overlap"):
        emulate(ptx, one, block, 0, [values[:8], values[2:]])
    emulate(ptx, one, block, 0, [values[:4], values[4:]])
    assert values.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 8, 9]
    fixed = np.zeros(4, np.int32)
    fixed.flags.writeable = False
    with pytest.raises(UserError, match="wrote to copy_param_1, whose array is read-only"):
        emulate(ptx, one, block, 0, [values, fixed])
    emulate(ptx, one, block, 0, [fixed, values])
    assert values[:4].tolist() == [0, 0, 0, 0]


def test_a_block_of_another_size_than_the_kernel_requires() -> None:
    ptx = ptx_of(FILL).replace(")\n{", ")\n.reqntid 64, 1, 1\n{", 1)
    out = np.zeros(64, np.int32)
    with pytest.raises(UserError, match=r"fill was compiled for \(64, 1, 1\) and no other"):
        emulate(ptx, (1, 1, 1), (32, 1, 1), 0, [out, 1])
    emulate(ptx, (1, 1, 1), (64, 1, 1), 0, [out, 1])
    assert out.all()
