"""CUDA intrinsics, compiled by NVRTC and emulated, against exact numbers and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.emulator.cuda import ptx_of
from tests.emulator.numbers_oracle import (
    decode,
    encode,
    exact_product,
    exact_sum,
    floats,
    integers,
    rounded,
    same,
)
from tuner.emulator import emulate
from tuner.emulator.isa.values import DTYPES, Array

# CUDA's type -> ours; pairs of halves are arrays of twice as many halves.
TYPES = {
    "int": "s32",
    "unsigned": "u32",
    "long long": "s64",
    "unsigned long long": "u64",
    "float": "f32",
    "double": "f64",
    "__half": "f16",
    "__half2": "f16",
    "__nv_bfloat16": "bf16",
    "__nv_bfloat162": "bf16",
}
WORD, INT, LONG = 2**32, "int", "long long"


@dataclass(frozen=True)
class Intrinsic:
    """``result`` f(a, b, c) of ``sources`` as a CUDA expression, and what it is for one lane."""

    name: str
    result: str
    sources: tuple[str, ...]
    expression: str
    expected: Callable[..., Any]


def signed(value: int, bits: int = 32) -> int:
    value %= 1 << bits
    return value - (1 << bits) if value >> (bits - 1) else value


def selected(a: int, b: int, selector: int) -> int:
    data = [(b << 32 | a) >> 8 * i & 0xFF for i in range(8)]
    return sum(data[selector >> 4 * i & 7] << 8 * i for i in range(4))


def bytes_product(a: int, b: int, c: int) -> int:
    pairs = zip((a % WORD).to_bytes(4, "little"), (b % WORD).to_bytes(4, "little"), strict=True)
    return signed(c + sum(signed(x, 8) * signed(y, 8) for x, y in pairs))


def divided(a: int, b: int) -> int:
    return abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1) if b else 0


def fused(kind: str, mode: str) -> Callable[[float, float, float], float]:
    return lambda a, b, c: rounded(exact_sum(mode, exact_product(a, b), c), kind, mode)


def converted(value: float, whole: Callable[[float], int], low: int, high: int) -> int:
    if math.isnan(value):
        return 0
    return min(max(whole(value), low), high) if math.isfinite(value) else high if value > 0 else low


WHOLE = (
    Intrinsic("funnel_left", "unsigned", ("unsigned",) * 3, "__funnelshift_l(a, b, c)",
              lambda a, b, c: ((b << 32 | a) << c % 32 >> 32) % WORD),
    Intrinsic("funnel_right", "unsigned", ("unsigned",) * 3, "__funnelshift_rc(a, b, c)",
              lambda a, b, c: ((b << 32 | a) >> min(c, 32)) % WORD),
    Intrinsic("byte_perm", "unsigned", ("unsigned",) * 3, "__byte_perm(a, b, c & 0x7777)",
              selected),
    Intrinsic("dp4a", INT, (INT,) * 3, "__dp4a(a, b, c)", bytes_product),
    Intrinsic("popc", INT, ("unsigned",), "__popc(a)", lambda a: bin(a).count("1")),
    Intrinsic("clz", INT, (LONG,), "__clzll(a)", lambda a: 64 - (a % 2**64).bit_length()),
    Intrinsic("ffs", INT, (INT,), "__ffs(a)", lambda a: (a & -a).bit_length() if a else 0),
    Intrinsic("brev", "unsigned", ("unsigned",), "__brev(a)", lambda a: int(f"{a:032b}"[::-1], 2)),
    Intrinsic("mulhi", INT, (INT, INT), "__mulhi(a, b)", lambda a, b: a * b >> 32),
    Intrinsic("umul64hi", "unsigned long long", ("unsigned long long",) * 2, "__umul64hi(a, b)",
              lambda a, b: a * b >> 64),
    Intrinsic("mul24", INT, (INT, INT), "__mul24(a, b)",
              lambda a, b: signed(signed(a, 24) * signed(b, 24))),
    Intrinsic("sad", "unsigned", (INT, INT, "unsigned"), "__sad(a, b, c)",
              lambda a, b, c: (abs(a - b) + c) % WORD),
    Intrinsic("average", INT, (INT, INT), "__hadd(a, b)", lambda a, b: (a + b) >> 1),
    Intrinsic("quotient", INT, (INT, INT), "b ? a / b : 0",
              lambda a, b: signed(divided(a, b))),
    Intrinsic("remainder", LONG, (LONG, LONG), "b ? a % b : 0",
              lambda a, b: a - divided(a, b) * b if b else 0),
    Intrinsic("by_seven", INT, (INT,), "a / 7 + a % 5",
              lambda a: divided(a, 7) + a - 5 * divided(a, 5)),
    Intrinsic("majority", "unsigned", ("unsigned",) * 3, "(a & b) | (a & c) | (b & c)",
              lambda a, b, c: (a & b) | (a & c) | (b & c)),
    Intrinsic("to_int_down", INT, ("float",), "__float2int_rd(a)",
              lambda a: converted(a, math.floor, -(2**31), 2**31 - 1)),
    Intrinsic("to_unsigned", "unsigned", ("float",), "__float2uint_rz(a)",
              lambda a: converted(a, math.trunc, 0, 2**32 - 1)),
)  # fmt: skip

FLOATING = (
    Intrinsic("add_rz", "float", ("float", "float"), "__fadd_rz(a, b)",
              lambda a, b: rounded(exact_sum("rz", a, b), "f32", "rz")),
    Intrinsic("mul_down", "float", ("float", "float"), "__fmul_rd(a, b)",
              lambda a, b: rounded(exact_product(a, b), "f32", "rm")),
    Intrinsic("fma_up", "float", ("float",) * 3, "__fmaf_ru(a, b, c)", fused("f32", "rp")),
    Intrinsic("fma", "float", ("float",) * 3, "fmaf(a, b, c)", fused("f32", "rn")),
    Intrinsic("fma_double", "double", ("double",) * 3, "fma(a, b, c)", fused("f64", "rn")),
    Intrinsic("to_half_rz", "__half", ("float",), "__float2half_rz(a)",
              lambda a: rounded(exact_sum("rz", a), "f16", "rz") if a else a),
    Intrinsic("to_bf16", "__nv_bfloat16", ("float",), "__float2bfloat16_rn(a)",
              lambda a: rounded(exact_sum("rn", a), "bf16", "rn") if a else a),
    Intrinsic("to_float", "float", ("__half",), "__half2float(a)", lambda a: a),
    Intrinsic("from_bf16", "float", ("__nv_bfloat16",), "__bfloat162float(a)", lambda a: a),
    Intrinsic("hfma2", "__half2", ("__half2",) * 3, "__hfma2(a, b, c)", fused("f16", "rn")),
    Intrinsic("hadd2", "__half2", ("__half2",) * 2, "__hadd2(a, b)",
              lambda a, b: rounded(exact_sum("rn", a, b), "f16", "rn")),
    Intrinsic("hmul2", "__half2", ("__half2",) * 2, "__hmul2(a, b)",
              lambda a, b: rounded(exact_product(a, b), "f16", "rn")),
    Intrinsic("less2", "__half2", ("__half2",) * 2, "__hlt2(a, b)", lambda a, b: float(a < b)),
    Intrinsic("floor", "float", ("float",), "floorf(a)",
              lambda a: float(np.floor(np.float32(a)))),
)  # fmt: skip
# What only compute_80 has as instructions of its own.
AMPERE = (
    Intrinsic("bf16_fma", "__nv_bfloat162", ("__nv_bfloat162",) * 3, "__hfma2(a, b, c)",
              fused("bf16", "rn")),
    Intrinsic("hfma_relu", "__half", ("__half",) * 3, "__hfma_relu(a, b, c)",
              lambda a, b, c: math.nan if math.isnan(fused("f16", "rn")(a, b, c))
              else max(fused("f16", "rn")(a, b, c), 0.0) or 0.0),
    Intrinsic("max_nan", "__half", ("__half",) * 2, "__hmax_nan(a, b)",
              lambda a, b: math.nan if math.isnan(a) or math.isnan(b)
              else max(a, b, key=lambda v: (v, math.copysign(1, v)))),
)  # fmt: skip


def source(intrinsics: Sequence[Intrinsic]) -> str:
    """One kernel for each, so that NVRTC is asked once."""
    kernels = ["#include <cuda_fp16.h>", "#include <cuda_bf16.h>"]
    for item in intrinsics:
        names = "abc"[: len(item.sources)]
        parameters = [f"const {t}* p{n}" for n, t in zip(names, item.sources, strict=True)]
        loads = " ".join(f"{t} {n} = p{n}[i];" for n, t in zip(names, item.sources, strict=True))
        everything = ", ".join([*parameters, f"{item.result}* x"])
        kernels.append(
            f'extern "C" __global__ void run_{item.name}({everything}) {{'
            f" int i = blockIdx.x * blockDim.x + threadIdx.x; {loads} x[i] = {item.expression}; }}"
        )
    return "\n".join(kernels)


def samples(item: Intrinsic) -> list[Array]:
    """A whole number of CTAs of 128 threads, each with one value or pair."""
    columns = []
    for i, cuda in enumerate(item.sources):
        kind = TYPES[cuda]
        make = integers if kind[0] in "us" else floats
        columns.append(make(kind, 3, 300)[i])
    size = min(len(column) for column in columns) // 256 * 256
    return [column[:size] for column in columns]


def execute(ptx: str, item: Intrinsic, inputs: Sequence[Array]) -> Array:
    result = np.zeros(len(inputs[0]), DTYPES[TYPES[item.result]])
    lanes = len(result) // (2 if item.result.endswith("2") else 1)
    emulate(ptx, (lanes // 128, 1, 1), (128, 1, 1), 0, [*inputs, result], entry=f"run_{item.name}")
    return result


@pytest.mark.parametrize("arch", ["compute_75", "compute_80"])
@pytest.mark.parametrize("item", WHOLE, ids=lambda item: item.name)
def test_whole_numbers(item: Intrinsic, arch: str) -> None:
    inputs = samples(item)
    found = execute(ptx_of(source(WHOLE), arch), item, inputs)
    kinds = [TYPES[cuda] for cuda in item.sources]
    rows = zip(
        *(
            (decode(v, k) if k[0] == "f" else v).tolist()
            for v, k in zip(inputs, kinds, strict=True)
        ),
        strict=True,
    )
    same(found, np.array([item.expected(*row) for row in rows], found.dtype))


def check_floats(ptx: str, item: Intrinsic) -> None:
    inputs = samples(item)
    found = execute(ptx, item, inputs)
    columns = (decode(v, TYPES[c]).tolist() for v, c in zip(inputs, item.sources, strict=True))
    kind = TYPES[item.result]
    expected = encode((item.expected(*row) for row in zip(*columns, strict=True)), kind)
    if kind == "bf16":
        # Some of CUDA's bf16 conversions are written in integers and keep a NaN's payload.
        nan = np.isnan(decode(expected, kind))
        assert np.isnan(decode(found[nan], kind)).all()
        found = np.where(nan, expected, found)
    same(found, expected)


@pytest.mark.parametrize("arch", ["compute_75", "compute_80"])
@pytest.mark.parametrize("item", FLOATING, ids=lambda item: item.name)
def test_floating_point_numbers(item: Intrinsic, arch: str) -> None:
    check_floats(ptx_of(source(FLOATING), arch), item)


@pytest.mark.parametrize("item", AMPERE, ids=lambda item: item.name)
def test_instructions_of_ampere(item: Intrinsic) -> None:
    check_floats(ptx_of(source(AMPERE), "compute_80"), item)


Unary = Callable[[Array], Array]
LIBRARY: tuple[tuple[str, Unary, float], ...] = (
    ("expf(a)", np.exp, 2),
    ("logf(fabsf(a))", lambda a: np.log(np.abs(a)), 2),
    ("tanhf(a)", np.tanh, 3),
    ("sinf(a)", np.sin, 2),
    ("rsqrtf(fabsf(a))", lambda a: 1 / np.sqrt(np.abs(a)), 2),
    ("a / (1.0f + __expf(-a))", lambda a: a / (1 + np.exp(-a)), 50),  # __expf: 2 + 1.173 |a|
)


@pytest.mark.parametrize(("expression", "function", "places"), LIBRARY)
def test_the_mathematical_library(expression: str, function: Unary, places: float) -> None:
    """Polynomials of fma with ex2, bit tricks and selections; within some last places."""
    item = Intrinsic("f", "float", ("float",), expression, float)
    a = np.random.default_rng(0).uniform(-40, 40, 1024).astype(np.float32)
    found = execute(ptx_of(source([item])), item, [a]).astype(np.float64)
    exact = function(a.astype(np.float64))
    assert (np.abs(found - exact) <= places * np.spacing(np.abs(exact).astype(np.float32))).all()
