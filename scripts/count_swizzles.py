"""Bank conflicts per k-step of every tile shape without swizzle, padded, and with each swizzle.

Counted by executing each kernel's PTX, and held against what search_spaces.layouts predicts from
the layout alone. Needs no GPU.

python scripts/count_swizzles.py [--only SHAPE ...] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import out_folder, write
from scripts.host_facts import host_facts
from scripts.swizzle_counts import TARGET, Conflicts, emulated, one_cta, predicted
from scripts.swizzle_tables import body
from search_spaces import Problem, SearchSpace, UserError, find_gpu, space_for
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.layouts import Operand, tile_layouts
from search_spaces.parameter import Parameter
from templates.built import BuildError, Built, require_built
from templates.compiler import compile_batch
from templates.grouped_gemm import render
from tuner.provenance import command_line

# What changes no address of the main loop. One stage and one fragment buffer fetch nothing ahead,
# so that totals are whole multiples of k-steps.
FIXED: Mapping[str, Any] = {
    "stages": 1, "fragments": 1, "acc": "f32", "cache": "ca", "min_ctas": 1, "split_k": 1,
    "group_m": 1, "combine": "none",
}  # fmt: skip
# Shown besides the smallest shape of each class: what users of the space meet.
LARGE = (
    "128x128x32_w2x2x1", "128x128x64_w2x4x1", "256x128x32_w4x2x1", "64x64x64_w2x2x1",
    "64x128x128_w2x4x1", "16x64x128_w1x4x1",
)  # fmt: skip
LARGEST = Problem("grouped_gemm", experts=1, n=256, k=256, top_k=1)  # every tile is of use
BATCH = 8

Shape = GroupedGemmConfig  # with smem "none", standing for all that differ in it alone


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 when a prediction is wrong, or 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        shapes = shapes_of_the_space()
        chosen = _named(shapes, options.only) if options.only else shapes
        found = count([config for shape in chosen for config in layouts_of(shape)])
        lines, data = body(found), [asdict(conflicts) for conflicts in found]
        facts = host_facts(command_line("scripts.count_swizzles", given))
        title = "Bank conflicts by shared-memory layout"
        write(out_folder(options.out), "swizzles", title, facts, lines, {"configs": data})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0 if all(conflicts.agree for conflicts in found) else 1


def shape_name(config: GroupedGemmConfig) -> str:
    """``128x128x32_w2x2x1_x8_mn``: tile, warps, k-step and order."""
    parts = str(config).split("_")
    return f"{parts[0]}_{parts[1]}_x{config.k_step}_{parts[6]}"


def layouts_of(shape: Shape) -> list[GroupedGemmConfig]:
    """The shape with each layout of the space that is valid for it."""
    smem = next(p for p in space_for("grouped_gemm").parameters if p.name == "smem")
    configs = [replace(shape, smem=str(value)) for value in smem.values]
    view = space_for("grouped_gemm").view(LARGEST, find_gpu("RTX 2080 Ti"))
    return [config for config in configs if not view.explain(config)]


@cache
def shapes_of_the_space() -> tuple[Shape, ...]:
    """Of each class the smallest shape among those with most layouts, then the LARGE ones.

    Shapes are of a class when their ldmatrix read alike, when warps along K slice equal rows alike,
    or when they have a tile's or warps' extent in common.
    """
    classes: dict[tuple[Any, ...], list[tuple[tuple[int, ...], Shape]]] = {}
    large = []
    for shape in _plain_shapes():
        rank = (-len(layouts_of(shape)), shape.tile_m * shape.tile_n, shape.threads)
        for key in _classes_of(shape):
            classes.setdefault(key, []).append((rank, shape))
        if str(shape).startswith(LARGE):
            large.append(shape)
    smallest = [min(some, key=lambda found: found[0])[1] for some in classes.values()]
    smallest.sort(key=lambda shape: (shape.tile_k, shape.k_step, shape.tile_m))
    return tuple(dict.fromkeys([*smallest, *large]))


def count(configs: Sequence[GroupedGemmConfig]) -> list[Conflicts]:
    """Compile and execute each. Raises UserError for one that does not compile or is wrong."""
    found = []
    for start in range(0, len(configs), BATCH):
        batch = configs[start : start + BATCH]
        variants = [render(one_cta(config), config) for config in batch]
        for config, built in zip(batch, compile_batch(variants, TARGET), strict=True):
            found.append(_count_one(config, built))
    return found


def _count_one(config: GroupedGemmConfig, built: Built | BuildError) -> Conflicts:
    loads, stores = emulated(config, require_built(built, config))
    return Conflicts(shape_name(config), str(config), loads, stores, *predicted(config))


def _plain_shapes() -> Iterator[Shape]:
    """All of the space without swizzle or padding, each with FIXED values."""
    space = space_for("grouped_gemm")
    values = {**{name: (value,) for name, value in FIXED.items()}, "smem": ("none",)}
    parameters = tuple(Parameter(p.name, values.get(p.name, p.values)) for p in space.parameters)
    narrow: SearchSpace = replace(space, parameters=parameters)
    yield from narrow.view(LARGEST, find_gpu("RTX 2080 Ti"))


def _classes_of(shape: Shape) -> list[tuple[Any, ...]]:
    layouts = tile_layouts(shape)

    def form(operand: Operand) -> tuple[int, int]:
        return operand.width, operand.k_groups

    reads = (shape.tile_k, shape.k_step, form(layouts.x), form(layouts.y))
    extents = [(name, getattr(shape, name)) for name in ("tile_m", "tile_n", "warps_m", "warps_n")]
    return [reads, (shape.tile_k, shape.warps_k), *extents]


def _named(shapes: Sequence[Shape], names: Sequence[str]) -> list[Shape]:
    known = {shape_name(shape): shape for shape in shapes}
    strange = [name for name in names if name not in known]
    if strange:
        raise UserError(f"--only {strange[0]}: no shape of a class; they are {', '.join(known)}")
    return [known[name] for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="SHAPE", help="e.g. 16x32x32_w1x1x1_x8_mn")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: $OUT, build/results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
