"""ProblemFlags: --op, --model or --shape, --layer, --numerics, --epilogue and --gather."""

from __future__ import annotations

import argparse
from typing import Any

from search_spaces import space_for
from search_spaces.command_line import Parser, choose
from search_spaces.errors import UserError
from search_spaces.models import LAYERS, load_model
from search_spaces.problem import EPILOGUES, Numerics, Problem
from search_spaces.shape import parse_shape


def add_fusion_flags(group: argparse._ArgumentGroup | Parser) -> None:
    """What a kernel does besides multiplying: the flags that :func:`epilogue_of` reads, and
    ``gather``."""
    group.add_argument(
        "--epilogue", metavar="|".join(EPILOGUES), default=EPILOGUES[0],
        help="what becomes of gate_up's columns (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--gather", action="store_true", help="gate_up reads its rows by an index of tokens"
    )


def epilogue_of(given: argparse.Namespace) -> str:
    """The epilogue meant. Raises UserError for an unknown one."""
    return choose("epilogue", given.epilogue, list(EPILOGUES))


def add_problem_flags(parser: Parser) -> None:
    """The flags that :func:`problem_of` reads."""
    add = parser.add_argument
    add("--op", default="grouped_gemm", help="default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--model", metavar="NAME|DIR", default="mixtral-8x7b", help="default: %(default)s"
    )
    what.add_argument("--shape", metavar="E=8,N=28672,K=4096,top_k=2", help="a shape of your own")
    add("--layer", metavar="|".join(LAYERS), help=f"default: {LAYERS[0]}")
    add(
        "--numerics", metavar="|".join(n.value for n in Numerics),
        default=Numerics.PROMOTED.value, help="default: %(default)s",
    )  # fmt: skip
    add_fusion_flags(parser)


def problem_of(given: argparse.Namespace) -> Problem:
    """The problem meant. Raises UserError for unknown names and impossible shapes."""
    space_for(given.op)  # an unknown op is the first thing to tell
    numerics = Numerics(choose("numerics", given.numerics, [n.value for n in Numerics]))
    fused: Any = {"epilogue": epilogue_of(given), "gather": given.gather}
    if given.shape is None:
        layer = LAYERS[0] if given.layer is None else given.layer
        return load_model(given.model).problem(layer, numerics, **fused)
    if given.layer is not None:
        raise UserError("--layer goes with --model: a --shape is one layer already")
    return parse_shape(given.shape, op=given.op, numerics=numerics, **fused)
