"""f16 and bf16 arithmetic, alone and packed, against exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.numbers_oracle import (
    decode,
    encode,
    exact_product,
    exact_sum,
    floats,
    rounded,
    same,
)
from tests.emulator.snippets import refuses, run_one
from tuner.emulator.isa.values import DTYPES, Array

KINDS = ("f16", "bf16")
Exact = Callable[..., "float | Fraction"]
OPERATIONS: dict[str, tuple[int, Exact]] = {
    "add": (2, lambda a, b: exact_sum("rn", a, b)),
    "sub": (2, lambda a, b: exact_sum("rn", a, -b)),
    "mul": (2, exact_product),
    "fma.rn": (3, lambda a, b, c: exact_sum("rn", exact_product(a, b), c)),
}


def expected_of(kind: str, exact: Exact, inputs: list[Array]) -> Array:
    rows = zip(*(decode(v, kind).tolist() for v in inputs), strict=True)
    return encode((rounded(exact(*row), kind, "rn") for row in rows), kind)


def execute(opcode: str, kind: str, inputs: list[Array]) -> Array:
    operands = ", ".join(f"%{name}" for name in "abc"[: len(inputs)])
    return run_one(f"{opcode} %x, {operands};", kind, *inputs)


@pytest.mark.parametrize("opcode", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_arithmetic_rounds_once(kind: str, opcode: str) -> None:
    arity, exact = OPERATIONS[opcode]
    inputs = floats(kind, arity, 2000)
    same(execute(f"{opcode}.{kind}", kind, inputs), expected_of(kind, exact, inputs))


@pytest.mark.parametrize("opcode", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_two_of_one(kind: str, opcode: str) -> None:
    arity, _ = OPERATIONS[opcode]
    inputs = [value[: len(value) // 2 * 2] for value in floats(kind, arity, 300)]
    single = execute(f"{opcode}.{kind}", kind, inputs)
    pairs = execute(f"{opcode}.{kind}x2", f"{kind}x2", [v.reshape(-1, 2) for v in inputs])
    same(pairs.reshape(-1), single)


def test_f16_products_just_beside_a_tie() -> None:
    """Sums whose exact value lies a tiny bit beside the middle of two f16: two roundings, by way
    of f32 or even f64, would take it for the middle."""
    one, tiny = np.float16(1), np.float16(2.0**-24)
    a = np.array([1 + 2.0**-10, 1 + 2.0**-10, 2048, 2048], np.float16)
    b = np.array([0.5, 0.5, 1, 1], np.float16)
    c = np.array([tiny, -tiny, one, one + np.float16(2.0**-10)], np.float16)
    exact = OPERATIONS["fma.rn"][1]
    same(execute("fma.rn.f16", "f16", [a, b, c]), expected_of("f16", exact, [a, b, c]))


@pytest.mark.parametrize("kind", KINDS)
def test_relu_keeps_nan(kind: str) -> None:
    inputs = floats(kind, 3, 300)
    plain = execute(f"fma.rn.{kind}", kind, inputs)
    values = decode(plain, kind).tolist()
    clamped = encode((v if math.isnan(v) else max(v, 0.0) or 0.0 for v in values), kind)
    same(execute(f"fma.rn.relu.{kind}", kind, inputs), clamped)


def test_sat_clamps_to_one_and_drops_nan() -> None:
    inputs = floats("f16", 2, 300)
    plain = execute("add.f16", "f16", inputs).tolist()
    clamped = [min(max(v, 0.0), 1.0) if v == v and v else 0.0 for v in plain]
    same(execute("add.sat.f16", "f16", inputs), np.array(clamped, np.float16))


def test_ftz_flushes_sources_and_results() -> None:
    def flushed(value: Array) -> Array:
        return np.where(np.abs(value) < 2.0**-14, np.copysign(np.float16(0), value), value)

    inputs = floats("f16", 2, 300)
    plain = execute("mul.f16", "f16", [flushed(v) for v in inputs])
    same(execute("mul.ftz.f16", "f16", inputs), flushed(plain))
    same(execute("neg.ftz.f16", "f16", inputs[:1]), -flushed(inputs[0]))


@pytest.mark.parametrize("kind", [*KINDS, "f16x2", "bf16x2"])
def test_sign_bits(kind: str) -> None:
    element = kind.removesuffix("x2")
    [a] = floats(element, 1)
    a = a[: len(a) // 2 * 2]
    bits = a.view(np.uint16)
    shaped = a.reshape(-1, 2) if kind.endswith("x2") else a
    negative = execute(f"neg.{kind}", kind, [shaped]).reshape(-1)
    same(np.ascontiguousarray(negative).view(np.uint16), bits ^ np.uint16(0x8000))
    absolute = execute(f"abs.{kind}", kind, [shaped]).reshape(-1)
    same(np.ascontiguousarray(absolute).view(np.uint16), bits & np.uint16(0x7FFF))


@pytest.mark.parametrize("wins", [False, True])
@pytest.mark.parametrize("root", ["min", "max"])
@pytest.mark.parametrize("kind", [*KINDS, "f16x2", "bf16x2"])
def test_extremes(kind: str, root: str, wins: bool) -> None:
    element, sign = kind.removesuffix("x2"), 1 if root == "max" else -1

    def extreme(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):
            return math.nan if wins or math.isnan(a) == math.isnan(b) else b if math.isnan(a) else a
        return max(a, b, key=lambda v: (sign * v, sign * math.copysign(1, v)))

    a, b = (value[: len(value) // 2 * 2] for value in floats(element, 2, 300))
    shaped = [v.reshape(-1, 2) if kind.endswith("x2") else v for v in (a, b)]
    found = execute(f"{root}{'.NaN' * wins}.{kind}", kind, shaped).reshape(-1)
    same(np.ascontiguousarray(found), expected_of(element, extreme, [a, b]))


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_what_a_gpu_gives(kind: str) -> None:
    infinite = encode([math.inf], kind)
    found = execute(f"sub.{kind}", kind, [infinite, infinite])
    assert found.view(np.uint16).tolist() == [0x7FFF]
    assert DTYPES[kind].itemsize == 2


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        ("add.rz.f16 %x, %a, %b;", "b16 b16 b16"),
        ("add.sat.bf16 %x, %a, %b;", "b16 b16 b16"),
        ("add.relu.f16 %x, %a, %b;", "b16 b16 b16"),
        ("fma.f16 %x, %a, %b, %c;", "b16 b16 b16 b16"),
        ("fma.rn.relu.sat.f16 %x, %a, %b, %c;", "b16 b16 b16 b16"),
        ("fma.rn.ftz.bf16 %x, %a, %b, %c;", "b16 b16 b16 b16"),
        ("div.f16 %x, %a, %b;", "b16 b16 b16"),
        ("neg.ftz.bf16 %x, %a;", "b16 b16"),
        ("min.ftz.bf16 %x, %a, %b;", "b16 b16 b16"),
        ("min.xorsign.abs.f16 %x, %a, %b;", "b16 b16 b16"),
        ("add.f16x2 %x, %a, %b;", "b32 b16 b32"),
    ],
)
def test_what_ptx_does_not_have_is_refused(statement: str, types: str) -> None:
    refuses(statement, *types.split())
