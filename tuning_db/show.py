"""Show: a view on the terminal, as a table, as plain lines or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import groupby

from tuning_db.exchange.exporting import plain_json
from tuning_db.rows import Rows, Value

Cells = list[str]

NARROWEST = 100  # columns of a terminal that hold the table, with configs folded

# What of a view fits a screen: column, heading, how its values are written.
_NUMBER: Callable[[Value], str] = "{:.4g}".format
_SHARE: Callable[[Value], str] = "{:.0%}".format
_TIMES: Callable[[Value], str] = "{:.2f}x".format
_PLACE = (("gpu", "GPU", str), ("model", "model", str), ("bucket", "bucket", str))
_RATES = (
    ("time_us", "µs", _NUMBER),
    ("tflops", "TFLOPS", _NUMBER),
    ("gbps", "GB/s", _NUMBER),
    ("roofline", "roofline", _SHARE),
    ("default_us", "default µs", _NUMBER),
    ("speedup_vs_default", "speed-up", _TIMES),
    ("source", "source", str),
    ("verified", "verified", str),
)
_LOSS: Callable[[Value], str] = "{:.1%}".format


def _whether(value: Value) -> str:
    return "yes" if value else "no"


_SHOWN = {
    "regret": (
        *_PLACE,
        ("point", "tokens per expert", _NUMBER),
        ("place", "place", str),
        ("time_us", "µs", _NUMBER),
        ("best_us", "best µs", _NUMBER),
        ("regret", "regret", _LOSS),
        ("selected_regret", "selected", _LOSS),
        ("split", "split", _whether),
        ("source", "source", str),
    ),
    "best_configs": (*_PLACE, ("config", "config", str), *_RATES),
    "trials": (
        *_PLACE,
        ("id", "id", str),
        ("config", "config", str),
        ("status", "status", str),
        *_RATES,
    ),
}


def as_json(rows: Rows) -> str:
    """Every column of every row, as a JSON list of objects."""
    found = [{name: plain_json(value) for name, value in row.items()} for row in rows.dicts()]
    return json.dumps(found, indent=1)


def print_table(rows: Rows, view: str) -> None:
    """Rich tables on a terminal; elsewhere tab-separated lines, which cut and awk can read."""
    columns = _SHOWN[view]
    cells = [
        ["-" if row[name] is None else write(row[name]) for name, _, write in columns]
        for row in rows.dicts()
    ]
    headings = [heading for _, heading, _ in columns]
    if sys.stdout.isatty():
        _rich_tables(headings, [write is str for _, _, write in columns], cells)
    else:
        for line in (headings, *cells):
            print("\t".join(line))


def _rich_tables(headings: Cells, left: list[bool], cells: list[Cells]) -> None:
    """A table for each GPU and model, named above it: a config's name takes all the width."""
    from rich.box import SIMPLE_HEAD  # for people at a terminal only
    from rich.console import Console
    from rich.table import Table

    for (gpu, model), group in groupby(cells, key=lambda row: (row[0], row[1])):
        table = Table(title=f"{model} on {gpu}", box=SIMPLE_HEAD, padding=0, title_justify="left")
        for heading, is_left in list(zip(headings, left, strict=True))[2:]:
            table.add_column(
                heading.replace(" ", "\n"),
                justify="left" if is_left else "right",
                no_wrap=heading != "config",
                overflow="fold",
            )
        for row in group:
            table.add_row(*row[2:])
        console = Console()
        # On a narrower one rich would cut numbers and drop columns; the terminal wraps whole lines.
        console.width = max(console.width, NARROWEST)
        console.print(table)
