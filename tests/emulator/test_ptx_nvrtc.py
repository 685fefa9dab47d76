"""What NVRTC writes is read in full: nothing lost, nothing refused."""

from __future__ import annotations

import re
import struct
import time

import pytest

from search_spaces import GroupedGemmConfig, Numerics, Problem
from templates import render
from templates.ptx import split_entries
from templates.variant import translation_unit
from tests.emulator.cuda import ptx_of
from tuner.emulator.ptx import Entry, Immediate, Label, Param, Register, Relocation, read_module

ARCHS = ["compute_75", "compute_80"]

SOURCE = r"""
#include <cuda_fp16.h>
struct Args { int a; float b[3]; double c; const int* p; };
struct Mixed { const char* name; int n; short s; };
__constant__ int table[4] = {1, 2, 3, -4};
__constant__ float floats[2][3] = {{1.5f, -2.0f}, {3.0f}};
__device__ int counter = 7;
__device__ int* pointer = &counter + 1;
__device__ unsigned long long wide[2] = {0x123456789abcdef0ull, 5};
__device__ Mixed mixed[2] = {{"one", 1, 2}, {"two", -3, 4}};
__device__ double real = 2.5;
__device__ __half unset;
extern __shared__ __align__(16) unsigned char dynamic[];
__device__ __noinline__ int helper(int x, Args a) { return x * table[x & 3] + a.a; }

extern "C" __global__ void __launch_bounds__(96, 2)
many(Args args, int* out, int n, __half h, bool flag) {
  __shared__ float tile[64];
  int local[40];
  for (int i = 0; i < 40; ++i) local[i] = out[i];
  switch (n) {
    case 0: out[1] = args.p[3]; break;
    case 1: out[7] = 4; break;
    case 2: out[2] += n; break;
    case 3: out[9] -= 1; break;
    case 4: out[3] = atomicAdd(&counter, 1); break;
    case 5: out[11] = __ldg(pointer); break;
    case 6: out[5] = mixed[n & 1].n; break;
    default: out[0] = helper(n, args);
  }
  tile[threadIdx.x & 63] = args.b[n % 3] + floats[n & 1][n % 3] + real + __half2float(h);
  __syncthreads();
  unsigned r;
  asm volatile(
      "{\n .reg .pred p;\n .reg .b32 t<3>;\n setp.ne.s32 p, %1, 0;\nWAIT:\n"
      " @p add.u32 t1, %1, 4; @!p mov.u32 t1, 0;\n setp.eq.u32 p, t1, 9;\n"
      " @p bra.uni WAIT;\n mov.b32 %0, t1;\n}" : "=r"(r) : "r"(n));
  asm volatile("{ .reg .pred p; setp.ne.s32 p, %1, 0; @p ld.global.L2::128B.u32 %0, [%2+%3]; }"
      : "+r"(r) : "r"(n), "l"(out), "n"(16));
  dynamic[threadIdx.x] = (unsigned char)(r + (int)wide[n & 1]);
  if (flag) printf("x; } %d\n", r);
  out[threadIdx.x] = (int)tile[(threadIdx.x * 7) & 63] + local[n] + dynamic[threadIdx.x ^ 1] +
                     __half2int_rn(unset) + mixed[n].name[0];
}

extern "C" __global__ void nothing() {}
"""

AMPERE = r"""
extern "C" __global__ void copies(const float4* in, float* out) {
  __shared__ float4 stage[64];
  unsigned to = (unsigned)__cvta_generic_to_shared(&stage[threadIdx.x]);
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" :: "r"(to), "l"(in));
  asm volatile("cp.async.commit_group;\ncp.async.wait_group %0;" :: "n"(0));
  unsigned a[4], b[2]; float d[4] = {};
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(to));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2+32];"
      : "=r"(b[0]), "=r"(b[1]) : "r"(to));
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  for (int i = 0; i < 4; ++i) out[i] = d[i] + __shfl_xor_sync(~0u, d[i], 1);
}
"""


def naive_counts(ptx: str) -> dict[str, int]:
    """Statements of every kernel, counted without understanding them: the ';' of its body that
    end no declaration."""
    bare = re.sub(r"//.*|^\s*\.(?:loc|file).*", "", ptx, flags=re.MULTILINE)
    bare = re.sub(r"\.section[^{]*\{[^}]*\}", "", bare)
    counts = {}
    for part in re.split(r"(?m)(?=^(?:\.\w+[ \t]+)*\.(?:entry|func)\b)", bare)[1:]:
        name = re.search(r"\.entry (\w+)", part)
        if name:
            body = part.split("\n{", 1)[1].rsplit("\n}", 1)[0]
            declarations = re.findall(r"(?m)(?:^|[;{:])\s*\.\w+[^;]*;", body)
            counts[name[1]] = body.count(";") - len(declarations)
    return counts


def check(ptx: str) -> dict[str, Entry]:
    """Everything that must hold for any module that NVRTC has written."""
    entries = dict(read_module(ptx).entries)
    assert {name: len(entry.instructions) for name, entry in entries.items()} == naive_counts(ptx)
    lines = ptx.splitlines()
    for entry in entries.values():
        assert entry.instructions[-1].root == "ret"
        for instruction in entry.instructions:
            assert instruction.opcode in lines[instruction.line - 1]
            for operand in instruction.operands:
                assert not isinstance(operand, Label) or operand.name in entry.labels
        assert all(0 <= index <= len(entry.instructions) for index in entry.labels.values())
    return entries


def roots(entry: Entry) -> set[str]:
    return {instruction.root for instruction in entry.instructions}


@pytest.mark.parametrize("options", [(), ("-lineinfo",), ("--device-debug",)], ids=str)
@pytest.mark.parametrize("arch", ARCHS)
def test_a_kernel_with_everything(arch: str, options: tuple[str, ...]) -> None:
    ptx = ptx_of(SOURCE, arch, options)
    entries = check(ptx)
    many = entries["many"]
    # A debug build calls its atomics.
    inlined = set() if "--device-debug" in options else {"atom"}
    assert roots(many) >= {"ld", "st", "bar", "call", "cvt", "setp", "bra", "mov"} | inlined
    assert [len(entry.instructions) for name, entry in entries.items() if name == "nothing"] == [1]
    assert many.params == (
        Param("many_param_0", "b8", 8, 32, 32),
        Param("many_param_1", "u64", 8, 8, None),
        Param("many_param_2", "u32", 4, 4, None),
        Param("many_param_3", "b8", 2, 2, 2),
        Param("many_param_4", "u8", 1, 1, None),
    )
    assert many.directives["maxntid"] == (96, 1, 1) and many.directives["minnctapersm"] == (2,)
    sizes = {variable.space: variable.size for variable in many.variables}
    assert sizes["shared"] == 256 and sizes["local"] >= 160
    assert read_module(ptx).target == arch.replace("compute", "sm")


def test_initial_values_are_those_of_the_source() -> None:
    variables = {v.name: v for v in read_module(ptx_of(SOURCE)).variables}
    expected = {
        "table": struct.pack("<4i", 1, 2, 3, -4),
        "floats": struct.pack("<6f", 1.5, -2, 0, 3, 0, 0),
        "counter": struct.pack("<i", 7),
        "pointer": bytes(8),
        "wide": struct.pack("<2Q", 0x123456789ABCDEF0, 5),
        # Pointers are filled in when the module is loaded.
        "mixed": struct.pack("<QihxxQihxx", 0, 1, 2, 0, -3, 4),
        "real": struct.pack("<d", 2.5),
        "unset": None,
        "dynamic": None,
    }
    assert {name: variables[name].initial for name in expected} == expected
    assert variables["pointer"].relocations == (Relocation(0, 8, "counter", 4, True),)
    names = [(r.offset, variables[r.symbol].initial) for r in variables["mixed"].relocations]
    assert names == [(0, b"one\0"), (16, b"two\0")]
    assert (variables["dynamic"].external, variables["dynamic"].align) == (True, 16)
    assert variables["table"].space == "const" and variables["real"].space == "global"


PACKED = """
struct __attribute__((packed)) Packed { char c; const char* s; };
struct Function { int (*f)(int); int n; };
__device__ Packed packed[2] = {{'a', "one"}, {'b', "two"}};
__device__ __noinline__ int triple(int x) { return x * 3; }
__device__ Function functions[2] = {{triple, 1}, {triple, 2}};
__device__ float odd[3] = {1.0f / 0.0f, -0.0f, 1e-45f};
extern "C" __global__ void k(int* p, const __grid_constant__ Packed arg) {
  p[0] = packed[p[1] & 1].s[0] + functions[p[2] & 1].f(p[3]) + odd[p[4]] + arg.c;
}
"""


def test_pointers_in_packed_structures_and_to_functions() -> None:
    ptx = ptx_of(PACKED)
    calls = [i for i in check(ptx)["k"].instructions if i.root == "call"]
    assert len(calls) == 1
    variables = {v.name: v for v in read_module(ptx).variables}
    packed = variables["packed"]
    assert packed.initial == struct.pack("<cQcQ", b"a", 0, b"b", 0)
    places = [(r.offset, r.size, r.first_byte) for r in packed.relocations]
    assert places == [(1 + 9 * i + byte, 1, byte) for i in range(2) for byte in range(8)]
    targets = [r.symbol for r in variables["functions"].relocations]
    assert len(set(targets)) == 1 and "triple" in targets[0]
    assert variables["odd"].initial == struct.pack("<3f", float("inf"), -0.0, 1e-45)


def test_inline_branch_table() -> None:
    """The compiler makes trees of comparisons from a switch; a table takes inline assembly."""
    text = """{ .reg .u32 i; and.b32 i, %1, 1; table: .branchtargets EVEN, ODD;
brx.idx i, table; EVEN: mov.u32 %0, 2; bra OUT; ODD: mov.u32 %0, 3; OUT: }"""
    literal = text.replace("\n", " ")
    ptx = ptx_of(f"""extern "C" __global__ void k(unsigned* p) {{
  unsigned r; asm volatile("{literal}" : "=r"(r) : "r"(p[1])); p[0] = r; }}""")
    entry = check(ptx)["k"]
    [branch] = [i for i in entry.instructions if i.root == "brx"]
    assert branch.operands == (Register("i", "u32"), Label("EVEN"), Label("ODD"))
    values = [entry.instructions[entry.labels[name]].operands[1] for name in ("EVEN", "ODD")]
    assert values == [Immediate(2, "int"), Immediate(3, "int")]


def test_ampere_instructions() -> None:
    entry = check(ptx_of(AMPERE, "compute_80"))["copies"]
    assert roots(entry) >= {"cp", "ldmatrix", "mma", "shfl"}
    copy = next(i for i in entry.instructions if i.root == "cp")
    assert copy.modifiers == ("async", "cg", "shared", "global", "L2::128B")


CONFIGS = (
    "64x64x64_w2x2x1_s2_sw3.3.3_f32_r1x8_mn_ca_o1_g8_k1",
    "16x32x128_w1x1x4_s1_sw1.3.3_f16p8_r1x16_nm_nc_o3_g16_k1",
    "32x32x32_w2x1x2_s3_none_f16p1_r1x16_nm_ca_o4_g1_k2",
)


@pytest.fixture(scope="module")
def variants() -> str:
    problem = Problem("grouped_gemm", 5, 520, 1000, 2, numerics=Numerics.FP16)
    configs = [GroupedGemmConfig.parse(config) for config in CONFIGS]
    source = translation_unit([render(problem, config) for config in configs])
    return ptx_of(source)


def test_templates_are_read(variants: str) -> None:
    entries = check(variants)
    assert len(entries) == len(CONFIGS)
    for name, text in split_entries(variants).items():
        [alone] = check(text).values()
        assert alone.name == name
        opcodes = [instruction.opcode for instruction in alone.instructions]
        assert opcodes == [instruction.opcode for instruction in entries[name].instructions]


def test_reading_is_fast(variants: str) -> None:
    """Best of three: reading must not matter beside compiling, which takes seconds."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        read_module(variants)
        seconds.append(time.process_time() - start)
    assert min(seconds) * 4000 / variants.count("\n") < 0.5
