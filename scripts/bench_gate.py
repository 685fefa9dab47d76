"""The fused gate, tuned, beside torch's softmax, top-k and sort, on this machine's GPU.

python scripts/bench_gate.py [--db PATH] [--minutes 4] [--out DIR]

From hidden states (the router's product included) and from given logits. Every contestant is a
CUDA graph; their replays are timed in turns, with a cold L2. Ours is checked first, all of it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import in_time, out_folder, provenance, table, write
from scripts.moe_flags import add_budget, moe_parser, parse_tokens
from scripts.probe_gpu import Ceilings, ceiling_rows, measure_ceilings
from search_spaces.command_line import Parser, run_command
from search_spaces.gate_problem import GateProblem
from search_spaces.models import ModelShape, load_model
from templates.device import device_spec, device_uuid
from tuner.provenance import command_line

EAGER_GOAL, LIMIT_GOAL = 3.0, 2.0
LIMIT_TOKENS, LIMIT_EXPERTS, LIMIT_TOP_K = 8192, 128, 8  # where the second goal is set
COMPILE_SECONDS = 20.0  # what torch.compile may take, and is not begun for less
HEADS = (
    "T", "fused_gate µs", "of memory limit", "torch chain µs", "÷ ours", "torch.compile µs",
    "÷ ours", "goal",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is to be timed at once."""

    model: ModelShape
    logits: bool
    tokens: int

    @property
    def compiles(self) -> tuple[str, bool, bool]:
        """Cases alike in this share what torch.compile makes: one token is a shape of its own."""
        return self.model.name, self.logits, self.tokens == 1

    def __str__(self) -> str:
        return f"{self.model.name} {'logits' if self.logits else 'hidden'} T={self.tokens}"


@dataclass(frozen=True)
class Result:
    """One gate and number of tokens: microseconds by contestant, and what kept one from running."""

    problem: GateProblem
    tokens: int
    times: dict[str, float]
    errors: dict[str, str]

    def memory_us(self, ceilings: Ceilings) -> float:
        """The fewest bytes at the bandwidth measured for reading."""
        return self.problem.traffic(self.tokens) / ceilings.read_gbps / 1e3

    def row(self, ceilings: Ceilings) -> list[str]:
        """The cells under :data:`HEADS`."""
        ours = self.times.get("fused_gate")
        if ours is None:
            return [str(self.tokens), f"**{self.errors['fused_gate']}**", *["-"] * 6]
        cells = [str(self.tokens), f"{ours:.1f}", f"{self.memory_us(ceilings) / ours:.0%}"]
        for name in ("torch chain", "torch.compile"):
            us = self.times.get(name)
            cells += [f"{us:.1f}", f"{us / ours:.2f}"] if us else ["-", "-"]
        return [*cells, self._verdict(ours, ceilings)]

    def _verdict(self, ours: float, ceilings: Ceilings) -> str:
        """Of the goals that are set here; nothing where there is nothing to hold ours against."""
        eager = self.times.get("torch chain")
        if eager is None:
            return ""
        met = eager / ours >= EAGER_GOAL
        gate = self.problem
        where = (self.tokens, gate.experts, gate.top_k)
        if where == (LIMIT_TOKENS, LIMIT_EXPERTS, LIMIT_TOP_K):
            met = met and ours <= LIMIT_GOAL * self.memory_us(ceilings)
        return "met" if met else "**missed**"

    def json(self, ceilings: Ceilings) -> dict[str, Any]:
        """Every figure."""
        limit = {"memory_limit_us": self.memory_us(ceilings)}
        figures = {"times_us": self.times, "errors": self.errors}
        return {"problem": str(self.problem), "tokens": self.tokens, **limit, **figures}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 when a result of ours was wrong or missing; 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = command_line("scripts.bench_gate", given)
    return run_command(lambda: _bench(make_parser().read(given), command))


def make_parser() -> Parser:
    """The command line."""
    parser = moe_parser(str(__doc__))
    add_budget(parser, usual=4.0)
    return parser


def _bench(options: argparse.Namespace, command: str) -> int:
    end = time.monotonic() + 60 * options.minutes
    cases = make_cases(options)
    device_spec(options.device)
    # Imported when there is something to measure: what can be refused is refused before.
    import torch

    from engine import TunedKernels
    from scripts.gate_contest import contest, make_inputs
    from tuner.card import Card
    from tuner.timing import Stopwatch

    torch.cuda.set_device(options.device)
    device = torch.device("cuda", options.device)
    kernels = TunedKernels(options.db, device)
    ceilings = measure_ceilings(options.device)
    stopwatch = Stopwatch(device, Card(device_uuid(options.device)))
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    facts = {**provenance(command), "seed": str(seed)}
    results: list[Result] = []
    left_out: list[Case] = []
    compiled: set[tuple[str, bool, bool]] = set()
    for case, deadline in in_time(cases, end, left_out):
        drawn = seed + case.tokens
        inputs = make_inputs(case.model, case.logits, case.tokens, drawn, device)
        ready = case.compiles in compiled or deadline - time.monotonic() > COMPILE_SECONDS
        entries = contest(stopwatch, kernels, inputs, drawn, compiles=ready)
        if ready:
            compiled.add(case.compiles)
        times = {entry.name: entry.time_us for entry in entries if entry.time_us}
        errors = {entry.name: entry.error for entry in entries if entry.error}
        results.append(Result(inputs.problem, case.tokens, times, errors))
        print(f"{inputs.problem} T={case.tokens}: {times} {errors or ''}", flush=True)
        _write(options.out, facts, ceilings, results, left_out)
    print("\n".join(_write(options.out, facts, ceilings, results, left_out)))
    return 0 if results and all("fused_gate" in result.times for result in results) else 1


def make_cases(options: argparse.Namespace) -> list[list[Case]]:
    """Cases of each model. Raises UserError for an unknown model or number of tokens."""
    tokens = parse_tokens(options.tokens)
    return [
        [Case(model, logits, count) for logits in (False, True) for count in tokens]
        for model in map(load_model, options.models.split(","))
    ]


def _write(
    out: Path | None,
    facts: dict[str, str],
    ceilings: Ceilings,
    results: Sequence[Result],
    left_out: Sequence[Case],
) -> list[str]:
    """After each case: the command may be ended before the last. Returns the Markdown."""
    names = list(map(str, left_out))
    lines = [*ceiling_rows(ceilings), "", *body(results, ceilings, names)]
    data = {
        "ceilings": asdict(ceilings),
        "results": [result.json(ceilings) for result in results],
        "left_out": names,
    }
    write(out_folder(out), "gate", "Fused gate", facts, lines, data)
    return lines


def body(results: Sequence[Result], ceilings: Ceilings, left_out: Sequence[str]) -> list[str]:
    """The Markdown below the provenance."""
    lines: list[str] = []
    for name in dict.fromkeys(str(result.problem) for result in results):
        mine = [result for result in results if str(result.problem) == name]
        lines += [f"## {name}", "", *table(HEADS, [r.row(ceilings) for r in mine]), ""]
        reasons = {f"{who}: {why}" for result in mine for who, why in result.errors.items()}
        lines += [f"- {reason}" for reason in sorted(reasons)]
    lines += [
        f"Goals: at least {EAGER_GOAL:g} times as fast as the chain of torch's operations at every "
        f"T; within {LIMIT_GOAL:g} times the memory limit at T = {LIMIT_TOKENS} with "
        f"E = {LIMIT_EXPERTS} and top {LIMIT_TOP_K}.",
        "",
    ]
    if left_out:
        lines += ["Left out for lack of time: " + ", ".join(left_out), ""]
    return lines


if __name__ == "__main__":
    sys.exit(main())
