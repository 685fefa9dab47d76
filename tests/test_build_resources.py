"""What ptxas reports, read from logs of nvJitLink 12.8 and from the real one."""

from __future__ import annotations

import pytest

from templates.built import Built
from templates.compiler import compile_batch
from templates.resources import Resources, parse_report
from tests.build_variants import BOTH, chatty, variant

PLAIN = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'lm_a' for 'sm_90'
ptxas info    : Function properties for lm_a
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 254 registers, used 1 barriers
ptxas info    : Compile time = 325.990 ms
"""
SPILLING_HELPER = """ptxas warning : Value of threads per SM for entry lm_a is out of range
ptxas info    : 25 bytes gmem, 16 bytes cmem[3]
ptxas info    : Function properties for _ZN7lm_r_ns1fEiPi
ptxas         .     24 bytes stack frame, 20 bytes spill stores, 24 bytes spill loads
ptxas info    : Compile time = 2.309 ms
ptxas info    : Compiling entry function 'lm_a' for 'sm_75'
ptxas info    : Function properties for lm_a
ptxas info    : (C7510) Potential Performance Loss: something between the two lines
ptxas         .     272 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 66 registers, used 0 barriers, 128 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 5.734 ms
"""
UNEVEN = """extern "C" __global__ void __launch_bounds__(1024, 4) ENTRY(float* p) {
  p[threadIdx.x] *= 2;
}"""
RECURSIVE = """__device__ __noinline__ int f(int n, int* p) {
  return n < 2 ? p[n] : f(n - 1, p) + f(n - 2, p);
}
extern "C" __global__ void ENTRY(int* p) { p[0] = f(p[1], p); }"""


def test_a_plain_report() -> None:
    assert parse_report(PLAIN, "lm_a", "sm_90") == Resources("sm_90", 254, 0, 0, 0, 0)


def test_warnings_helpers_and_remarks_do_not_hide_the_entry() -> None:
    """What a helper spills counts; its stack is not the entry's."""
    found = parse_report(SPILLING_HELPER, "lm_a", "sm_75")
    assert found == Resources(
        "sm_75", registers=66, smem_static=128, spill_stores=24, spill_loads=32, stack=272
    )


@pytest.mark.parametrize("entry", ["lm_b", "lm", "lm_aa"])
def test_another_entrys_report_is_none(entry: str) -> None:
    with pytest.raises(ValueError, match=f"nothing about {entry} for sm_90"):
        parse_report(PLAIN, entry, "sm_90")
    with pytest.raises(ValueError, match="nothing about"):
        parse_report("", "lm_a", "sm_90")


def test_the_linkers_own_logs_are_read() -> None:
    variants = [variant("lm_w", UNEVEN), variant("lm_r", RECURSIVE), chatty("lm_c", 1)]
    uneven, recursive, talking = (
        built for built in compile_batch(variants, BOTH) if isinstance(built, Built)
    )
    for arch in BOTH.archs:
        assert uneven.binaries[arch].resources.registers > 0
        assert recursive.binaries[arch].resources.spill_stores > 0, "in the function it calls"
        assert recursive.binaries[arch].resources.stack == 0
        assert talking.binaries[arch].resources.smem_static == 128
        assert talking.binaries[arch].resources.spill_loads == 0
