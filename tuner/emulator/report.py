"""Report: an emulation's counters as plain text tables and as data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tuner.emulator.counts import LineCounts, Totals
from tuner.emulator.figure import Figure, figures

_NONE = "–"
_TEXT_WIDTH = 72


def totals_table(totals: Totals, ideals: Mapping[str, int] | None = None) -> str:
    """Each figure beside its ideal and how many times that it is; ``ideals`` as for figures()."""
    rows = [
        [figure.name, _number(figure.value), _number(figure.ideal), _ratio(figure.ratio)]
        for figure in figures(totals, ideals)
    ]
    return _table(["", "counted", "ideal", "times ideal"], rows)


def comparison_table(
    names: tuple[str, str],
    totals: tuple[Totals, Totals],
    ideals: tuple[Mapping[str, int], Mapping[str, int]] | None = None,
) -> str:
    """Two launches side by side, under ``names``; the last column is the second by the first."""
    first, second = (
        {figure.name: figure for figure in figures(one, ideals[i] if ideals else None)}
        for i, one in enumerate(totals)
    )
    rows = []
    for name in _merged(list(first), list(second)):
        a, b = (side.get(name, Figure(name, 0)) for side in (first, second))
        change = b.value / a.value if a.value else None
        row = [name, _number(a.value), _ratio(a.ratio), _number(b.value), _ratio(b.ratio)]
        rows.append([*row, _ratio(change)])
    headings = ["", "A", "times ideal", "B", "times ideal", "B / A"]
    return "\n".join([f"A: {names[0]}", f"B: {names[1]}", "", _table(headings, rows)])


def lines_table(lines: Sequence[LineCounts], most: int | None = None) -> str:
    """The lines that ran, in their order; with ``most``, only those that cost the most.

    What they cost beyond the ideal comes first (bank conflicts, sectors), then what they issued.
    """
    chosen = [line for line in lines if line.warps]
    if most is not None:
        chosen = sorted(sorted(chosen, key=_cost, reverse=True)[:most], key=lambda line: line.line)
    rows = [
        [
            str(line.line),
            _number(line.warps),
            f"{line.threads_on / line.warps:.1f}",
            _number(line.shared.wavefronts or None),
            _number(line.shared.conflicts if line.shared.requests else None),
            _number(line.globals.sectors or None),
            _number(line.globals.sectors - line.globals.ideal if line.globals.requests else None),
            _shortened(line.text),
        ]
        for line in chosen
    ]
    headings = ["line", "warps", "threads", "wavefronts", "conflicts", "sectors", "excess", "PTX"]
    return _table(headings, rows, left=("PTX",))


def as_data(
    totals: Totals,
    ideals: Mapping[str, int] | None = None,
    lines: Sequence[LineCounts] | None = None,
) -> dict[str, Any]:
    """What json.dumps takes: figures by key, counts by opcode, and the lines that ran if given."""
    data: dict[str, Any] = {
        "figures": {
            figure.key: {"value": figure.value, "ideal": figure.ideal}
            for figure in figures(totals, ideals)
        },
        "by_class": dict(totals.by_class),
        "by_opcode": dict(totals.by_opcode),
    }
    if lines is not None:
        data["lines"] = [asdict(line) for line in lines if line.warps]
    return data


def _cost(line: LineCounts) -> tuple[int, int]:
    excess = line.globals.sectors - line.globals.ideal
    return line.shared.conflicts + excess, line.warps


def _merged(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The names of both in their order; one that only the second has follows its predecessor."""
    merged = list(first)
    for i, name in enumerate(second):
        if name not in merged:
            merged.insert(merged.index(second[i - 1]) + 1 if i else 0, name)
    return merged


def _number(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _shortened(text: str) -> str:
    return text if len(text) <= _TEXT_WIDTH else f"{text[: _TEXT_WIDTH - 3]}..."


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Columns aligned to the right, but for the first of a named row and those in ``left``."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [
            cell.ljust(width) if heading in ("", *left) else cell.rjust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
