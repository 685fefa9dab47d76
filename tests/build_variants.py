"""Small hand-written variants for the build's tests, each compiled in well under a second."""

from __future__ import annotations

from templates.built import Target
from templates.variant import Variant

TARGET = Target("compute_75", ("sm_75",))
BOTH = Target("compute_75", ("sm_75", "sm_90"))
FP16 = ("#include <cuda_fp16.h>",)


def variant(entry: str, source: str, headers: tuple[str, ...] = FP16) -> Variant:
    """``source`` names its kernel ENTRY; it gets a namespace of its own."""
    text = f"namespace {entry}_ns {{\n{source.replace('ENTRY', entry)}\n}}\n"
    return Variant("test", entry, text, 128, 0, headers, "sm_75")


def scale(entry: str, factor: int = 2) -> Variant:
    """out[i] = factor * a[i] for i < n."""
    return variant(
        entry,
        f"""constexpr int factor = {factor};
extern "C" __global__ void __launch_bounds__(128) ENTRY(const int* a, int* out, int n) {{
  const int i = blockIdx.x * 128 + threadIdx.x;
  if (i < n) out[i] = factor * a[i];
}}""",
    )


def chatty(entry: str, number: int) -> Variant:
    """Strings, a table, a function that is not inlined, a local array, static shared memory."""
    return variant(
        entry,
        f"""__device__ __constant__ int table[4] = {{1, 2, 3, {number}}};
__device__ __noinline__ int looked_up(int i) {{ return i * table[i & 3]; }}
extern "C" __global__ void ENTRY(int* p) {{
  __shared__ float shared[32];
  int local[64];
  for (int i = 0; i < 64; ++i) local[i] = p[i];
  shared[p[1] & 31] = looked_up(*p);
  printf("a \\"b\\"; {{ %d %s\\n", local[p[70] & 63], "second {number}");
  p[1] = shared[p[0] & 31];
}}""",
    )


def broken(entry: str) -> Variant:
    return variant(entry, 'extern "C" __global__ void ENTRY(int* p) { *p = undeclared; }')


def endless(entry: str) -> Variant:
    """Valid, but the compiler takes minutes: a chain of 50,000 conditional operators."""
    chain = "p[1] ? p[2] : " * 50_000
    return variant(entry, f'extern "C" __global__ void ENTRY(int* p) {{ *p = {chain}1; }}')
