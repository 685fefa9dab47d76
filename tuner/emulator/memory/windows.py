"""Windows: where state spaces lie among generic addresses (PTX ISA, "Generic Addressing")."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access

GLOBAL_BASE = 0x7000_0000_0000
# A window is 2^40 bytes; global addresses are generic ones as they are.
WINDOWS = {"shared": 1 << 40, "local": 2 << 40, "const": 3 << 40, "param": 4 << 40, "global": 0}
_BITS = np.uint64(40)
_INSIDE = np.uint64((1 << 40) - 1)
_SPACES = {base >> 40: space for space, base in WINDOWS.items() if base}


def within(address: Array, space: str) -> Array:
    """Which generic addresses lie in the window of ``space``: bool [n] from uint64 [n]."""
    window = address >> _BITS
    if space == "global":
        return ~np.isin(window, np.array(list(_SPACES), np.uint64))
    inside: Array = window == np.uint64(WINDOWS[space] >> 40)
    return inside


def by_space(access: Access) -> Iterator[tuple[str, Array | None, Access]]:
    """Splits a generic access into (space, which of its lanes or None for all, the access there).

    Addresses become those of the space.
    """
    window = access.address >> _BITS
    if (window == window[0]).all():
        space = _SPACES.get(int(window[0]), "global")
        if space != "global":
            access.address = access.address & _INSIDE
        yield space, None, access
        return
    for space in WINDOWS:
        chosen = np.flatnonzero(within(access.address, space))
        if len(chosen):
            part = access.part(chosen)
            if space != "global":
                part.address &= _INSIDE
            yield space, chosen, part
