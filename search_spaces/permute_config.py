"""PermuteConfig: how many slots a CTA sorts; it follows from the number of slots, unsearched."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.permute_problem import PermuteProblem

_SMALL, _LARGE = 1024, 4096
# Every CTA reads the histograms of all chunks from L2, at about 64 bytes a clock and SM: 128 KB
# cost as much as ranking 4096 slots.
_MOST_COUNTERS = 1 << 15


@dataclass(frozen=True)
class PermuteConfig:
    """CTAs of ``threads`` threads, each for a ``chunk`` of slots."""

    threads: int
    chunk: int

    @property
    def compile_key(self) -> PermuteConfig:
        """What the machine code depends on: all of it."""
        return self


def permute_config(problem: PermuteProblem, tokens: int) -> PermuteConfig:
    """The config for ``tokens`` tokens.

    One CTA, hence one pass, as long as its chunk holds all slots. Beyond, small chunks that fill
    the SMs; large ones where the chunks' histograms would become the larger part of the work.
    """
    slots = tokens * problem.top_k
    counters = -(-slots // _SMALL) * problem.groups
    small = slots <= _SMALL or (slots > _LARGE and counters <= _MOST_COUNTERS)
    return PermuteConfig(threads=256, chunk=_SMALL if small else _LARGE)
