"""Values: PTX's fundamental types as NumPy's."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Dim3: TypeAlias = tuple[int, int, int]

WARP = 32

# bf16 has no NumPy type: it travels as its 16 bits.
DTYPES: dict[str, np.dtype[Any]] = {
    "pred": np.dtype(np.bool_),
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(np.uint16),
    "tf32": np.dtype(np.uint32),
}
# Two values in a 32-bit register: arrays of shape [lanes, 2], the lower half first.
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "u16x2": "u16", "s16x2": "s16"}


def raw_dtype(type_name: str) -> np.dtype[Any]:
    """How a register of that type is stored: predicates as bool, all else as unsigned bits."""
    if type_name in PACKED:
        return np.dtype(np.uint32)
    dtype = DTYPES[type_name]
    return dtype if dtype.kind == "b" else np.dtype(f"u{dtype.itemsize}")
