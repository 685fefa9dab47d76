"""ProblemFlags: --op, --model or --shape, --layer and --numerics, which name one problem."""

from __future__ import annotations

import argparse

from search_spaces import space_for
from search_spaces.command_line import Parser, choose
from search_spaces.errors import UserError
from search_spaces.models import LAYERS, load_model
from search_spaces.problem import Numerics, Problem
from search_spaces.shape import parse_shape


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


def problem_of(given: argparse.Namespace) -> Problem:
    """The problem meant. Raises UserError for unknown names and impossible shapes."""
    space_for(given.op)  # an unknown op is the first thing to tell
    numerics = Numerics(choose("numerics", given.numerics, [n.value for n in Numerics]))
    if given.shape is None:
        layer = LAYERS[0] if given.layer is None else given.layer
        return load_model(given.model).problem(layer, numerics)
    if given.layer is not None:
        raise UserError("--layer goes with --model: a --shape is one layer already")
    return parse_shape(given.shape, op=given.op, numerics=numerics)
