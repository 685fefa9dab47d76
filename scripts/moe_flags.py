"""MoeFlags: what the benchmarks of MoE layers and gates are asked for alike."""

from __future__ import annotations

import argparse
from pathlib import Path

from search_spaces import UserError
from search_spaces.command_line import Parser, whole_number

MODELS = "mixtral-8x7b,qwen3-30b-a3b,deepseek-v2-lite,olmoe-1b-7b"
TOKENS = "1,4,16,64,256,1024,4096,8192"
MOST_TOKENS = 1 << 16
LONGEST_MINUTES = 60 * 24
LARGEST_SEED = (1 << 62) - 1  # numbers of tokens are added to it


def moe_parser(description: str, tokens: str = TOKENS) -> Parser:
    """A parser that knows which layers, on which GPU, with which DB, and where results go."""
    parser = Parser(description=description)
    add = parser.add_argument
    add("--db", help="tuning DB (default: $LIGHT_MOE_DB, else ./tuning.sqlite)")
    add("--models", default=MODELS, help="default: %(default)s")
    add("--tokens", default=tokens, help="T, before top-k (default: %(default)s)")
    add("--device", type=whole_number(0), default=0)
    add("--out", type=Path, help="folder (default: $OUT, else build/results)")
    return parser


def add_budget(parser: Parser, usual: float) -> None:
    """The flags ``minutes``, ``usual`` ones unless told otherwise, and ``seed``."""
    add = parser.add_argument
    add("--minutes", type=minutes, default=usual, help="leave out what does not fit (%(default)s)")
    seeds = whole_number(0, LARGEST_SEED)
    add("--seed", type=seeds, help="of what is drawn (default: a fresh one, written down)")


def minutes(text: str) -> float:
    """A flag's type: a time that ends."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST_MINUTES:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no number above 0 and at most {LONGEST_MINUTES}"
        )
    return value


def parse_tokens(text: str) -> list[int]:
    """Numbers of tokens, "1,64". Raises UserError for anything else."""
    words = text.split(",")
    wrong = [w for w in words if not w.isdecimal() or not 1 <= int(w) <= MOST_TOKENS]
    if wrong:
        raise UserError(
            f"--tokens '{wrong[0]}': must be whole numbers in 1..{MOST_TOKENS}, e.g. 1,64"
        )
    return [int(word) for word in words]
