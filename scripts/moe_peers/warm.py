"""Compiles ahead, in several processes, what the peers would compile one after the other.

python -m scripts.moe_peers.warm [--models NAMES] [--tokens 1,64] [--processes 8]

Triton, Inductor and Humming each keep what they compiled on disk; a benchmark finds it there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from typing import Any

from scripts.moe_flags import MODELS, TOKENS, parse_tokens
from search_spaces import Skew
from search_spaces.command_line import Parser, run_command, whole_number
from search_spaces.models import load_model
from templates.device import device_spec

PEERS = ("vLLM", "vLLM near", "Humming sm_75", "grouped_mm", "torch.compile")
COMPILED_TOKENS = (1, 64)  # torch.compile makes one kernel for all numbers of tokens but one


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, also where a peer cannot run; 2 with one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _warm(make_parser().read(given)))


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--models", default=MODELS, help="default: %(default)s")
    parser.add_argument("--tokens", default=TOKENS, help="default: %(default)s")
    # A process holds one model's weights, and Humming's copy: 8.4 GB for Mixtral's.
    parser.add_argument("--processes", type=whole_number(1), default=7, help="default: %(default)s")
    parser.add_argument("--device", type=whole_number(0), default=0)
    return parser


def _warm(options: argparse.Namespace) -> int:
    models, tokens = options.models.split(","), parse_tokens(options.tokens)
    tasks = [task for name in models for task in _tasks(load_model(name).name, tokens)]
    device_spec(options.device)
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        for future in as_completed([pool.submit(warm, *t, options.device) for t in tasks]):
            print(f"{time.monotonic() - began:.0f} s: {future.result()}", flush=True)
    return 0


def _tasks(model: str, tokens: Sequence[int]) -> list[tuple[str, str, int]]:
    tasks = []
    for peer in PEERS:
        counts = COMPILED_TOKENS if peer == "torch.compile" else tokens
        tasks += [(model, peer, count) for count in counts]
    return tasks


def warm(model: str, peer: str, tokens: int, device: int) -> str:
    """Run the peer once on this process's copy of the layer; returns a line to print."""
    from scripts.moe_layer_contest import one_line
    from scripts.moe_layer_runs import choose_peers
    from scripts.moe_peers.layer import draw_hidden
    from scripts.moe_peers.peer import FAILURES

    [contestant] = choose_peers(peer)
    try:
        layer = _layer(model, contestant.dtype, device)
        hidden = draw_hidden(layer.model, layer.router, tokens, Skew(), seed=tokens)
        contestant.prepare(layer, hidden.to(contestant.dtype))()
    except FAILURES as error:
        return f"{model} {peer} T={tokens}: {one_line(error)}"
    return f"{model} {peer} T={tokens}"


@lru_cache(maxsize=1)
def _layer(model: str, dtype: Any, device: int) -> Any:
    import torch

    from scripts.moe_peers.layer import make_layer

    torch.cuda.set_device(device)
    torch.cuda.empty_cache()
    return make_layer(load_model(model), 1, torch.device("cuda", device)).cast(dtype)


if __name__ == "__main__":
    sys.exit(main())
