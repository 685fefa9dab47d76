"""The tables of scripts/count_swizzles.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scripts.bench_report import table
from scripts.swizzle_counts import Access, Conflicts
from search_spaces import space_for
from search_spaces.grouped_gemm import GroupedGemmConfig


def body(found: Sequence[Conflicts]) -> list[str]:
    """Rates by tile_k, conflicts per k-step by shape, and whether the layouts predict them."""
    wrong = [conflicts.config for conflicts in found if not conflicts.agree]
    verdict = f"not of {', '.join(wrong)}" if wrong else "of all of them, exactly"
    return [
        "Conflicts are wavefronts beyond those that the bytes need, counted by executing each",
        "kernel's PTX for one CTA. A cell holds those of `ldmatrix` + those of the stores into the",
        "ring; a dash is a layout that the space excludes.",
        "",
        f"{len(found)} configs. `search_spaces.layouts` predicts the conflicts {verdict}.",
        "",
        "## Per needed wavefront",
        "",
        *rates(found),
        "",
        "## Per k-step of a CTA",
        "",
        "The columns before hold the wavefronts that a k-step needs.",
        "",
        *per_step(found),
    ]


def rates(found: Sequence[Conflicts]) -> list[str]:
    """tile_k x layout; a range where shapes differ."""
    layouts = _layouts()
    rows = []
    for tile_k in sorted({_config(one).tile_k for one in found}):
        some = [one for one in found if _config(one).tile_k == tile_k]
        cells = []
        for smem in layouts:
            those = [one for one in some if _config(one).smem == smem]
            parts = (_span(those, _loads), _span(those, _stores))
            cells.append(" + ".join(parts) if those else "–")
        rows.append([str(tile_k), *cells])
    return table(["tile_k", *layouts], rows)


def per_step(found: Sequence[Conflicts]) -> list[str]:
    """Shape x layout."""
    layouts = _layouts()
    rows = []
    for shape in dict.fromkeys(one.shape for one in found):
        by_layout = {_config(one).smem: one for one in found if one.shape == shape}
        any_one = next(iter(by_layout.values()))
        cells = [_cell(by_layout.get(smem)) for smem in layouts]
        needed = [_number(any_one.loads.needed), _number(any_one.stores.needed)]
        rows.append([f"`{shape}`", *needed, *cells])
    return table(["shape", "ldmatrix", "stores", *layouts], rows)


def _layouts() -> list[str]:
    parameters = space_for("grouped_gemm").parameters
    return [str(value) for p in parameters if p.name == "smem" for value in p.values]


def _config(one: Conflicts) -> GroupedGemmConfig:
    return GroupedGemmConfig.parse(one.config)


def _loads(one: Conflicts) -> Access:
    return one.loads


def _stores(one: Conflicts) -> Access:
    return one.stores


def _cell(one: Conflicts | None) -> str:
    if one is None:
        return "–"
    return f"{_number(one.loads.conflicts)} + {_number(one.stores.conflicts)}"


def _span(those: Sequence[Conflicts], access: Callable[[Conflicts], Access]) -> str:
    values = sorted({access(one).rate for one in those})
    return "–".join(dict.fromkeys(map(_number, values[:1] + values[-1:])))


def _number(value: float) -> str:
    return f"{value:g}"
