"""Options: the command line of ``python -m tuner.search``, read and checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.command_line import Parser, choose, whole_number
from search_spaces.errors import UserError
from search_spaces.models import LAYERS
from search_spaces.problem import Numerics
from search_spaces.shape import GEMM
from tuner.effort import EFFORTS, FULL, Effort
from tuner.problem_flags import (
    SHAPE_HELP,
    add_fusion_flags,
    add_gate_flags,
    check_op_flags,
    combine_of,
    epilogue_of,
)

SAMPLERS = ("tpe", "random", "exhaustive")
TIERS = ("sm_75",)
CHECKS = ("emulate", "none")
DEFAULT_MODEL = "mixtral-8x7b"
DEFAULT_BUCKETS = "1,16,256"
LARGEST_SEED = (1 << 63) - 1  # the DB keeps it as a 64-bit integer
LONGEST_MINUTES = 60 * 24 * 365
USUAL_SPLIT, LARGEST_SPLIT = 3.0, 1000.0  # percent
EXAMPLES = """examples:
  python -m tuner.search                                   Mixtral-8x7B on this machine's GPUs
  python -m tuner.search --gpu "RTX 2080 Ti" --effort full  a card that is not here: predicted
  python -m tuner.search --model olmoe-1b-7b --layer down --buckets all --minutes 30
  python -m tuner.search --shape E=8,N=512,K=512,top_k=2 --trials 8
  python -m tuner.search --layer gate_up --epilogue swiglu --gather    what a MoE layer launches
  python -m tuner.search --layer down --combine ordered                    what it launches next
  python -m tuner.search --op fused_gate --model qwen3-30b-a3b             its router
  python -m tuner.search --op moe_layer --model qwen3-30b-a3b    gate, both GEMMs, the whole layer
  python -m tuner.search --resume                          go on where a killed run stopped

A new run measures afresh and deletes nothing: its winner has to beat the present one in the final.
--resume goes on with each bucket's last search, wherever that was killed; with a larger --trials it
goes on with a finished one. Every trial is stored as it ends, in the DB; Optuna's own storage for
optuna-dashboard lies beside it in DB.optuna.sqlite (for a server: in this folder) and can be lost
without harm. Ctrl-C stores what was found.
"""


@dataclass(frozen=True)
class Options:
    """What the user asked for. Names of models, GPUs and buckets are resolved by the plan."""

    op: str
    model: str | None
    shape: str | None
    layer: str | None
    numerics: Numerics
    epilogue: str
    gather: bool
    combine: str
    logits: bool
    buckets: str | None
    skew: str
    configs: tuple[str, ...]
    gpus: str | None
    gpu: str | None
    arch: str | None
    tier: str
    check: str | None
    effort: Effort
    sampler: str
    db: str | None
    seed: int | None
    workers: int | None
    split: float | None
    resume: bool
    json: bool
    record: Path | None
    replay: Path | None

    def emulates(self, *, measured: bool) -> bool:
        """Whether finalists are proved by emulation: by default where no GPU does it.

        A recording has no kernels that could be.
        """
        if self.check is None:
            return not measured and self.replay is None
        return self.check == "emulate"

    def splits_above(self, *, measured: bool) -> float | None:
        """The regret, a share of 1, above which a bucket is split; None where nobody looks.

        By default 3 % where a full effort is measured.
        """
        thorough = measured and self.effort.name == FULL.name
        percent = (USUAL_SPLIT if thorough else 0.0) if self.split is None else self.split
        return percent / 100 or None


def parse_options(argv: Sequence[str]) -> Options:
    """Reads the command line. Raises UserError for unknown flags, names and bad numbers."""
    given = _parser().read(argv)
    check_op_flags(given)
    return Options(
        op=given.op,
        model=given.model,
        shape=given.shape,
        layer=None if given.layer is None else choose("layer", given.layer, LAYERS),
        numerics=Numerics(choose("numerics", given.numerics, [n.value for n in Numerics])),
        epilogue=epilogue_of(given),
        gather=given.gather,
        combine=combine_of(given),
        logits=given.logits,
        buckets=given.buckets,
        skew=given.skew,
        configs=tuple(given.config),
        gpus=given.gpus,
        gpu=given.gpu,
        arch=given.arch,
        tier=choose("tier", given.tier, TIERS),
        check=None if given.check is None else choose("check", given.check, CHECKS),
        effort=_effort(given),
        sampler=choose("sampler", given.sampler, SAMPLERS),
        db=given.db,
        seed=given.seed,
        workers=given.workers,
        split=_percent(given.split),
        resume=given.resume,
        json=given.json,
        record=given.record,
        replay=given.replay,
    )


def _effort(given: argparse.Namespace) -> Effort:
    effort = EFFORTS[choose("effort", given.effort, list(EFFORTS))]
    if given.minutes is not None and not 0 < given.minutes <= LONGEST_MINUTES:
        raise UserError(
            f"--minutes {given.minutes:g}: must be above 0 and at most {LONGEST_MINUTES}"
        )
    return effort.limited(
        trials=given.trials, minutes=given.minutes, exhaustive=given.sampler == "exhaustive"
    )


def _percent(split: float | None) -> float | None:
    if split is not None and not 0 <= split <= LARGEST_SPLIT:
        raise UserError(f"--split {split:g}: must lie in 0..{LARGEST_SPLIT:g} percent")
    return split


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tuner.search",
        description="Search the fastest kernel configs of a mixture-of-experts layer.",
        epilog=EXAMPLES,
    )
    _add_problem_flags(parser.add_argument_group("what to tune"))
    _add_target_flags(parser.add_argument_group("for which GPU (default: all in this machine)"))
    _add_search_flags(parser.add_argument_group("how to search"))
    _add_result_flags(parser.add_argument_group("where results go"))
    return parser


def _add_problem_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--op", default="grouped_gemm", help="default: %(default)s")
    what = group.add_mutually_exclusive_group()
    what.add_argument(
        "--model",
        metavar="NAME|DIR",
        help=f"a preset or a folder with config.json (default: {DEFAULT_MODEL})",
    )
    what.add_argument("--shape", metavar=GEMM.example, help=SHAPE_HELP)
    group.add_argument("--layer", metavar="|".join(LAYERS), help="default: both")
    group.add_argument(
        "--numerics",
        default=Numerics.PROMOTED.value,
        metavar="|".join(n.value for n in Numerics),
        help="how products may be accumulated (default: %(default)s)",
    )
    add_fusion_flags(group)
    add_gate_flags(group)
    group.add_argument(
        "--buckets",
        metavar="LIST|all",
        help=f"tokens per expert, e.g. 0.25,16 (default: {DEFAULT_BUCKETS})",
    )
    group.add_argument(
        "--skew",
        default="uniform",
        metavar="uniform|zipf:X",
        help="how unevenly tokens fall on experts (default: %(default)s)",
    )
    group.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME",
        help="try this config right after the default (may be given several times)",
    )


def _add_target_flags(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument("--gpus", metavar="0,1|all", help="GPUs of this machine to measure on")
    which.add_argument("--gpu", metavar="NAME", help="predict for a card that is not here")
    which.add_argument("--arch", metavar="sm_75", help="predict for its reference card")
    which.add_argument("--replay", type=Path, metavar="FILE", help="search a recorded run instead")
    group.add_argument(
        "--tier", default=TIERS[0], metavar="|".join(TIERS), help="instruction set of the kernels"
    )


def _add_search_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--effort", default="quick", metavar="|".join(EFFORTS), help="default: %(default)s"
    )
    group.add_argument(
        "--trials", type=whole_number(1), metavar="N", help="configs tried per bucket"
    )
    group.add_argument("--minutes", type=float, metavar="M", help="time for the whole run")
    group.add_argument(
        "--sampler", default="tpe", metavar="|".join(SAMPLERS), help="default: %(default)s"
    )
    group.add_argument(
        "--check",
        metavar="|".join(CHECKS),
        help="prove finalists by emulation on a small problem (default: where there is no GPU)",
    )
    group.add_argument(
        "--split",
        type=float,
        metavar="PERCENT",
        help="a bucket more where a winner loses above this at the edge of its range; 0: never "
        f"(default: {USUAL_SPLIT:g} for a full effort on a GPU)",
    )
    group.add_argument(
        "--seed", type=whole_number(0, LARGEST_SEED), help="default: a fresh one, printed"
    )
    group.add_argument(
        "--workers", type=whole_number(1), metavar="N", help="compilers (default: all cores)"
    )
    group.add_argument(
        "--resume", action="store_true", help="go on with the last search; repeats no trial"
    )


def _add_result_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--db", metavar="PATH|URL", help="default: $LIGHT_MOE_DB, else ./tuning.sqlite"
    )
    group.add_argument(
        "--record", type=Path, metavar="FILE", help="also write a recording for --replay"
    )
    group.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the rest on stderr"
    )
