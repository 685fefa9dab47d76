"""EmulateOptions: the command line of ``python -m tuner.emulate``, read and checked."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.bucket import Bucket
from search_spaces.command_line import Parser, whole_number
from search_spaces.errors import UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.problem import Problem
from search_spaces.problems import AnyProblem
from tuner.problem_flags import add_problem_flags, problem_of

DEFAULT_GPU = "RTX 2080 Ti"
DEFAULT_PARTS = 16  # tiles of C that are emulated of a problem given in full
DEFAULT_LINES = 20
LARGEST_SEED = (1 << 63) - 1  # what a generator of random numbers takes
_EPILOG = """examples:
  python -m tuner.emulate --config default
  python -m tuner.emulate --config NAME --model olmoe-1b-7b --layer down --lines
  python -m tuner.emulate --config NAME --shape E=4,N=520,K=1000,top_k=2 --rows 3,0,70
  python -m tuner.emulate --config default --op fused_gate --model qwen3-30b-a3b
  python -m tuner.emulate --compare 128x128x32_w2x2x1_s2_none_f32_r2x8_mn_ca_o1_g8_k1 \\
                                    128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1

Without --bucket or --rows, the layer is made small: few experts, and N and K of a few tiles that
leave the remainders of the real ones, so that the compiler makes the same code; a gate has fewer
hidden elements. With one of them it is emulated as it is: 16 tiles of C unless --ctas says
otherwise, all of them where rows are combined, and all tokens of a gate.

exit status: 0 right, 1 wrong or a fault, 2 bad input
"""


@dataclass(frozen=True)
class EmulateOptions:
    """What the user asked for. ``configs`` are one name, or two to compare.

    ``bucket`` and ``rows`` (per expert) are both None for a small problem; ``parts`` counts tiles
    of C, ``lines`` the lines of PTX to show.
    """

    problem: AnyProblem
    configs: tuple[str, ...]
    bucket: Bucket | None
    rows: tuple[int, ...] | None
    parts: int | None
    gpu: str
    seed: int | None
    processes: int
    lines: int | None
    json: bool

    @property
    def as_it_is(self) -> bool:
        """Whether the problem is emulated in its own size."""
        return self.bucket is not None or self.rows is not None


def parse_emulate_options(argv: Sequence[str]) -> EmulateOptions:
    """Read the command line. Raises UserError for unknown flags, names and bad numbers."""
    given = _parser().read(argv)
    problem = problem_of(given)
    if isinstance(problem, GateProblem):
        _refuse_tiles(given)
    elif given.combine is not None and given.ctas is not None:
        raise UserError(
            f"--ctas {given.ctas} does not go with --combine: a token's row needs all its tiles"
        )
    options = EmulateOptions(
        problem=problem,
        configs=(given.config,) if given.compare is None else tuple(given.compare),
        bucket=None if given.bucket is None else Bucket.parse(given.bucket),
        rows=None if given.rows is None else _rows(given.rows, problem),
        parts=given.ctas,
        gpu=given.gpu,
        seed=given.seed,
        processes=given.processes,
        lines=given.lines,
        json=given.json,
    )
    if options.parts is not None and not options.as_it_is:
        raise UserError(
            f"--ctas {options.parts} goes with --bucket or --rows: a small problem runs whole"
        )
    return options


def _refuse_tiles(given: argparse.Namespace) -> None:
    """Raises UserError for what only a grouped GEMM can be asked for."""
    tiled = {"--rows": given.rows, "--ctas": given.ctas}
    if given.processes > 1:
        tiled["--processes"] = given.processes
    for flag, value in tiled.items():
        if value is not None:
            raise UserError(
                f"{flag} {value} does not go with --op fused_gate: it is emulated whole, "
                "--bucket says how many tokens"
            )


def _rows(text: str, problem: AnyProblem) -> tuple[int, ...]:
    """Rows of each expert; those that are not named have none."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,7}", word) for word in words):
        raise UserError(f"--rows '{text}': expected rows of the first experts, e.g. 3,0,70")
    rows = [int(word) for word in words]
    if len(rows) > problem.experts:
        raise UserError(f"--rows '{text}' has {len(rows)} experts, the problem {problem.experts}")
    if sum(rows) == 0:
        raise UserError(f"--rows '{text}': without a row there is nothing to launch")
    if isinstance(problem, Problem) and problem.combine and sum(rows) % problem.top_k:
        raise UserError(
            f"--rows '{text}': {sum(rows)} rows are no whole tokens of top_k={problem.top_k}, and "
            "every slot of a token that is combined needs its row"
        )
    return (*rows, *[0] * (problem.experts - len(rows)))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tuner.emulate",
        description="Run one config's kernel on this CPU: is it right, and what would it cost?",
        epilog=_EPILOG,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar="NAME", help="a config's name, or default")
    which.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two, side by side")
    add_problem_flags(parser)
    add = parser.add_argument
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--bucket", metavar="N[@SKEW]", help="as it is, N tokens per expert")
    size.add_argument("--rows", metavar="R,R,...", help="as it is, rows of the first experts")
    add(
        "--ctas", type=whole_number(1), metavar="N",
        help=f"with those two: tiles of C to emulate (default: {DEFAULT_PARTS}), all splits of K",
    )  # fmt: skip
    add("--gpu", default=DEFAULT_GPU, metavar="NAME", help="that it is for (default: %(default)s)")
    add(
        "--seed", type=whole_number(0, LARGEST_SEED),
        help="of the inputs (default: a fresh one, printed)",
    )  # fmt: skip
    add(
        "--processes", type=whole_number(1), default=1, metavar="N",
        help="share the CTAs of configs that do not split K; worth it beyond 10 s (default: 1)",
    )  # fmt: skip
    add(
        "--lines", nargs="?", type=whole_number(1), const=DEFAULT_LINES, metavar="N",
        help=f"also the N lines of PTX that cost most (default: {DEFAULT_LINES})",
    )  # fmt: skip
    add("--json", action="store_true", help="one JSON document on stdout")
    return parser
