"""Shapes as typed on the command line: ``E=8,N=28672,K=4096,top_k=2``."""

from __future__ import annotations

import re

from search_spaces.errors import UserError
from search_spaces.problem import Numerics, Problem

REQUIRED = ("E", "N", "K", "top_k")
OPTIONAL = ("group",)
WITHOUT_SCALES = ("grouped_gemm",)  # ops with fp16 weights
LARGEST = 1 << 20  # elements or experts: a number beyond is a typing error
_EXAMPLE = "E=8,N=28672,K=4096,top_k=2"
_NUMBER = re.compile(r"[0-9]{1,18}")


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
    values = _pairs(text)
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise UserError(f"shape '{text}' lacks {', '.join(missing)}: expected e.g. {_EXAMPLE}")
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


def _pairs(text: str) -> dict[str, int]:
    if not text.strip():
        raise UserError(f"empty shape: expected e.g. {_EXAMPLE}")
    values: dict[str, int] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"shape '{text}': '{part.strip()}' is no KEY=NUMBER, e.g. {_EXAMPLE}")
        if key not in (*REQUIRED, *OPTIONAL):
            known = ", ".join((*REQUIRED, *OPTIONAL))
            raise UserError(f"shape '{text}': unknown key '{key}', known are {known}")
        if key in values:
            raise UserError(f"shape '{text}': {key} is given twice")
        if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= LARGEST:
            raise UserError(f"shape '{text}': {key}={value} must be a whole number in 1..{LARGEST}")
        values[key] = int(value)
    return values
