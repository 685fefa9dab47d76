"""mma and ldmatrix against the figures of the PTX manual, element by element, and NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.bench import Bench
from tests.emulator.ptx_kernel import run
from tuner.emulator import EmulationFault, FaultKind
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import PtxError

WARPS = 3

# Where element i of a lane's A fragment lies, (row, k), and of its B fragment, k (its column is
# the group); ``g`` is lane / 4 and ``t`` lane % 4. From the PTX ISA,
# "Matrix Fragments" for each shape.
Place = Callable[[int, int, int], tuple[int, int]]
PLACES: dict[str, tuple[Place, Callable[[int, int], int]]] = {
    "m16n8k8 16": (
        lambda g, t, i: (g if i < 2 else g + 8, t * 2 + i % 2),
        lambda t, i: t * 2 + i,
    ),
    "m16n8k16 16": (
        lambda g, t, i: (g if i in (0, 1, 4, 5) else g + 8, t * 2 + i % 2 + (8 if i >= 4 else 0)),
        lambda t, i: t * 2 + i % 2 + (8 if i >= 2 else 0),
    ),
    "m16n8k4 32": (lambda g, t, i: (g + 8 * i, t), lambda t, i: t),
    "m16n8k8 32": (
        lambda g, t, i: (g if i in (0, 2) else g + 8, t if i < 2 else t + 4),
        lambda t, i: t + 4 * i,
    ),
    "m8n8k16 8": (lambda g, t, i: (g, t * 4 + i), lambda t, i: t * 4 + i),
    "m16n8k16 8": (
        lambda g, t, i: (g if i < 4 else g + 8, t * 4 + i % 4),
        lambda t, i: t * 4 + i,
    ),
    "m16n8k32 8": (
        lambda g, t, i: (
            g if i < 4 or 8 <= i < 12 else g + 8,
            t * 4 + i % 4 + (16 if i >= 8 else 0),
        ),
        lambda t, i: t * 4 + i % 4 + (16 if i >= 4 else 0),
    ),
    "m8n8k32 4": (lambda g, t, i: (g, t * 8 + i), lambda t, i: t * 8 + i),
    "m16n8k32 4": (
        lambda g, t, i: (g if i < 8 else g + 8, t * 8 + i % 8),
        lambda t, i: t * 8 + i,
    ),
    "m16n8k64 4": (
        lambda g, t, i: (
            g if i < 8 or 16 <= i < 24 else g + 8,
            t * 8 + i % 8 + (32 if i >= 16 else 0),
        ),
        lambda t, i: t * 8 + i % 8 + (32 if i >= 8 else 0),
    ),
}
BITS = {"f16": 16, "bf16": 16, "tf32": 32, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "f32": 32, "s32": 32}
CASES = [
    *(("f16", a, "f16", shape) for a in ("f16",) for shape in ("m16n8k8", "m16n8k16")),
    *(("f32", a, a, shape) for a in ("f16", "bf16") for shape in ("m16n8k8", "m16n8k16")),
    *(("f32", "tf32", "tf32", shape) for shape in ("m16n8k4", "m16n8k8")),
    *(
        ("s32", a, b, shape)
        for a, b in (("s8", "s8"), ("u8", "u8"), ("s8", "u8"), ("u8", "s8"))
        for shape in ("m8n8k16", "m16n8k16", "m16n8k32")
    ),
    *(
        ("s32", a, b, shape)
        for a, b in (("s4", "s4"), ("u4", "u4"), ("s4", "u4"), ("u4", "s4"))
        for shape in ("m8n8k32", "m16n8k32", "m16n8k64")
    ),
]


def extents(shape: str) -> tuple[int, int, int]:
    m, rest = shape[1:].split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


def encode(value: float, type_name: str) -> int:
    """Its bits; the values of these tests are exact in their type."""
    if type_name == "f16":
        return int(np.array(value, np.float16).view(np.uint16))
    if type_name in ("f32", "tf32", "bf16"):
        bits = int(np.array(value, np.float32).view(np.uint32))
        return bits >> 16 if type_name == "bf16" else bits
    return int(value) % (1 << BITS[type_name])


def values(rng: np.random.Generator, type_name: str, shape: tuple[int, ...]) -> Array:
    """Random values that the type holds exactly, in float64."""
    if type_name in ("f16", "f32"):
        return rng.standard_normal(shape).astype(np.float16).astype(np.float64)
    if type_name in ("bf16", "tf32"):
        drawn = rng.standard_normal(shape).astype(np.float32).view(np.uint32)
        kept: Array = drawn & np.uint32(0xFFFF0000)
        return kept.view(np.float32).astype(np.float64)
    if type_name == "s32":
        return rng.integers(-(1 << 20), 1 << 20, shape).astype(np.float64)
    bits = BITS[type_name]
    low = -(1 << bits - 1) if type_name[0] == "s" else 0
    whole: Array = rng.integers(low, low + (1 << bits), shape).astype(np.float64)
    return whole


def c_place(g: int, t: int, i: int) -> tuple[int, int]:
    return (g if i < 2 else g + 8, t * 2 + i % 2)


def pack(matrix: Array, type_name: str, count: int, place: Place) -> list[Array]:
    """Registers [lanes] with ``count`` elements a lane, the first in the lowest bits."""
    bits = BITS[type_name]
    registers = np.zeros((count * bits // 32, 32 * len(matrix)), np.uint32)
    for warp in range(len(matrix)):
        for lane in range(32):
            for i in range(count):
                row, column = place(lane // 4, lane % 4, i)
                element = encode(matrix[warp, row, column], type_name)
                registers[i * bits // 32, 32 * warp + lane] |= np.uint32(element << i * bits % 32)
    return list(registers)


def unpack(registers: list[Array], type_name: str, rows: int) -> Array:
    """D as the manual's figure has it, [warps, rows, 8] in float64."""
    words = np.stack(registers, axis=1)  # [lanes, registers]: a lane's elements in order
    dtype = {"f16": np.float16, "f32": np.float32, "s32": np.int32}[type_name]
    elements = np.ascontiguousarray(words).view(dtype)
    matrix = np.full((len(words) // 32, rows, 8), np.nan)
    for lane in range(len(words)):
        for i in range(elements.shape[1]):
            row, column = c_place(lane % 32 // 4, lane % 4, i)
            matrix[lane // 32, row, column] = elements[lane, i]
    return matrix


class Multiply:
    """One mma on random matrices: ``d`` is what it gave, ``a``, ``b``, ``c`` what it got."""

    def __init__(self, d_type: str, a_type: str, b_type: str, shape: str, suffix: str = "") -> None:
        self.rng = np.random.default_rng(7)
        self.d_type, self.a_type, self.b_type = d_type, a_type, b_type
        self.m, _, self.k = extents(shape)
        self.a = values(self.rng, a_type, (WARPS, self.m, self.k))
        self.b = values(self.rng, b_type, (WARPS, self.k, 8))
        self.c = values(self.rng, d_type, (WARPS, self.m, 8))
        self.a_place, self.b_place = PLACES[f"{shape} {BITS[a_type]}"]
        counts = [len(registers) for registers in self.registers()]
        names = iter(range(40))
        a, b, c, d = ([f"%r{next(names)}" for _ in range(n)] for n in (*counts, counts[2]))
        self.names = [*a, *b, *c]
        self.result = d
        self.lists = [f"{{{', '.join(names)}}}" for names in (d, a, b, c)]
        self.bench = Bench(
            f"mma.sync.aligned.{shape}.row.col{suffix}.{d_type}.{a_type}.{b_type}.{d_type} "
            f"{', '.join(self.lists)};",
            WARPS,
        )

    def registers(self) -> list[list[Array]]:
        a_count, b_count = self.m * self.k // 32, self.k * 8 // 32
        return [
            pack(self.a, self.a_type, a_count, self.a_place),
            pack(self.b, self.b_type, b_count, lambda g, t, i: (self.b_place(t, i), g)),
            pack(self.c, self.d_type, self.m * 8 // 32, c_place),
        ]

    def run(self, mask: Array | None = None) -> Array:
        raws = [raw for registers in self.registers() for raw in registers]
        self.bench.run(dict(zip(self.names, raws, strict=True)), mask)
        return unpack([self.bench[name] for name in self.result], self.d_type, self.m)

    @property
    def exact(self) -> Array:
        result: Array = np.matmul(self.a, self.b) + self.c
        return result

    @property
    def tolerance(self) -> Array:
        """What rounding may do: of each addition in float32, and of one result in f16."""
        if self.d_type == "s32":
            return np.zeros(())
        size = np.matmul(abs(self.a), abs(self.b)) + abs(self.c)
        result = abs(self.exact) * (2.0**-11 if self.d_type == "f16" else 0.0)
        allowed: Array = size * self.k * 2.0**-24 + result
        return allowed


@pytest.mark.parametrize(("d_type", "a_type", "b_type", "shape"), CASES)
def test_mma_multiplies_what_the_figures_say(
    d_type: str, a_type: str, b_type: str, shape: str
) -> None:
    multiply = Multiply(d_type, a_type, b_type, shape)
    found = multiply.run()
    assert (abs(found - multiply.exact) <= multiply.tolerance).all()


def test_mma_leaves_warps_that_do_not_execute_alone() -> None:
    multiply = Multiply("f16", "f16", "f16", "m16n8k8")
    multiply.a[1] = 65504.0  # sums that overflow, in the warp that is not there
    multiply.c[1] = 65504.0
    old = {name: np.full(32 * WARPS, 0x1234, np.uint32) for name in multiply.result}
    multiply.bench.run(old)
    mask = np.repeat([True, False, True], 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = multiply.run(mask)
    right = abs(found - multiply.exact) <= multiply.tolerance
    assert right[[0, 2]].all()


def test_mma_keeps_the_destination_of_idle_warps() -> None:
    multiply = Multiply("f32", "f16", "f16", "m16n8k8")
    bench = multiply.bench
    for name in multiply.result:
        bench.cohort.registers[bench.slots[name]] = np.full(32 * WARPS, 0x1234, np.uint32)
    multiply.run(np.repeat([False, True, False], 32))
    for name in multiply.result:
        assert (bench[name][:32] == 0x1234).all()
        assert (bench[name][64:] == 0x1234).all()
        assert (bench[name][32:64] != 0x1234).any()


def test_mma_sees_a_fragment_that_was_written_again() -> None:
    multiply = Multiply("f32", "f16", "f16", "m16n8k16")
    multiply.run()
    multiply.a = -multiply.a
    multiply.b[0] *= 2
    assert (abs(multiply.run() - multiply.exact) <= multiply.tolerance).all()
    multiply.b[2] = 0
    assert (abs(multiply.run() - multiply.exact) <= multiply.tolerance).all()


def test_mma_may_overwrite_its_own_operands() -> None:
    """D = C = A's registers: the old values count."""
    multiply = Multiply("f16", "f16", "f16", "m16n8k8")
    a0, a1, b, *_ = multiply.names
    opcode = "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16"
    bench = Bench(f"{opcode} {{{a0}, {a1}}}, {{{a0}, {a1}}}, {{{b}}}, {{{a0}, {a1}}};", WARPS)
    raws = [raw for registers in multiply.registers() for raw in registers][:3]
    bench.run(dict(zip([a0, a1, b], raws, strict=True)))
    multiply.c = multiply.a  # an 8-wide A lies in its registers as C does
    found = unpack([bench[a0], bench[a1]], "f16", 16)
    assert (abs(found - multiply.exact) <= multiply.tolerance).all()


def test_mma_handles_infinities_and_overflow() -> None:
    multiply = Multiply("f16", "f16", "f16", "m16n8k8")
    multiply.a[0, 0], multiply.b[0, :, 0], multiply.c[0, 0] = 100.0, 100.0, 0.0  # 80,000
    multiply.c[1, 3, 4] = -np.inf
    multiply.a[2, 5, 6] = np.nan
    found = multiply.run()
    assert found[0, 0, 0] == np.inf
    assert found[1, 3, 4] == -np.inf
    assert np.isnan(found[2, 5]).all()
    assert np.isfinite(found[2, 4]).all()


def test_f16_sums_are_rounded_once() -> None:
    """1 + eight times 2**-12: rounding every addition to f16 would lose them all."""
    multiply = Multiply("f16", "f16", "f16", "m16n8k8")
    multiply.a[:], multiply.b[:], multiply.c[:] = 2.0**-6, 2.0**-6, 1.0
    assert (multiply.run() == 1.0 + 2.0**-9).all()


def test_tf32_ignores_the_lower_bits() -> None:
    multiply = Multiply("f32", "tf32", "tf32", "m16n8k8")
    expected = multiply.run()
    bench = multiply.bench
    for name in multiply.names[:6]:
        slot = bench.slots[name]
        bench.cohort.registers[slot] = bench.cohort.registers[slot] | np.uint32(0x1FFF)
    bench.run({})
    assert (unpack([bench[name] for name in multiply.result], "f32", 16) == expected).all()


@pytest.mark.parametrize(("suffix", "expected"), [("", -(2**31) + 15), (".satfinite", 2**31 - 1)])
def test_integer_sums_wrap_or_saturate(suffix: str, expected: int) -> None:
    multiply = Multiply("s32", "s8", "s8", "m8n8k16", suffix)
    multiply.a[:], multiply.b[:], multiply.c[:] = 1, 1, 2**31 - 1
    assert (multiply.run() == expected).all()
    multiply.a[:], multiply.c[:] = -1, -(2**31)
    assert (multiply.run() == (-(2**31) if suffix else 2**31 - 16)).all()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("m8n8k4.row.col.f32.f16.f16.f32 {%f0}, {%r0}, {%r1}, {%f1}", "shape"),
        ("m16n8k8.col.row.f32.f16.f16.f32 {%f0}, {%r0}, {%r1}, {%f1}", "row.col"),
        ("m16n8k8.row.col.f32.f16.f16.f16 {%f0}, {%r0}, {%r1}, {%f1}", "accumulates in .f16 or"),
        ("m16n8k8.row.col.f16.bf16.bf16.f16 {%r0}, {%r0}, {%r1}, {%r1}", "accumulates in .f32"),
        ("m16n8k8.row.col.f32.f16.bf16.f32 {%f0}, {%r0}, {%r1}, {%f1}", "shape"),
        ("m16n8k8.row.col.f16.f16.f16.f16 {%r0}, {%r0,%r1}, {%r1}, {%r2,%r3}", "(2, 2, 1, 2)"),
        ("m16n8k8.row.col.satfinite.f16.f16.f16.f16 {%r0,%r4},{%r0,%r1},{%r1},{%r2,%r3}", "sat"),
        ("m16n8k8.row.col.f16.f16.f16.f16 {%r0,%r4},{%r0,1},{%r1},{%r2,%r3}", "32-bit registers"),
        ("m16n8k8.row.col.relu.f16.f16.f16.f16 {%r0,%r4},{%r0,%r5},{%r1},{%r2,%r3}", ".relu"),
        ("m16n8k8.row.col.f16 {%r0,%r4},{%r0,%r5},{%r1},{%r2,%r3}", "D.A.B.C"),
    ],
)
def test_unknown_mma_is_an_error(statement: str, says: str) -> None:
    with pytest.raises(PtxError) as error:
        Bench(f"mma.sync.aligned.{statement};", 1)
    assert says in str(error.value)
    assert str(error.value).startswith("PTX line ")


def shared_memory() -> Array:
    """64 KiB in which each 16-bit element holds its own index plus one, modulo a prime."""
    return (np.arange(1 << 15) % 65521 + 1).astype(np.uint16).view(np.uint8)


def row_addresses(rng: np.random.Generator, lanes: int) -> Array:
    return (rng.permutation(1 << 12)[:lanes] * 16).astype(np.uint64)


@pytest.mark.parametrize("matrices", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
@pytest.mark.parametrize("space", [".shared", ".shared::cta"])
def test_ldmatrix_hands_out_what_the_figures_say(matrices: int, trans: str, space: str) -> None:
    rng = np.random.default_rng(3)
    content = shared_memory()
    destination = ", ".join(f"%r{i}" for i in range(matrices))
    bench = Bench(
        f"ldmatrix.sync.aligned.m8n8.x{matrices}{trans}{space}.b16 {{{destination}}}, [%rd1+32];",
        WARPS,
        content,
    )
    address = row_addresses(rng, 32 * WARPS) % np.uint64(65504)
    lanes = np.arange(32 * WARPS)
    address[lanes % 32 >= 8 * matrices] = 1 << 40  # of no interest to the hardware
    bench.run({"%rd1": address})
    halves = content.view(np.uint16)
    for lane in lanes:
        group, thread = divmod(int(lane) % 32, 4)
        for i in range(matrices):
            word = int(bench[f"%r{i}"][lane])
            for part in (0, 1):
                row, column = (group, 2 * thread + part)
                if trans:
                    row, column = column, row
                giver = int(lane) // 32 * 32 + 8 * i + row
                element = halves[(int(address[giver]) + 32) // 2 + column]
                assert word >> 16 * part & 0xFFFF == element


def test_ldmatrix_of_some_warps_keeps_the_others() -> None:
    bench = Bench(
        "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0, %r1}, [%r9];", WARPS, shared_memory()
    )
    old = np.full(32 * WARPS, 0xABCD1234, np.uint32)
    address = (np.arange(32 * WARPS) * 16).astype(np.uint32)
    address[32:64] = 0xFFFFFFF0
    mask = np.repeat([True, False, True], 32)
    bench.run({"%r0": old, "%r1": old, "%r9": address}, mask)
    assert (bench["%r0"][32:64] == 0xABCD1234).all()
    first = shared_memory().view(np.uint32)
    assert bench["%r0"][0] == first[0]
    assert bench["%r1"][0] == first[8 * 4]
    assert bench["%r0"][64 + 5] == first[64 * 4 + 5]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("m8n8.x2.shared.b16 {%r0}, [%r9]", "2 registers, not 1"),
        ("m8n8.shared.b16 {%r0}, [%r9]", ".x1, .x2 or .x4"),
        ("m8n16.x1.shared.b16 {%r0}, [%r9]", ".m8n16"),
        ("m8n8.x1.global.b16 {%r0}, [%r9]", ".global"),
        ("m8n8.x1.shared.b8 {%r0}, [%r9]", "b16"),
        ("m8n8.x1.shared.b16 {%r0}, %r9", "address"),
    ],
)
def test_unknown_ldmatrix_is_an_error(statement: str, says: str) -> None:
    with pytest.raises(PtxError) as error:
        Bench(f"ldmatrix.sync.aligned.{statement};", 1)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "statement",
    [
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [s];",
        "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r2, %r3}, {%r4}, {%r5}, {%r2, %r3};",
    ],
)
@pytest.mark.parametrize("how", ["left", "never were", "do not"])
def test_a_warp_that_is_not_whole_is_a_fault(statement: str, how: str) -> None:
    """Undefined if any thread of the warp has left or does not execute the instruction."""
    body = "mov.u32 %r4, 0; mov.u32 %r5, 0; st.shared.u32 [s], %r4; setp.ge.u32 %p1, %r0, 40;"
    body += {
        "left": f"@%p1 exit; {statement}",
        "never were": statement,
        "do not": f"@!%p1 {statement}",
    }[how]
    threads = 40 if how == "never were" else 64
    variables = ".shared .align 16 .b8 s[16];"
    with pytest.raises(EmulationFault, match=r"thread \(32,0,0\) .* 24 threads") as caught:
        run(body, threads=threads, variables=variables, checks=False)
    assert caught.value.kind is FaultKind.BARRIER
