"""Which kernels one call of a MoE layer launches, as torch's profiler sees them.

python scripts/profile_moe_layer.py [--db PATH] [--models NAMES] [--tokens 1,64,4096] [--out DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import out_folder, provenance, table, write
from scripts.moe_flags import moe_parser, parse_tokens
from search_spaces import Skew
from search_spaces.command_line import run_command
from search_spaces.models import ModelShape, load_model
from templates.device import device_spec
from tuner.provenance import command_line

MOST_LAUNCHES = 4
SEED = 1
TOKENS = "1,64,1024,8192"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 when a call took more than four launches; 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = command_line("scripts.profile_moe_layer", given)
    return run_command(lambda: _profile(moe_parser(str(__doc__), TOKENS).read(given), command))


def _profile(options: argparse.Namespace, command: str) -> int:
    tokens = parse_tokens(options.tokens)
    models = [load_model(name) for name in options.models.split(",")]
    device_spec(options.device)
    import torch

    from engine import TunedKernels

    torch.cuda.set_device(options.device)
    kernels = TunedKernels(options.db, torch.device("cuda", options.device))
    launches = {(m.name, t): found for m in models for t, found in _of_model(m, tokens, kernels)}
    lines = body(launches)
    data = {
        "launches": [
            {"model": model, "tokens": count, "kernels": [[name, us] for name, us in found]}
            for (model, count), found in launches.items()
        ]
    }
    title = "Kernel launches of a MoE layer"
    write(out_folder(options.out), "moe_launches", title, provenance(command), lines, data)
    print("\n".join(lines))
    return 0 if all(len(found) <= MOST_LAUNCHES for found in launches.values()) else 1


def _of_model(
    model: ModelShape, tokens: Sequence[int], kernels: Any
) -> list[tuple[int, list[tuple[str, float]]]]:
    """For each T the launches of one call, in order: kernel and its microseconds, L2 warm."""
    import torch

    from scripts.moe_peers.layer import draw_hidden, make_layer
    from scripts.moe_peers.ours import Ours

    layer = make_layer(model, SEED, kernels.device)
    ours = Ours(kernels, max(tokens))
    found = []
    for count in tokens:
        forward = ours.prepare(layer, draw_hidden(model, layer.router, count, Skew(), SEED))
        forward()  # compiles and loads
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            forward()
            torch.cuda.synchronize()
        events = [e for e in profile.events() if e.device_type.name == "CUDA"]
        events.sort(key=lambda event: event.time_range.start)
        found.append((count, [(e.name, float(e.time_range.elapsed_us())) for e in events]))
    return found


def body(launches: dict[tuple[str, int], list[tuple[str, float]]]) -> list[str]:
    """A row for each launch."""
    rows = []
    for (model, tokens), found in launches.items():
        for number, (name, us) in enumerate(found, start=1):
            rows.append([model, str(tokens), f"{number} of {len(found)}", f"`{name}`", f"{us:.1f}"])
    heads = ("model", "T", "launch", "kernel", "µs (one call, warm L2)")
    most = max((len(found) for found in launches.values()), default=0)
    return [*table(heads, rows), "", f"At most {most} launches a layer.", ""]


if __name__ == "__main__":
    sys.exit(main())
