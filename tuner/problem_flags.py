"""ProblemFlags: --op, --model or --shape, and what the ops have of their own."""

from __future__ import annotations

import argparse
from typing import Any

from search_spaces import space_for
from search_spaces.command_line import Parser, choose
from search_spaces.errors import UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.models import LAYERS, load_model
from search_spaces.problem import COMBINES, EPILOGUES, Numerics
from search_spaces.problems import AnyProblem
from search_spaces.shape import (
    GATE,
    GEMM,
    LAYER,
    parse_gate_shape,
    parse_layer_shape,
    parse_shape,
)

SHAPE_HELP = f"a shape of your own; of a fused_gate {GATE.example}, of a moe_layer {LAYER.example}"


def add_fusion_flags(group: argparse._ArgumentGroup | Parser) -> None:
    """What a kernel does besides multiplying: the flags that :func:`epilogue_of` and
    :func:`combine_of` read, and ``gather``."""
    group.add_argument(
        "--epilogue", metavar="|".join(EPILOGUES), default=EPILOGUES[0],
        help="what becomes of gate_up's columns (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--gather", action="store_true", help="gate_up reads its rows by an index of tokens"
    )
    group.add_argument(
        "--combine", metavar="|".join(COMBINES),
        help="down sums a token's weighted rows: ordered repeats to the bit (default: it does not)",
    )  # fmt: skip


def add_gate_flags(group: argparse._ArgumentGroup | Parser) -> None:
    """What a gate is asked for: ``logits``."""
    group.add_argument(
        "--logits", action="store_true", help="of a fused_gate: logits are given, not hidden states"
    )


def check_op_flags(given: argparse.Namespace) -> None:
    """Raises UserError for flags that are about another op."""
    if given.op != "fused_gate" and given.logits:
        raise UserError("--logits goes with --op fused_gate")
    if given.op not in ("fused_gate", "moe_layer"):
        return
    of_a_gemm = {
        "--layer": given.layer is not None,
        "--epilogue": given.epilogue != EPILOGUES[0],
        "--gather": given.gather,
        "--combine": given.combine is not None,
        "--numerics": given.op == "fused_gate" and given.numerics != Numerics.PROMOTED.value,
    }
    for flag, is_given in of_a_gemm.items():
        if is_given:
            raise UserError(f"{flag} does not go with --op {given.op}: it is about a grouped_gemm")


def gate_of(model: str, shape: str | None, *, logits: bool) -> GateProblem:
    """The gate of a model, or of a shape. Raises UserError for unknown names, impossible shapes."""
    if shape is not None:
        return parse_gate_shape(shape, logits=logits)
    return load_model(model).gate(logits=logits)


def layer_of(model: str, shape: str | None, numerics: Numerics) -> LayerProblem:
    """A model's MoE layer, or a shape's. Raises UserError for unknown names, impossible shapes."""
    if shape is not None:
        return parse_layer_shape(shape, numerics)
    return load_model(model).layer(numerics)


def epilogue_of(given: argparse.Namespace) -> str:
    """The epilogue meant. Raises UserError for an unknown one."""
    return choose("epilogue", given.epilogue, list(EPILOGUES))


def combine_of(given: argparse.Namespace) -> str:
    """How rows are combined, "" if they are not. Raises UserError for an unknown way."""
    return "" if given.combine is None else choose("combine", given.combine, list(COMBINES))


def add_problem_flags(parser: Parser) -> None:
    """The flags that :func:`problem_of` reads."""
    add = parser.add_argument
    add("--op", default="grouped_gemm", help="default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--model", metavar="NAME|DIR", default="mixtral-8x7b", help="default: %(default)s"
    )
    what.add_argument("--shape", metavar=GEMM.example, help=SHAPE_HELP)
    add("--layer", metavar="|".join(LAYERS), help=f"default: {LAYERS[0]}")
    add(
        "--numerics", metavar="|".join(n.value for n in Numerics),
        default=Numerics.PROMOTED.value, help="default: %(default)s",
    )  # fmt: skip
    add_fusion_flags(parser)
    add_gate_flags(parser)


def problem_of(given: argparse.Namespace) -> AnyProblem:
    """The problem meant. Raises UserError for unknown names and impossible shapes."""
    space_for(given.op)  # an unknown op is the first thing to tell
    check_op_flags(given)
    if given.op == "fused_gate":
        return gate_of(given.model, given.shape, logits=given.logits)
    numerics = Numerics(choose("numerics", given.numerics, [n.value for n in Numerics]))
    combine = combine_of(given)
    fused: Any = {"epilogue": epilogue_of(given), "gather": given.gather, "combine": combine}
    if given.shape is None:
        layer = LAYERS[0] if given.layer is None else given.layer
        return load_model(given.model).problem(layer, numerics, **fused)
    if given.layer is not None:
        raise UserError("--layer goes with --model: a --shape is one layer already")
    return parse_shape(given.shape, op=given.op, numerics=numerics, **fused)
