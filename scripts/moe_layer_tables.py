"""Results of bench_moe_layer as Markdown tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.bench_report import table
from scripts.moe_layer_contest import Entry
from scripts.probe_gpu import Ceilings
from search_spaces import Skew
from search_spaces.models import ModelShape

OURS, HUMMING = "Light-MoE", "Humming sm_75"
FEW_TOKENS = 64
CLOSE_TO_LIMIT, TIE = 0.9, 1.03


@dataclass(frozen=True)
class Result:
    """All contestants of one model, skew and number of tokens T.

    ``active`` counts routed experts that some token chose.
    """

    model: ModelShape
    skew: Skew
    tokens: int
    active: int
    entries: tuple[Entry, ...]

    def entry(self, name: str) -> Entry | None:
        """A contestant's entry; None when it was not asked."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def us(self, name: str) -> float | None:
        """A contestant's time; None when it has none."""
        entry = self.entry(name)
        return entry.time_us if entry else None

    @property
    def best_peer(self) -> Entry | None:
        """The fastest of the others in 16 bits, Humming aside."""
        others = [e for e in self.entries if e.name not in (OURS, HUMMING) and e.time_us]
        return min(others, key=lambda entry: entry.time_us or math.inf, default=None)

    @property
    def flops(self) -> int:
        """Of the router, the chosen and the shared experts; a multiply-add counts as two."""
        m = self.model
        chosen = 6 * m.top_k * m.hidden * m.intermediate
        shared = 6 * m.hidden * m.shared_intermediate
        return self.tokens * (chosen + shared + 2 * m.hidden * m.experts)

    @property
    def traffic(self) -> int:
        """Fewest bytes: active experts, shared experts and router once, hidden states in and out,
        activations between the two products out and in. All in 16 bits."""
        m = self.model
        weights = self.active * 3 * m.hidden * m.intermediate
        weights += 3 * m.hidden * m.shared_intermediate + m.experts * m.hidden
        between = 2 * self.tokens * (m.top_k * m.intermediate + m.shared_intermediate)
        return 2 * (weights + 2 * self.tokens * m.hidden + between)

    def memory_us(self, ceilings: Ceilings) -> float:
        """The memory limit: that traffic at the bandwidth measured for reading."""
        return self.traffic / ceilings.read_gbps / 1e3

    def verdict(self, ceilings: Ceilings) -> str:
        """Whether ours meets its goal beside the best peer; empty where there is none.

        At T <= 64 it has to be faster, or within 3 % of a peer that already uses 0.9 of the memory
        limit; above, the ratio is told and not judged.
        """
        ours, best = self.us(OURS), self.best_peer
        if self.tokens > FEW_TOKENS or best is None or best.time_us is None:
            return ""
        if ours is None:
            return "**no time**"
        close = self.memory_us(ceilings) / best.time_us >= CLOSE_TO_LIMIT
        return "met" if ours < best.time_us * (TIE if close else 1.0) else "**missed**"

    def row(self, ceilings: Ceilings) -> list[str]:
        """The cells under :data:`HEADS`."""
        entry, best = self.entry(OURS), self.best_peer
        head = [str(self.tokens), str(self.active)]
        if entry is None or entry.time_us is None:
            reason = entry.error if entry else "not asked"
            cells = [f"**{reason}**", *["-"] * 5]
        else:
            us = entry.time_us
            cells = [
                f"{us:.1f} ± {entry.spread_us:.1f}",
                f"{entry.rel_error:.1e}",
                f"{self.flops / us / 1e6:.1f}",
                f"{self.memory_us(ceilings) / us:.0%}",
                f"{ceilings.floor_us(self.flops, self.traffic) / us:.0%}",
                f"{best.time_us / us:.2f}" if best and best.time_us else "-",
            ]
        if best is None or best.time_us is None:
            return [*head, *cells, "-", "-", "-", ""]
        share = f"{self.memory_us(ceilings) / best.time_us:.0%}"
        return [*head, *cells, best.name, f"{best.time_us:.1f}", share, self.verdict(ceilings)]

    def json(self, ceilings: Ceilings) -> dict[str, Any]:
        """Every figure."""
        return {
            "model": self.model.name,
            "skew": str(self.skew),
            "tokens": self.tokens,
            "active_experts": self.active,
            "flops": self.flops,
            "traffic_bytes": self.traffic,
            "memory_limit_us": self.memory_us(ceilings),
            "entries": [entry.json() for entry in self.entries],
        }


HEADS = (
    "T", "active experts", f"{OURS} µs", "rel. error", "TFLOPS", "of memory limit", "of roofline",
    "best peer ÷ ours", "best peer", "its µs", "its share of the limit", "goal at T ≤ 64",
)  # fmt: skip


def body(results: Sequence[Result], ceilings: Ceilings, left_out: Sequence[str]) -> list[str]:
    """The Markdown below the provenance."""
    lines: list[str] = []
    for key in dict.fromkeys((r.model.name, str(r.skew)) for r in results):
        mine = [r for r in results if (r.model.name, str(r.skew)) == key]
        lines += [f"## {key[0]}, {key[1]}", ""]
        lines += [*table(HEADS, [result.row(ceilings) for result in mine]), ""]
        lines += [*_everyone(mine), ""]
    lines += [*_skew_cost(results), *_humming(results), *_largest(results, ceilings)]
    if left_out:
        lines += ["Left out for lack of time: " + ", ".join(left_out), ""]
    return lines


def _everyone(results: Sequence[Result]) -> list[str]:
    """Microseconds of all contestants, and below what kept some from running."""
    names = list(dict.fromkeys(entry.name for result in results for entry in result.entries))
    rows = []
    reasons: dict[str, str] = {}
    for result in results:
        cells = []
        for name in names:
            entry = result.entry(name)
            us = entry.time_us if entry else None
            cells.append(f"{us:.1f}" if us is not None else "-")
            if entry and entry.error:
                reasons.setdefault(f"{name}: {entry.error}", f"T = {result.tokens}")
        rows.append([str(result.tokens), *cells])
    lines = table(("T", *(f"{name} µs" for name in names)), rows)
    return lines + [f"- {reason} (first at {where})" for reason, where in reasons.items()]


def _skew_cost(results: Sequence[Result]) -> list[str]:
    """Ours with skewed routing against uniform, at equal work."""
    uniform = {(r.model.name, r.tokens): r.us(OURS) for r in results if r.skew == Skew()}
    rows = []
    for result in results:
        us, even = result.us(OURS), uniform.get((result.model.name, result.tokens))
        if result.skew != Skew() and us and even:
            cells = [result.model.name, str(result.skew), str(result.tokens)]
            rows.append([*cells, f"{even:.1f}", f"{us:.1f}", f"{us / even:.2f}"])
    if not rows:
        return []
    heads = ("model", "skew", "T", "uniform µs", "skewed µs", "÷ uniform")
    return ["## Skewed against uniform routing", "", *table(heads, rows), ""]


def _humming(results: Sequence[Result]) -> list[str]:
    pairs = [(r.us(HUMMING), r.us(OURS)) for r in results]
    ratios = [theirs / ours for theirs, ours in pairs if theirs and ours]
    if not ratios:
        return []
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return [
        f"{HUMMING} ÷ {OURS} over {len(ratios)} cases: geometric mean {mean:.2f}, "
        f"least {min(ratios):.2f} (goals: 1.5, 1).",
        "",
    ]  # fmt: skip


def _largest(results: Sequence[Result], ceilings: Ceilings) -> list[str]:
    """How far the largest even case of each model gets to what m16n8k8 can do."""
    lines = []
    ceiling = max(ceilings.mma_f16_tflops, ceilings.mma_f32_tflops)
    for name in dict.fromkeys(r.model.name for r in results):
        mine = [r for r in results if r.model.name == name and r.skew == Skew() and r.us(OURS)]
        if mine:
            top = max(mine, key=lambda result: result.tokens)
            rate = top.flops / (top.us(OURS) or math.inf) / 1e6
            share = f"{rate / ceiling:.0%} of the m16n8k8 ceiling of {ceiling:.0f}"
            lines.append(f"{name} at T = {top.tokens}: {rate:.0f} TFLOPS, {share}.")
    return [*lines, ""]
