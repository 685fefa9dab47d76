"""Variant: one kernel to build, as source that can share a translation unit with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Source of one kernel and what its launch needs.

    ``source`` is a block in a namespace of its own that defines one ``extern "C"`` kernel named
    ``entry``; the ``#include`` lines it stands on are ``headers``, the same for every variant of
    a tier. ``smem_bytes`` is dynamic shared memory, ``tier`` the instruction set ("sm_75").
    """

    op: str
    entry: str
    source: str
    threads: int
    smem_bytes: int
    headers: tuple[str, ...]
    tier: str


def translation_unit(variants: Sequence[Variant]) -> str:
    """One source text for variants with equal headers: the headers once, then every block."""
    assert len({variant.headers for variant in variants}) == 1, "one translation unit, one prelude"
    return "\n".join([*variants[0].headers, *(variant.source for variant in variants), ""])
