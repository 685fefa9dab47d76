"""SmallGate: the same kernel for fewer hidden states, that a CPU can emulate in a second.

H is baked into a kernel, and whether it is a whole multiple of what a CTA multiplies at a time
decides which code the compiler keeps: a small problem leaves the same remainder. All that experts
are chosen by stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem


@dataclass(frozen=True)
class SmallGate:
    """``tokens`` fill a block and begin another one."""

    problem: GateProblem
    tokens: int


def small_gate(problem: GateProblem, *configs: GateConfig) -> SmallGate:
    """A problem of the same code, for which all ``configs``, valid for ``problem``, are valid too.

    H is enough to go once round the ring of stages, and for a step of every warp in every split;
    but never more than the problem itself has.
    """
    tile_t = max(config.tile_t for config in configs)
    tokens = tile_t + max(1, tile_t // 2)
    if not problem.hidden:
        return SmallGate(replace(problem, label="small"), tokens)
    step = max(config.tile_k for config in configs)  # powers of two: remainders by less stay too
    deepest = max(map(_depth, configs))
    hidden = min(problem.hidden, -(-deepest // step) * step + problem.hidden % step)
    return SmallGate(replace(problem, hidden=hidden, label="small"), tokens)


def _depth(config: GateConfig) -> int:
    """Fewest elements of H that show all a config does there."""
    if config.router == "fma":
        return config.tile_k * config.warps_k * config.split
    return config.tile_k * max(config.stages + 1, 2 * config.split)
