"""EmulationReport: what ``python -m tuner.emulate`` prints, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tuner.emulated_run import EmulatedRun, Task
from tuner.emulator.counters import Counters
from tuner.emulator.report import as_data, comparison_table, lines_table, totals_table


def as_text(task: Task, runs: Sequence[EmulatedRun], most_lines: int | None) -> str:
    """The verdicts, what ran, the counters beside their ideals, the lines if they are wanted."""
    facts = [("problem", str(task.problem)), task.size, ("seed", str(task.seed))]
    for run in runs:
        facts += [("config", str(run.config)), ("ran", _speed(run))]
    blocks = [
        "\n".join(_named_verdict(run, alone=len(runs) == 1) for run in runs),
        "\n".join(f"{name:9}{value}" for name, value in facts),
        *_tables([(run, counters) for run in runs if (counters := _counters(run))], most_lines),
    ]
    return "\n\n".join(blocks)


def as_json(task: Task, runs: Sequence[EmulatedRun], *, with_lines: bool) -> str:
    """One document; a configuration's ``counters`` are null after a fault."""
    found = {
        "problem": str(task.problem),
        **task.size_data,
        "seed": task.seed,
        "configs": [_document(run, with_lines) for run in runs],
    }
    return json.dumps(found, indent=2)


def _named_verdict(run: EmulatedRun, *, alone: bool) -> str:
    return run.verdict if alone else f"{run.verdict}  ({run.config})"


def _speed(run: EmulatedRun) -> str:
    emulation = run.emulated.emulation
    if emulation is None:
        return "not to its end"
    rate = emulation.thread_instructions / emulation.seconds
    return (
        f"{run.ran} in {emulation.ctas:,} CTAs, "
        f"{emulation.seconds:.2f} s, {rate / 1e6:.1f} million thread-instructions a second"
    )


def _counters(run: EmulatedRun) -> Counters | None:
    return run.emulated.emulation.counters if run.emulated.emulation else None


def _tables(counted: Sequence[tuple[EmulatedRun, Counters]], most_lines: int | None) -> list[str]:
    tables = []
    totals = [(run, counters.totals(), run.ideal) for run, counters in counted]
    if len(totals) == 2:
        (first, a, least_a), (second, b, least_b) = totals
        names = str(first.config), str(second.config)
        tables.append(comparison_table(names, (a, b), (least_a, least_b)))
    else:
        tables += [totals_table(found, least) for _, found, least in totals]
    if most_lines is not None:
        for run, counters in counted:
            tables.append(f"{run.config}\n{lines_table(counters.by_line(), most_lines)}")
    return tables


def _document(run: EmulatedRun, with_lines: bool) -> dict[str, Any]:
    found, counters = run.emulated, _counters(run)
    emulation = found.emulation
    return {
        "config": str(run.config),
        "entry": run.built.variant.entry,
        "status": found.status.value,
        "reason": found.reason,
        "rel_error": found.rel_error,
        **run.extent,
        "ctas": emulation.ctas if emulation else None,
        "seconds": emulation.seconds if emulation else None,
        "warp_instructions": emulation.warp_instructions if emulation else None,
        "thread_instructions": emulation.thread_instructions if emulation else None,
        "counters": None
        if counters is None
        else as_data(counters.totals(), run.ideal, counters.by_line() if with_lines else None),
    }
