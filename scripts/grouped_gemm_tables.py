"""Results of bench_grouped_gemm as Markdown tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.bench_report import table
from scripts.grouped_gemm_contest import Entry
from scripts.probe_gpu import Ceilings
from search_spaces import Bucket, Problem

WINNER, DEFAULT = "winner", "default"
VARIANTS = {"none": "no swizzle", "pad8": "padded by 8"}  # of the winner's shared memory
PEERS = ("grouped_mm bf16", "expert loop fp16")


@dataclass(frozen=True)
class Result:
    """All contestants of one bucket."""

    problem: Problem
    bucket: Bucket
    entries: tuple[Entry, ...]

    def us(self, name: str) -> float | None:
        """A contestant's time; None when it did not run."""
        return next((entry.time_us for entry in self.entries if entry.name == name), None)

    @property
    def winner(self) -> Entry:
        """Always there, if not always right."""
        return next(entry for entry in self.entries if entry.name == WINNER)

    @property
    def sound(self) -> bool:
        """Everything of ours was right."""
        return not any(entry.error for entry in self.entries)

    def json(self, ceilings: Ceilings) -> dict[str, Any]:
        """Every figure, with the roofline's floor that they compare with."""
        return {
            "problem": str(self.problem),
            "bucket": str(self.bucket),
            "rows": self.bucket.rows(self.problem),
            "floor_us": self.floor_us(ceilings),
            "entries": [entry.json() for entry in self.entries],
        }

    def floor_us(self, ceilings: Ceilings) -> float:
        """The roofline of this bucket under measured ceilings."""
        flops, traffic = self._work()
        return ceilings.floor_us(flops, traffic)

    def _work(self) -> tuple[int, int]:
        rows = self.bucket.histogram(self.problem, seed=0)
        active = sum(count > 0 for count in rows)
        return self.problem.flops(sum(rows)), self.problem.traffic(sum(rows), active)

    def row(self, ceilings: Ceilings) -> list[str]:
        """The cells under :data:`HEADS`."""
        entry, default = self.winner, self.us(DEFAULT)
        head = [f"{self.bucket.tokens_per_expert:g}", str(self.bucket.rows(self.problem))]
        if entry.time_us is None:
            return [*head, f"**{entry.error}**", *["-"] * (len(HEADS) - 3)]
        flops, traffic = self._work()
        us, floor = entry.time_us, self.floor_us(ceilings)
        times = [self.us(name) for name in PEERS]
        return [
            *head,
            f"{entry.rel_error:.1e}",
            f"{us:.1f} ± {entry.spread_us:.1f}",
            f"{flops / us / 1e6:.1f}",
            f"{traffic / us / 1e3:.0f}",
            f"{floor / us:.0%}",
            f"{default:.1f}" if default else "-",
            f"{floor / default:.0%}" if default else "-",
            f"{default / us:.2f}" if default else "-",
            *(cell for t in times for cell in ((f"{t:.1f}", f"{t / us:.2f}") if t else "--")),
        ]


HEADS = (
    "tokens/expert", "rows", "rel. error", "winner µs", "TFLOPS", "GB/s", "roofline",
    "default µs", "roofline", "÷ winner", "grouped_mm µs", "÷ winner", "loop µs", "÷ winner",
)  # fmt: skip


def body(results: Sequence[Result], ceilings: Ceilings, left_out: Sequence[str]) -> list[str]:
    """The Markdown below the provenance."""
    lines: list[str] = []
    for name in dict.fromkeys(str(result.problem) for result in results):
        mine = [result for result in results if str(result.problem) == name]
        lines += [f"## {name}", ""]
        lines += table(HEADS, [result.row(ceilings) for result in mine])
        lines += ["", *table(("tokens/expert", "winner"), [_name(result) for result in mine]), ""]
    lines += _variants(results)
    if left_out:
        lines += ["Left out for lack of time: " + ", ".join(left_out), ""]
    return lines


def _name(result: Result) -> list[str]:
    return [f"{result.bucket.tokens_per_expert:g}", f"`{result.winner.config}`"]


def _variants(results: Sequence[Result]) -> list[str]:
    """Winner against itself with another layout of shared memory, where that was run."""
    rows = []
    for result in results:
        us = result.us(WINNER)
        others = [
            next((e for e in result.entries if e.name == name), None) for name in VARIANTS.values()
        ]
        if us is None or not any(others):
            continue
        cells = [
            f"{other.time_us:.1f} ({other.time_us / us:.2f}x)" if other and other.time_us else "-"
            for other in others
        ]
        rows.append([f"{result.problem.label} {result.bucket}", f"{us:.1f}", *cells])
    if not rows:
        return []
    heads = ("bucket", "winner µs", *(f"{name} µs" for name in VARIANTS.values()))
    return ["## The winner's shared memory, swizzled or not", "", *table(heads, rows), ""]
