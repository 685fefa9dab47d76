"""Small spaces and problems that the tests of this folder share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from search_spaces import (
    Constraint,
    GpuSpec,
    Parameter,
    Problem,
    SearchSpace,
    find_gpu,
    load_model,
)
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.parameter import Value

MIXTRAL = load_model("mixtral-8x7b").problem("gate_up")
TURING = find_gpu("RTX 2080 Ti")
HOPPER = find_gpu("H100")


@dataclass(frozen=True)
class Brick:
    """A config of a toy op: a brick of a size and colour."""

    width: int
    height: int
    colour: str
    hollow: bool


def _area(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    return f"area {c.width * c.height} exceeds 12" if c.width * c.height > 12 else None


def _hollow(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    return "a hollow brick is at least 2 wide" if c.hollow and c.width < 2 else None


def _red(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    return "red bricks are not hollow" if c.colour == "red" and c.hollow else None


BRICKS = SearchSpace(
    "bricks",
    Brick,
    (
        Parameter("width", (1, 2, 4, 8)),
        Parameter("colour", ("red", "grey", "white")),
        Parameter("height", (1, 3, 5)),
        Parameter("hollow", (False, True)),
    ),
    (
        Constraint("area", ("width", "height"), _area),
        Constraint("hollow", ("hollow", "width"), _hollow),
        Constraint("red", ("colour", "hollow"), _red),
    ),
    lambda problem: (Brick(8, 5, "red", True), Brick(2, 3, "grey", False)),
)


def reduced(**values: tuple[Value, ...]) -> SearchSpace:
    """grouped_gemm's space with fewer values for the named parameters."""
    parameters = tuple(
        Parameter(p.name, values.get(p.name, p.values)) for p in GROUPED_GEMM.parameters
    )
    return replace(GROUPED_GEMM, parameters=parameters)


# What neither the layouts nor the addresses in shared memory depend on.
ONE_OF_EACH: dict[str, tuple[Value, ...]] = {
    "acc": ("f32",),
    "stages": (2,),
    "cache": ("ca",),
    "group_m": (1,),
    "split_k": (1,),
    "min_ctas": (1,),
    "fragments": (1,),
}
LAYOUTS = reduced(**ONE_OF_EACH).view(MIXTRAL, TURING)
