"""RegretReport: what winners lose at the edges of their buckets, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from tuning_db.regret import Regret

COLUMNS = ("point", "µs", "best µs", "regret", "selected", "split")


def print_regrets(console: Console, regrets: Sequence[Regret]) -> None:
    """One table per problem and GPU; nothing when no bucket was looked at."""
    for title, group in groupby(regrets, key=lambda r: f"{r.problem} on {r.gpu_name}"):
        table = Table(title=f"regret of {title}", title_justify="left")
        table.add_column("bucket", no_wrap=True)
        for name in COLUMNS:
            table.add_column(name, justify="right", no_wrap=True)
        for regret in group:
            table.add_row(*_row(regret))
        console.print(table)


def _row(regret: Regret) -> list[str]:
    return [
        str(regret.bucket),
        f"{regret.where} {regret.point.tokens_per_expert:g}",
        "fails" if regret.time_us is None else f"{regret.time_us:.1f}",
        f"{regret.best_us:.1f}",
        f"{100 * regret.share:.1f} %",
        "-" if regret.selected_share is None else f"{100 * regret.selected_share:.1f} %",
        "yes" if regret.split else "-",
    ]


def regret_document(regret: Regret) -> dict[str, Any]:
    """One regret for JSON, where infinity has no word: None for a winner that fails there."""
    return {
        "problem": str(regret.problem),
        "gpu": regret.gpu_name,
        "bucket": str(regret.bucket),
        "point": str(regret.point),
        "where": regret.where,
        "winner": regret.winner,
        "time_us": regret.time_us,
        "best": regret.best,
        "best_us": regret.best_us,
        "regret": None if regret.time_us is None else regret.share,
        "selected_regret": regret.selected_share,
        "split": regret.split,
        "source": regret.source.value,
    }
