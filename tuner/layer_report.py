"""LayerReport: whole layers in the closing table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from search_spaces.layer import LayerConfig
from search_spaces.layer_space import PARTS
from tuner.layer_stage import LayerOutcome
from tuning_db.records import Source

FIGURES = ("share", "µs", "default µs", "speed-up", "source", "verified")


def print_layers(console: Console, outcomes: Sequence[LayerOutcome]) -> None:
    """One table per GPU, three lines a bucket; then what needs saying about single buckets.

    A part's share is of the sum of what the parts took by themselves.
    """
    for title, group in groupby(outcomes, key=_title):
        table = Table(title=title, title_justify="left", show_lines=True)
        table.add_column("bucket", overflow="fold")
        table.add_column("part", no_wrap=True)
        table.add_column("config", overflow="fold")
        for name in FIGURES:
            table.add_column(name, justify="right", no_wrap=True)
        for outcome in group:
            table.add_row(*_row(outcome))
        console.print(table)
    if any(outcome.place.source is Source.PREDICTED for outcome in outcomes):
        console.print("whole layers are predicted: the sums of their parts, nothing was measured")
    for outcome in outcomes:
        for line in _remarks(outcome):
            console.print(line, markup=False, soft_wrap=True)


def _title(outcome: LayerOutcome) -> str:
    return f"{outcome.place.problem} on {outcome.place.target.gpu.name}"


def _row(outcome: LayerOutcome) -> list[str]:
    winner, default = outcome.verdict.winner, outcome.verdict.default
    bucket = str(outcome.place.bucket)
    if winner is None or winner.time_us is None:
        nothing = "skipped" if outcome.skipped else "no config worked"
        return [bucket, "-", nothing, *["-"] * 4, outcome.place.source.value, "-"]
    default_us = default.time_us if default else None
    shares = [f"{100 * share:.0f} %" for share in _shares(outcome) or ()]
    return [
        bucket,
        "\n".join(PARTS),
        "\n".join(map(str, LayerConfig.parse(winner.config).parts)),
        "\n".join(shares) or "-",
        f"{winner.time_us:.1f}",
        f"{default_us:.1f}" if default_us else "-",
        f"{default_us / winner.time_us:.2f}x" if default_us else "-",
        winner.source.value,
        winner.verified.value,
    ]


def _shares(outcome: LayerOutcome) -> list[float] | None:
    times = outcome.part_times
    return None if times is None else [time_us / sum(times) for time_us in times]


def _remarks(outcome: LayerOutcome) -> list[str]:
    """Why nothing was measured, what failed, ties, a title not won."""
    where = f"{outcome.place.problem.label} {outcome.place.bucket}"
    if outcome.skipped is not None:
        return [f"{where}: the layer was skipped, {outcome.skipped}"]
    lines = [
        f"{where}: {record.status.value} of {record.config}: {record.error}"
        for record in outcome.records
        if record.error is not None
    ]
    for tie in outcome.verdict.ties:
        named = "the default" if tie.is_default else tie.config
        lines.append(f"{where}: a tie, the spreads overlap, with {named}")
    if outcome.verdict.winner is not None and not outcome.stored:
        lines.append(f"{where}: the layer's winner in the DB stays: it is measured")
    return lines


def layer_document(outcome: LayerOutcome) -> dict[str, Any]:
    """A layer in one bucket, for JSON. Times are microseconds, ``shares`` add up to 1."""
    winner, default = outcome.verdict.winner, outcome.verdict.default
    return {
        "problem": str(outcome.place.problem),
        "bucket": str(outcome.place.bucket),
        "gpu": outcome.place.target.gpu.name,
        "source": outcome.place.source.value,
        "statuses": dict(Counter(record.status.value for record in outcome.records)),
        "config": winner and winner.config,
        "time_us": winner and winner.time_us,
        "spread_us": winner and winner.time_spread_us,
        "verified": winner and winner.verified.value,
        "shares": _shares(outcome),
        "default_us": default and default.time_us,
        "ties": [tie.config for tie in outcome.verdict.ties],
        "stored": outcome.stored,
        "skipped": outcome.skipped,
    }
