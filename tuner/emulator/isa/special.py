"""Special: the registers that tell a thread where it is (PTX ISA, "Special Registers")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tuner.emulator.isa.values import WARP, Array

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

Special: TypeAlias = "Callable[[Cohort], Array]"  # uint64 [lanes], or [1] where all are alike


def _index(axis: int, *, cta: bool) -> Special:
    def read(cohort: Cohort) -> Array:
        extents = cohort.grid if cta else cohort.block
        index = cohort.ctas[cohort.slot] if cta else cohort.thread
        stride = int(np.prod(extents[:axis], dtype=np.int64))
        # Padding lanes lie beyond the last row: modulo keeps them in range too.
        return np.asarray(index // stride % extents[axis], np.uint64)

    return read


def _extent(axis: int, *, cta: bool) -> Special:
    return lambda cohort: np.array([(cohort.grid if cta else cohort.block)[axis]], np.uint64)


def _lane_mask(below: bool, equal: bool, above: bool) -> Special:
    def read(cohort: Cohort) -> Array:
        lane, bits = np.arange(WARP)[:, None], np.arange(WARP)
        chosen = (below & (bits < lane)) | (equal & (bits == lane)) | (above & (bits > lane))
        masks = (chosen * (1 << bits)).sum(axis=1)
        return np.tile(masks, cohort.warps).astype(np.uint64)

    return read


SPECIAL_REGISTERS: dict[str, Special] = {
    **{f"%tid.{name}": _index(axis, cta=False) for axis, name in enumerate("xyz")},
    **{f"%ctaid.{name}": _index(axis, cta=True) for axis, name in enumerate("xyz")},
    **{f"%ntid.{name}": _extent(axis, cta=False) for axis, name in enumerate("xyz")},
    **{f"%nctaid.{name}": _extent(axis, cta=True) for axis, name in enumerate("xyz")},
    "%laneid": lambda cohort: np.tile(np.arange(WARP, dtype=np.uint64), cohort.warps),
    "%warpid": lambda cohort: np.asarray(cohort.thread // WARP, np.uint64),
    "%nwarpid": lambda cohort: np.array([cohort.width // WARP], np.uint64),
    "WARP_SZ": lambda cohort: np.array([WARP], np.uint64),
    "%lanemask_eq": _lane_mask(below=False, equal=True, above=False),
    "%lanemask_lt": _lane_mask(below=True, equal=False, above=False),
    "%lanemask_le": _lane_mask(below=True, equal=True, above=False),
    "%lanemask_gt": _lane_mask(below=False, equal=False, above=True),
    "%lanemask_ge": _lane_mask(below=False, equal=True, above=True),
}
