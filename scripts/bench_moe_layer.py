"""A whole MoE layer, tuned, beside the same layer by others, on this machine's GPU.

python scripts/bench_moe_layer.py [--db PATH] [--minutes 8] [--out DIR]

Every contestant does all of the layer, from hidden states to their weighted sum: router, top-k,
experts, shared experts. Its result is checked against fp32 first; then it is a CUDA graph whose
replays are timed in turns with those of the others, with a cold L2, in one run.
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

from scripts.bench_report import in_time, out_folder, provenance, write
from scripts.moe_flags import add_budget, moe_parser, parse_tokens
from scripts.probe_gpu import Ceilings, ceiling_rows, measure_ceilings
from search_spaces import Skew
from search_spaces.command_line import Parser, run_command
from search_spaces.models import ModelShape, load_model
from templates.device import device_spec, device_uuid
from tuner.provenance import command_line

SKEWS = "uniform,zipf:1.0"
ALONE_SKEW, ALONE_TOKENS = "zipf:1.2", 1024  # where ours is held against itself with even routing


@dataclass(frozen=True)
class Case:
    """What is to be timed at once. ``alone``: ours without the others."""

    model: ModelShape
    skew: Skew
    tokens: int
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.model.name} {self.skew} T={self.tokens}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 when a result of ours was wrong or missing; 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = command_line("scripts.bench_moe_layer", given)
    return run_command(lambda: _bench(make_parser().read(given), command))


def make_parser() -> Parser:
    """The command line."""
    parser = moe_parser(str(__doc__))
    add_budget(parser, usual=8.0)
    add = parser.add_argument
    add("--skews", default=SKEWS, help="default: %(default)s; ours alone runs zipf:1.2 too")
    add("--peers", default="all", help="names of contestants besides ours, e.g. vLLM,grouped_mm")
    return parser


def make_cases(options: argparse.Namespace) -> list[list[Case]]:
    """Cases of each model. Raises UserError for an unknown model, skew or number of tokens."""
    tokens = parse_tokens(options.tokens)
    skews = [Skew.parse(word) for word in options.skews.split(",")]
    cases = []
    for model in [load_model(name) for name in options.models.split(",")]:
        mine = [Case(model, skew, count) for skew in skews for count in tokens]
        if Skew() in skews:
            alone = Skew.parse(ALONE_SKEW)
            mine += [Case(model, alone, t, alone=True) for t in tokens if t >= ALONE_TOKENS]
        cases.append(mine)
    return cases


def _bench(options: argparse.Namespace, command: str) -> int:
    end = time.monotonic() + 60 * options.minutes
    cases = make_cases(options)
    device_spec(options.device)
    # Imported when there is something to measure: what can be refused is refused before.
    from scripts.moe_layer_runs import Runs

    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    most = max(case.tokens for mine in cases for case in mine)
    runs = Runs(options.db, options.device, device_uuid(options.device), options.peers, most)
    ceilings = measure_ceilings(options.device)
    facts = {**provenance(command), "seed": str(seed)}
    results: list[Any] = []
    left_out: list[Case] = []
    for case, _ in in_time(cases, end, left_out):
        results.append(runs.run(case.model, case.skew, case.tokens, case.alone, seed))
        print(_line(results[-1]), flush=True)
        _write(options.out, facts, ceilings, results, left_out)
    print("\n".join(_write(options.out, facts, ceilings, results, left_out)))
    return 0 if results and all(result.us("Light-MoE") for result in results) else 1


def _line(result: Any) -> str:
    times = ", ".join(f"{e.name} {e.time_us or 0:.1f}" for e in result.entries)
    return f"{result.model.name} {result.skew} T={result.tokens}: {times} us"


def _write(
    out: Path | None,
    facts: dict[str, str],
    ceilings: Ceilings,
    results: Sequence[Any],
    left_out: Sequence[Case],
) -> list[str]:
    """After each case: a foreign kernel may still end the process. Returns the Markdown."""
    from scripts.moe_layer_tables import body

    lines = [*ceiling_rows(ceilings), "", *body(results, ceilings, list(map(str, left_out)))]
    data = {
        "ceilings": asdict(ceilings),
        "results": [result.json(ceilings) for result in results],
        "left_out": list(map(str, left_out)),
    }
    write(out_folder(out), "moe_layer", "MoE layer", facts, lines, data)
    return lines


if __name__ == "__main__":
    sys.exit(main())
