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

from scripts.bench_moe_layer import MODELS, TOKENS, parse_tokens
from scripts.bench_report import out_folder, provenance, table, write
from scripts.probe_gpu import Ceilings, ceiling_rows, measure_ceilings
from search_spaces import UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.models import load_model
from templates.device import device_spec, device_uuid
from tuner.provenance import command_line

EAGER_GOAL, LIMIT_GOAL = 3.0, 2.0
HEADS = (
    "T", "fused_gate µs", "of memory limit", "torch chain µs", "÷ ours", "torch.compile µs",
    "÷ ours", "goal",
)  # fmt: skip


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
        eager = self.times.get("torch chain")
        met = "met" if eager and eager / ours >= EAGER_GOAL else "**missed**"
        return [*cells, met if eager else ""]

    def json(self, ceilings: Ceilings) -> dict[str, Any]:
        """Every figure."""
        limit = {"memory_limit_us": self.memory_us(ceilings)}
        figures = {"times_us": self.times, "errors": self.errors}
        return {"problem": str(self.problem), "tokens": self.tokens, **limit, **figures}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 when a result of ours was wrong or missing; 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser().parse_args(given)
    try:
        return _bench(options, command_line("scripts.bench_gate", given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--db", help="tuning DB (default: $LIGHT_MOE_DB, else ./tuning.sqlite)")
    add("--models", default=MODELS, help="default: %(default)s")
    add("--tokens", default=TOKENS, help="default: %(default)s")
    add("--minutes", type=float, default=4.0, help="leave out what does not fit (%(default)s)")
    add("--device", type=int, default=0)
    add("--seed", type=int, help="of the inputs (default: a fresh one, written down)")
    add("--out", type=Path, help="folder (default: $OUT, else build/results)")
    return parser


def _bench(options: argparse.Namespace, command: str) -> int:
    deadline = time.monotonic() + 60 * options.minutes
    tokens = parse_tokens(options.tokens)
    models = [load_model(name) for name in options.models.split(",")]
    cases = [(model, logits, t) for model in models for logits in (False, True) for t in tokens]
    device_spec(options.device)
    # Imported when there is something to measure: what can be refused is refused before.
    import torch

    from engine import TunedKernels
    from scripts.gate_contest import contest, make_inputs
    from tuner.card import Card
    from tuner.timing import Stopwatch

    torch.cuda.set_device(options.device)
    device = torch.device("cuda", options.device)
    ceilings = measure_ceilings(options.device)
    stopwatch = Stopwatch(device, Card(device_uuid(options.device)))
    kernels = TunedKernels(options.db, device)
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    results: list[Result] = []
    for model, logits, count in cases:
        if time.monotonic() > deadline:
            break
        inputs = make_inputs(model, logits, count, seed + count, device)
        entries = contest(stopwatch, kernels, inputs, seed + count)
        times = {entry.name: entry.time_us for entry in entries if entry.time_us}
        errors = {entry.name: entry.error for entry in entries if entry.error}
        results.append(Result(inputs.problem, count, times, errors))
        print(f"{inputs.problem} T={count}: {times} {errors or ''}", flush=True)
    left_out = [
        f"{m.name} {'logits' if g else 'hidden'} T={t}" for m, g, t in cases[len(results) :]
    ]
    lines = [*ceiling_rows(ceilings), "", *body(results, ceilings, left_out)]
    facts = {**provenance(command), "seed": str(seed)}
    data = {
        "ceilings": asdict(ceilings),
        "results": [result.json(ceilings) for result in results],
        "left_out": left_out,
    }
    write(out_folder(options.out), "gate", "Fused gate", facts, lines, data)
    print("\n".join(lines))
    return 0 if results and all("fused_gate" in result.times for result in results) else 1


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
        f"T; within {LIMIT_GOAL:g} times the memory limit at T = 8192 with E = 128 and top 8.",
        "",
    ]
    if left_out:
        lines += ["Left out for lack of time: " + ", ".join(left_out), ""]
    return lines


if __name__ == "__main__":
    sys.exit(main())
