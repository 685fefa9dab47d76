"""What a build is asked for, and what comes out: Target, Binary, Built, BuildError."""

from __future__ import annotations

from dataclasses import dataclass, field

from search_spaces.errors import UserError
from templates.resources import Resources
from templates.variant import Variant


@dataclass(frozen=True)
class Target:
    """A virtual architecture for the front end and the real ones to make machine code for."""

    ptx_arch: str
    archs: tuple[str, ...]

    @classmethod
    def for_tier(cls, tier: str, gpu_arch: str | None = None) -> Target:
        """The tier's own architecture first, then the GPU's where it differs.

        >>> Target.for_tier("sm_75", "sm_90")
        Target(ptx_arch='compute_75', archs=('sm_75', 'sm_90'))
        """
        archs = (tier,) if gpu_arch in (None, tier) else (tier, gpu_arch)
        return cls(tier.replace("sm_", "compute_"), archs)


@dataclass(frozen=True)
class Binary:
    """Machine code of one entry for one real architecture, with the assembler's report."""

    entry: str
    arch: str
    cubin: bytes
    resources: Resources


@dataclass(frozen=True)
class Built:
    """A finished variant. ``seconds`` is its share of the CPU time of its batch: no part of what
    makes two builds equal."""

    variant: Variant
    ptx: str
    binaries: dict[str, Binary]
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class BuildError:
    """A variant that could not be built: a result, not an exception."""

    entry: str
    log: str


def require_built(result: Built | BuildError, name: object) -> Built:
    """The finished variant. Raises UserError with the first line of the compiler's log."""
    if isinstance(result, BuildError):
        raise UserError(f"{name} does not compile: {result.log.strip().splitlines()[0]}")
    return result
