"""Fundamental and alternate types (PTX ISA, "Fundamental Types" and "Packed Data Types")."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Bits of one value. A predicate has no size in memory.
BITS: Mapping[str, int] = MappingProxyType(
    {
        "pred": 1,
        **{f"{kind}{bits}": bits for kind in "bus" for bits in (8, 16, 32, 64)},
        "b128": 128,
        "f16": 16,
        "f16x2": 32,
        "bf16": 16,
        "bf16x2": 32,
        "f32": 32,
        "tf32": 32,
        "f64": 64,
        "u16x2": 32,
        "s16x2": 32,
        "e4m3": 8,
        "e5m2": 8,
        "e4m3x2": 16,
        "e5m2x2": 16,
        # Elements of matrix fragments: they live packed, eight or 32 to a register.
        "u4": 4,
        "s4": 4,
        "b1": 1,
    }
)

# What a register or a variable may be declared as (PTX ISA, "Variable Declarations").
DECLARABLE = frozenset(
    name for name in BITS if name not in {"tf32", "u16x2", "s16x2", "u4", "s4", "b1"}
) - {"e4m3", "e5m2", "e4m3x2", "e5m2x2"}
STORABLE = DECLARABLE - {"pred"}


def size_of(type_name: str) -> int:
    """Bytes of one value of a storable type."""
    return BITS[type_name] // 8
