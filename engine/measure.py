"""``python -m engine.measure``: times of a whole MoE layer, for people and for the tuner."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces import Numerics, Skew, UserError, load_model
from search_spaces.command_line import Parser, choose, run_command, whole_number
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem

if TYPE_CHECKING:  # torch takes a second: the flags come first
    from engine.measuring.request import Request

OPS = ("moe_layer",)
EXIT_NOTHING_WORKS = 1
EXAMPLES = """examples:
  python -m engine.measure --model mixtral-8x7b --tokens 64      what would run, and the default
  python -m engine.measure --model olmoe-1b-7b --tokens 8 --device cpu       the torch reference
  python -m engine.measure --op moe_layer --json < request.json      as python -m tuner.search does

The layer is given random weights and proved against fp32 before it is timed, as a CUDA graph, with
its weights out of the L2. With --json and no --model or --problem, stdin has one line of JSON:
{"problem": KEY, "tokens": 64, "skew": "uniform", "configs": [NAME], "seed": 1, "device": "0"}. The
process then ends as soon as stdin is closed. Each line on stdout is an event: "ready", "checked"
for each config, "timed" for each that is right, "done".
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: some config is right and timed; 1: none is; 2: bad input, told in one line.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run_command(lambda: _measure(arguments))


def _measure(arguments: Sequence[str]) -> int:
    given = _parser().read(arguments)
    choose("op", given.op, OPS)
    request = _request(given)
    from engine.measuring.measurement import Table, measure, tell_json

    table = Table(request)
    worked = measure(request, tell_json if given.json else table)
    if not given.json:
        print(table)
    return 0 if worked else EXIT_NOTHING_WORKS


def _request(given: argparse.Namespace) -> Request:
    """What the flags ask for, or with --json alone what stdin does. Raises UserError."""
    if given.json and given.model is None and given.problem is None:
        from engine.measuring.stdin import request_on_stdin

        return request_on_stdin()
    problem = _problem(given)
    if given.tokens is None:
        raise UserError("--tokens is missing: how many tokens meet the layer, e.g. --tokens 64")
    from engine.measuring.request import Request
    from engine.measuring.standing import standing

    request = Request(
        problem=problem,
        tokens=given.tokens,
        skew=Skew.parse(given.skew),
        configs=tuple(LayerConfig.parse(name) for name in given.config),
        seed=secrets.randbelow(1 << 31) if given.seed is None else given.seed,
        device=given.device,
    )
    return request if request.configs else replace(request, configs=standing(request, given.db))


def _problem(given: argparse.Namespace) -> LayerProblem:
    if given.problem is not None:
        return LayerProblem.parse(given.problem)
    if given.model is None:
        raise UserError("which layer? give --model, e.g. olmoe-1b-7b, or --problem KEY")
    return load_model(given.model).layer(Numerics(given.numerics))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m engine.measure", description="Time a whole MoE layer.", epilog=EXAMPLES
    )
    add = parser.add_argument
    add("--op", default=OPS[0], help="default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", metavar="NAME|DIR", help="a preset or a folder with config.json")
    what.add_argument("--problem", metavar="KEY", help="a layer's key, moe_layer/E...")
    add(
        "--numerics", choices=[n.value for n in Numerics], default=Numerics.PROMOTED.value,
        help="of --model: how products may be accumulated (default: %(default)s)",
    )  # fmt: skip
    add("--tokens", type=whole_number(1), metavar="T", help="tokens that meet the layer")
    add(
        "--skew", default="uniform", metavar="uniform|zipf:X",
        help="how unevenly tokens fall on experts (default: %(default)s)",
    )  # fmt: skip
    add(
        "--config", action="append", default=[], metavar="GATE+GATE_UP+DOWN",
        help="configs to time (may be given several times; default: what would run, and defaults)",
    )  # fmt: skip
    add("--device", default="0", metavar="N|cpu", help="default: GPU %(default)s")
    add("--seed", type=whole_number(0, (1 << 63) - 1), help="default: a fresh one, printed")
    add("--db", metavar="PATH|URL", help="default: $LIGHT_MOE_DB, else ./tuning.sqlite")
    add("--json", action="store_true", help="events, one JSON object a line, instead of a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
