"""Shapes as typed on the command line: ``E=8,N=28672,K=4096,top_k=2``; of a gate, other keys."""

from __future__ import annotations

import re
from dataclasses import dataclass

from search_spaces.errors import UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.problem import Numerics, Problem

WITHOUT_SCALES = ("grouped_gemm",)  # ops with fp16 weights
LARGEST = 1 << 20  # elements or experts: a number beyond is a typing error
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Keys:
    """The keys of an op's shape, and one to show."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    example: str


GEMM = Keys(("E", "N", "K", "top_k"), ("group",), "E=8,N=28672,K=4096,top_k=2")
GATE = Keys(("E", "H", "top_k"), (), "E=128,H=2048,top_k=8")
LAYER = Keys(("E", "H", "I", "top_k"), (), "E=8,H=4096,I=14336,top_k=2")
GATE_OF_LOGITS = Keys(("E", "top_k"), (), "E=128,top_k=8")


def parse_shape(
    text: str,
    *,
    op: str = "grouped_gemm",
    numerics: Numerics = Numerics.PROMOTED,
    epilogue: str = "plain",
    gather: bool = False,
    combine: str = "",
) -> Problem:
    """The problem of ``E=8,N=28672,K=4096,top_k=2[,group=128]``, keys in any order.

    E experts, N columns and K depth of one expert's weights, top_k experts per token, ``group``
    weights along K that share a scale; N counts gate and up columns together. Raises
    UserError saying which part is wrong.
    """
    values = _pairs(text, GEMM)
    group = values.get("group")
    if group is not None and op in WITHOUT_SCALES:
        raise UserError(f"shape '{text}': {op} has weights without scales, leave out group={group}")
    if group is not None and values["K"] % group:
        raise UserError(f"shape '{text}': group={group} does not divide K={values['K']}")
    return Problem(
        op=op,
        experts=values["E"],
        n=values["N"],
        k=values["K"],
        top_k=values["top_k"],
        numerics=numerics,
        group=group,
        epilogue=epilogue,
        gather=gather,
        combine=combine,
    )


def parse_gate_shape(text: str, *, logits: bool = False) -> GateProblem:
    """The softmax gate of ``E=128,H=2048,top_k=8``, keys in any order; of given ``logits`` without
    H. Any gate by its problem's key. Raises UserError saying which part is wrong."""
    if text.startswith("fused_gate/"):
        return GateProblem.parse(text)
    values = _pairs(text, GATE_OF_LOGITS if logits else GATE)
    return GateProblem(values["E"], values.get("H", 0), values["top_k"])


def parse_layer_shape(text: str, numerics: Numerics = Numerics.PROMOTED) -> LayerProblem:
    """The layer of ``E=8,H=4096,I=14336,top_k=2``, keys in any order, with a softmax gate: I counts
    gate columns alone, or up columns. Any layer by its problem's key, with the numerics it names.
    Raises UserError saying which part is wrong."""
    if text.startswith("moe_layer/"):
        return LayerProblem.parse(text)
    values = _pairs(text, LAYER)
    gate = GateProblem(values["E"], values["H"], values["top_k"])
    return LayerProblem(gate, values["I"], numerics)


def _pairs(text: str, keys: Keys) -> dict[str, int]:
    if not text.strip():
        raise UserError(f"empty shape: expected e.g. {keys.example}")
    values: dict[str, int] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(
                f"shape '{text}': '{part.strip()}' is no KEY=NUMBER, e.g. {keys.example}"
            )
        if key not in (*keys.required, *keys.optional):
            known = ", ".join((*keys.required, *keys.optional))
            raise UserError(f"shape '{text}': unknown key '{key}', known are {known}")
        if key in values:
            raise UserError(f"shape '{text}': {key} is given twice")
        if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= LARGEST:
            raise UserError(f"shape '{text}': {key}={value} must be a whole number in 1..{LARGEST}")
        values[key] = int(value)
    missing = [key for key in keys.required if key not in values]
    if missing:
        raise UserError(f"shape '{text}' lacks {', '.join(missing)}: expected e.g. {keys.example}")
    return values
