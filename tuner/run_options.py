"""RunOptions: the command line of ``python -m tuner.run``, read and checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from search_spaces.bucket import Bucket, Skew
from search_spaces.command_line import Parser, whole_number
from search_spaces.errors import UserError
from search_spaces.problems import AnyProblem
from tuner.problem_flags import add_problem_flags, problem_of

VIEWS = ("explain", "source", "ptx", "sass")
_EPILOG = """examples:
  python -m tuner.run --config default --bucket 16
  python -m tuner.run --config NAME --bucket 256 --model olmoe-1b-7b --layer down --json
  python -m tuner.run --op fused_gate --config default --bucket 16 --model qwen3-30b-a3b
  python -m tuner.run --config NAME --bucket 16 --explain --gpu "RTX 2080 Ti"
  python -m tuner.run --config NAME --bucket 16 --sass --gpu "RTX 2080 Ti"
  ncu -k regex:lm_ -s 2 -c 1 python -m tuner.run --config NAME --bucket 16 --iterations 1
     (the first launch is the one that is checked, the second warms up)
"""


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for. ``view`` is one of VIEWS; None: verify and time.

    ``gpu`` names a card that is not here; ``iterations`` None lets the time decide.
    """

    problem: AnyProblem
    config: str
    bucket: Bucket
    view: str | None
    gpu: str | None
    device: int | None
    seed: int | None
    iterations: int | None
    json: bool


def parse_run_options(argv: Sequence[str]) -> RunOptions:
    """Read the command line. Raises UserError for unknown flags, names and bad numbers."""
    given = _parser().read(argv)
    view = next((name for name in VIEWS if getattr(given, name)), None)
    if view is None and given.gpu is not None:
        wanted = "add --explain, --source, --ptx or --sass"
        raise UserError(f"--gpu {given.gpu} names a card that is not here: {wanted}")
    if view is not None and given.json:
        raise UserError(f"--json goes with a time, --{view} is printed as it is")
    return RunOptions(
        problem=problem_of(given),
        config=given.config,
        bucket=_bucket(given),
        view=view,
        gpu=given.gpu,
        device=given.device,
        seed=given.seed,
        iterations=given.iterations,
        json=given.json,
    )


def _bucket(given: argparse.Namespace) -> Bucket:
    bucket = Bucket.parse(given.bucket)
    if given.skew is None:
        return bucket
    if "@" in given.bucket:
        raise UserError(f"--skew {given.skew}: --bucket {given.bucket} has a skew already")
    return replace(bucket, skew=Skew.parse(given.skew))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tuner.run",
        description="Render, build, verify and time one config.",
        epilog=_EPILOG,
    )
    add_problem_flags(parser)
    add = parser.add_argument
    add("--config", required=True, metavar="NAME", help="a config's name, or default")
    add("--bucket", required=True, metavar="N", help="tokens per expert, e.g. 16")
    add("--skew", metavar="uniform|zipf:X", help="how unevenly tokens fall on experts")
    view = parser.add_mutually_exclusive_group()
    view.add_argument(
        "--explain",
        action="store_true",
        help="tell where the cost model sees time go; no GPU needed",
    )
    view.add_argument("--source", action="store_true", help="print the CUDA source; no GPU needed")
    view.add_argument("--ptx", action="store_true", help="print the PTX; no GPU needed")
    view.add_argument("--sass", action="store_true", help="print the machine code; no GPU needed")
    add("--gpu", metavar="NAME", help="with those four: the card they are for")
    add("--device", type=whole_number(0), metavar="N", help="CUDA device (default: 0)")
    add("--seed", type=whole_number(0), help="of the inputs (default: a fresh one, printed)")
    add("--iterations", type=whole_number(1), metavar="N", help="default: launches for 0.2 s")
    add("--json", action="store_true", help="one JSON document on stdout")
    return parser
