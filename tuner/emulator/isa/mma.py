"""mma: warp-level matrix multiply-accumulate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.fragments import BLOCK_BITS, BLOCK_ROWS, ELEMENT_BITS, fragment
from tuner.emulator.isa.registry import Gathering, Step, instruction, only
from tuner.emulator.isa.shape import MmaShape, mma_shape
from tuner.emulator.isa.values import Array
from tuner.emulator.isa.warp import check_whole_warps, elements, expect_operands
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

# Shapes that the manual has for a type of A, and the accumulators that go with it.
_SHAPES = {
    ("f16",): ("m16n8k8", "m16n8k16"),
    ("bf16",): ("m16n8k8", "m16n8k16"),
    ("tf32",): ("m16n8k4", "m16n8k8"),
    ("s8", "u8"): ("m8n8k16", "m16n8k16", "m16n8k32"),
    ("s4", "u4"): ("m8n8k32", "m16n8k32", "m16n8k64"),
}
_ACCUMULATORS = {"f16": ("f16", "f32"), "bf16": ("f32",), "tf32": ("f32",)}
_INTEGER = ("s32",)

# What a register of C adds to its part of the product A B; the result in the same type's bits.
_Accumulate = Callable[[Array, Array], Array]


def _add_f32(product: Array, raw: Array) -> Array:
    total: Array = product + raw.view(np.float32).reshape(product.shape)
    return total.view(np.uint32)


def _add_f16(product: Array, raw: Array) -> Array:
    """Summed in float32 and rounded once."""
    total = raw.view(np.float16).astype(np.float32).reshape(product.shape)
    total += product
    return total.astype(np.float16).view(np.uint32)


def _add_s32(product: Array, raw: Array) -> Array:
    """Wraps; the product of at most 64 pairs of bytes is exact in float32."""
    return (product.astype(np.int32) + raw.view(np.int32).reshape(product.shape)).view(np.uint32)


def _add_s32_saturated(product: Array, raw: Array) -> Array:
    limits = np.iinfo(np.int32)
    wide = product.astype(np.int64) + raw.view(np.int32).reshape(product.shape)
    kept: Array = np.clip(wide, limits.min, limits.max).astype(np.int32)
    return kept.view(np.uint32)


def _checked_shape(found: Instruction, bind: Binder) -> MmaShape:
    """Raises PtxError for what the manual or the emulator does not have."""
    shape = mma_shape(found.modifiers)
    wanted = ("sync", "aligned", str(shape), "row", "col")
    only(found, (*wanted, "satfinite"))
    if shape is None or len(found.types) != 4 or found.modifiers[:5] != wanted:
        raise bind.error(f"'{found.opcode}' is not mma.sync.aligned.SHAPE.row.col.D.A.B.C")
    d_type, a_type, b_type, c_type = found.types
    for family, shapes in _SHAPES.items():
        if a_type in family and b_type in family and str(shape) in shapes:
            accumulators = _ACCUMULATORS.get(a_type, _INTEGER)
            if c_type != d_type or c_type not in accumulators:
                raise bind.error(f"'{found.opcode}' accumulates in .{' or .'.join(accumulators)}")
            if found.has("satfinite") and accumulators is not _INTEGER:
                raise bind.error(f"'{found.opcode}': .satfinite is for integers")
            return shape
    known = ", ".join(f"{'/'.join(family)}: {' '.join(s)}" for family, s in _SHAPES.items())
    raise bind.error(f"the emulator does not know the shape of '{found.opcode}' (it has {known})")


def _check_registers(found: Instruction, bind: Binder, shape: MmaShape) -> None:
    """Raises PtxError unless each fragment has the registers that the shape needs."""
    expect_operands(found, bind, 4)
    row_blocks = shape.m // BLOCK_ROWS
    k_blocks = shape.k * ELEMENT_BITS[found.types[1]] // BLOCK_BITS
    c = row_blocks * (1 if found.types[0] == "f16" else 2)
    wanted = (c, row_blocks * k_blocks, k_blocks, c)
    given = tuple(len(elements(operand)) for operand in found.operands)
    if given != wanted:
        raise bind.error(f"'{found.opcode}' takes {wanted} registers for D, A, B, C, not {given}")


def _parts(product: Array, *, packed: bool) -> list[Array]:
    """Views of the product [warps, m, 8], one for each register of C, in its lanes' order.

    A lane holds two neighbours of a row: ``packed`` in one register or in two.
    """
    blocks = product.reshape(len(product), -1, BLOCK_ROWS, BLOCK_ROWS)
    rows = [blocks[:, i] for i in range(blocks.shape[1])]
    if packed:
        return rows
    return [row[:, :, parity::2] for row in rows for parity in (0, 1)]


@instruction("mma", section="Warp Level Matrix Multiply-Accumulate", gathers=Gathering.WARP)
def assemble(found: Instruction, bind: Binder) -> Step:
    """``mma.sync``: D = A B + C for every warp.

    Products are exact, their sum is taken in float32, an f16 accumulator is rounded once an
    instruction; the hardware's order of summation is not documented.
    """
    shape = _checked_shape(found, bind)
    _check_registers(found, bind, shape)
    d, a, b, c = found.operands
    left = fragment(bind, a, found.types[1], shape.m // BLOCK_ROWS)
    right = fragment(bind, b, found.types[2], None)
    targets = [bind.target(register, "b32") for register in elements(d)]
    accumulators = [bind.source(register, "b32") for register in elements(c)]
    accumulate: _Accumulate = {"f32": _add_f32, "f16": _add_f16, "s32": _add_s32}[found.types[0]]
    if found.has("satfinite"):
        accumulate = _add_s32_saturated
    packed = found.types[0] == "f16"

    def step(cohort: Cohort) -> None:
        check_whole_warps(cohort, found)
        # Lanes that do not execute may hold anything: their overflows are nobody's concern.
        with np.errstate(all="ignore"):
            product = np.matmul(left.matrix(cohort), right.matrix(cohort))
            values = [
                accumulate(part, cohort.broadcast(source(cohort)))
                for part, source in zip(_parts(product, packed=packed), accumulators, strict=True)
            ]
        for target, value in zip(targets, values, strict=True):
            target(cohort, value.reshape(cohort.lanes))

    return step
