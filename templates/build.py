"""Build a batch through the cache: what is missing is compiled, then kept."""

from __future__ import annotations

from collections.abc import Sequence

from templates.built import BuildError, Built, Target
from templates.cache import KernelCache
from templates.toolchain import toolchain
from templates.variant import Variant


def build_batch(
    cache: KernelCache, variants: Sequence[Variant], target: Target
) -> list[Built | BuildError]:
    """Build variants of one tier as one translation unit; results in their order.

    A variant whose PTX is in the cache is only linked. Raises UserError when the toolchain is
    incomplete or the cache cannot be written.
    """
    toolchain()  # says what is missing in one line, where the import below could not
    from templates.compiler import compile_batch, link_missing

    results: dict[Variant, Built | BuildError] = {}
    for variant in variants:
        known = cache.load_any(variant, target.ptx_arch)
        if known is not None:
            results[variant] = link_missing(known, target)
    unknown = [variant for variant in dict.fromkeys(variants) if variant not in results]
    if unknown:
        results.update(zip(unknown, compile_batch(unknown, target), strict=True))
    for built in results.values():
        if isinstance(built, Built):
            cache.store(built, target.ptx_arch)
    return [results[variant] for variant in variants]
