"""Bugs that the templates do not have, planted in the source they render."""

from __future__ import annotations

from dataclasses import dataclass, replace

from templates import Variant


@dataclass(frozen=True)
class Bug:
    """``before`` is in the rendered source and becomes ``after``."""

    before: str
    after: str


LEFT_OUT = Bug("kSteps = 4", "kSteps = 2")  # half of the products of a tile of K = 32
BEYOND = Bug("{a, b, c,", "{a, b + size_t(experts) * Variant::kN * Variant::kK, c,")


def plant(variant: Variant, bug: Bug) -> Variant:
    """Another kernel, of another name: the cache goes by it."""
    assert bug.before in variant.source
    entry = f"{variant.entry}_planted"
    # In the kernel's body, Variant is the one in the namespace of its layouts.
    after = bug.after.replace("Variant::", f"{variant.entry}_layouts::Variant::")
    source = variant.source.replace(bug.before, after).replace(variant.entry, entry)
    return replace(variant, entry=entry, source=source)
