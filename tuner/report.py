"""Report: the plan before, the table after, and the commands to type next."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tuner.final import Verdict
from tuner.optuna_file import optuna_file
from tuner.plan import Place, Plan
from tuner.regret_report import regret_document
from tuning_db.records import TrialRecord
from tuning_db.regret import Regret
from tuning_db.url import shown

NARROWEST = 120  # columns that hold the closing table, with configs folded
PLAIN_WIDTH = 180  # columns of a table that goes to a file or a pipe
TELLING = ["model", "bucket", "config", "time_us", "source", "verified"]  # columns of best_configs
FIGURES = (
    "µs", "TFLOPS", "GB/s", "roofline", "default µs", "speed-up", "source", "verified",
)  # fmt: skip
CLOSE = 1.05  # "within 5 %"


@dataclass(frozen=True)
class Outcome:
    """What became of one place; ``skipped`` says why it could not be searched.

    ``optimum_us`` is a recording's best, in a replay.
    """

    place: Place
    records: tuple[TrialRecord, ...]
    verdict: Verdict
    stored: bool = False
    skipped: str | None = None
    optimum_us: float | None = None

    @property
    def evaluations_to_optimum(self) -> int | None:
        """Trials until one was within 5 % of the recording's best; None when none was."""
        if self.optimum_us is None:
            return None
        for number, record in enumerate(self.records, start=1):
            if record.time_us is not None and record.time_us <= CLOSE * self.optimum_us:
                return number
        return None


def make_console(*, to_stderr: bool) -> Console:
    """Coloured on a terminal; elsewhere plain, and wide enough for a config's whole name."""
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def print_plan(console: Console, plan: Plan) -> None:
    """What is going to happen, in the order of the run."""
    options = plan.options
    if plan.note:
        console.print(plan.note, markup=False)
    for target in plan.targets:
        replayed = f"{target.gpu.name}, replayed from {options.replay}"
        console.print(f"GPU      {replayed if options.replay else target}", markup=False)
        shown_problems: dict[str, Place] = {}
        for place in plan.places:
            if place.target == target:
                shown_problems.setdefault(str(place.problem), place)
        for name, place in shown_problems.items():
            console.print(f"problem  {name}: {place.view.count:,} valid configs", markup=False)
    if plan.layer is not None:
        console.print(f"layer    {plan.layer}: its parts, then the best together", markup=False)
    buckets = ", ".join(dict.fromkeys(str(place.bucket) for place in plan.places))
    console.print(f"buckets  {buckets} (tokens per expert @ skew)", markup=False)
    console.print(f"budget   {budget_text(plan)}", markup=False)
    if any(options.emulates(measured=bool(target.cards)) for target in plan.targets):
        console.print("check    finalists are emulated on a small problem", markup=False)
    console.print(f"DB       {shown(plan.db_url)}", markup=False, soft_wrap=True)


def budget_text(plan: Plan) -> str:
    """``quick: 32 trials a bucket, tpe, seed 7``."""
    effort = plan.options.effort
    parts = []
    if effort.trials is not None:
        parts.append(f"{effort.trials} trials a bucket")
    if effort.minutes is not None:
        parts.append(f"{effort.minutes:g} minutes in all")
    limits = ", ".join(parts) or "every valid config"
    return f"{effort.name}: {limits}; sampler {plan.options.sampler}, seed {plan.seed}"


def print_results(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One table per problem and GPU, then what needs saying about single buckets."""
    # On a narrower terminal rich would drop the configs; the terminal wraps whole lines.
    console.width = max(console.width, NARROWEST)
    titles = dict.fromkeys(_title(outcome) for outcome in outcomes)
    for title in titles:
        table = Table(title=title, title_justify="left")
        for name in ("bucket", "best config"):
            table.add_column(name, overflow="fold")
        for name in FIGURES:
            table.add_column(name, justify="right", no_wrap=True)
        for outcome in outcomes:
            if _title(outcome) == title:
                table.add_row(*_row(outcome))
        console.print(table)
    for outcome in outcomes:
        for line in _remarks(outcome):
            console.print(line, markup=False, soft_wrap=True)


def _title(outcome: Outcome) -> str:
    return f"{outcome.place.problem} on {outcome.place.target.gpu.name}"


def _row(outcome: Outcome) -> list[str]:
    winner, default = outcome.verdict.winner, outcome.verdict.default
    bucket = str(outcome.place.bucket)
    if winner is None or winner.time_us is None:
        nothing = "skipped" if outcome.skipped else "no config worked"
        return [bucket, nothing, *["-"] * 6, outcome.place.source.value, "-"]
    default_us = default.time_us if default else None
    return [
        bucket,
        winner.config,
        f"{winner.time_us:.1f}",
        f"{winner.tflops:.1f}" if winner.tflops else "-",
        f"{winner.gbps or 0:.0f}",
        f"{100 * (winner.roofline or 0):.0f} %",
        f"{default_us:.1f}" if default_us else "-",
        f"{default_us / winner.time_us:.2f}x" if default_us else "-",
        winner.source.value,
        winner.verified.value,
    ]


def _remarks(outcome: Outcome) -> list[str]:
    """Failures, ties, a title not won, the speed of a replay."""
    lines, where = [], f"{outcome.place.problem.label} {outcome.place.bucket}"
    if outcome.skipped is not None:
        return [f"{where}: skipped, {outcome.skipped}"]
    counts = Counter(record.status.value for record in outcome.records)
    failures = [f"{count} {status}" for status, count in counts.items() if status != "ok"]
    if failures:
        lines.append(f"{where}: {len(outcome.records)} trials, of which {', '.join(failures)}")
    ties = outcome.verdict.ties
    if ties:
        named = ", ".join("the default" if tie.is_default else tie.config for tie in ties)
        lines.append(f"{where}: a tie, the spreads overlap, with {named}")
    if outcome.verdict.winner is not None and not outcome.stored:
        lines.append(f"{where}: the winner in the DB stays: it is faster, or measured")
    if outcome.optimum_us is not None:
        number = outcome.evaluations_to_optimum
        found = f"{number} evaluations" if number else f"not in {len(outcome.records)} evaluations"
        lines.append(f"{where}: within 5 % of the recording's optimum: {found}")
    return lines


def print_next(console: Console, plan: Plan, resume: str | None) -> None:
    """Commands to type next: ``resume``, where the run was interrupted, then how to look around."""
    where = shown(plan.db_url)
    target = f"sqlite:///{optuna_file(plan.db_url)}"
    found = f"tuning_db.frame({json.dumps(where)})[{json.dumps(TELLING)}]"
    look = f"import tuning_db; print({found}.to_string())"  # without it pandas leaves columns out
    console.print("next:", markup=False)
    commands = [] if resume is None else [resume]
    commands += [
        f"python -c {shlex.quote(look)}",
        f"python -m tuning_db show --db {shlex.quote(where)}",
        f"optuna-dashboard {shlex.quote(target)}   # pip install 'light-moe[dashboard]'",
    ]
    for command in commands:
        console.print(f"  {command}", markup=False, soft_wrap=True)


def document(
    plan: Plan, run_id: int, status: str, outcomes: Sequence[Outcome], regrets: Sequence[Regret]
) -> dict[str, Any]:
    """The run as one JSON object. Times are microseconds, ``roofline`` and ``regret`` shares."""
    return {
        "run": run_id,
        "status": status,
        "db": shown(plan.db_url),
        "op": plan.options.op,
        "seed": plan.seed,
        "sampler": plan.options.sampler,
        "effort": plan.options.effort.name,
        "places": [_place_document(outcome) for outcome in outcomes],
        "regrets": [regret_document(regret) for regret in regrets],
    }


def _place_document(outcome: Outcome) -> dict[str, Any]:
    place, verdict = outcome.place, outcome.verdict
    found: dict[str, Any] = {
        "problem": str(place.problem),
        "bucket": str(place.bucket),
        "gpu": place.target.gpu.name,
        "arch": place.target.gpu.arch,
        "source": place.source.value,
        "valid_configs": place.view.count,
        "trials": len(outcome.records),
        "statuses": dict(Counter(record.status.value for record in outcome.records)),
        "winner": _trial_document(verdict.winner),
        "default": _trial_document(verdict.default),
        "ties": [tie.config for tie in verdict.ties],
        "stored": outcome.stored,
        "skipped": outcome.skipped,
    }
    if outcome.optimum_us is not None:
        found["optimum_us"] = outcome.optimum_us
        found["evaluations_to_5_percent"] = outcome.evaluations_to_optimum
    return found


def _trial_document(record: TrialRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "trial": record.id,
        "config": record.config,
        "time_us": record.time_us,
        "spread_us": record.time_spread_us,
        "tflops": record.tflops,
        "gbps": record.gbps,
        "roofline": record.roofline,
        "verified": record.verified.value,
        "registers": record.registers,
        "spills": record.spills,
    }
