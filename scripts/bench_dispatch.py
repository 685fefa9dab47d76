"""What a call of TunedKernels.grouped_gemm costs the host, from call to return.

python scripts/bench_dispatch.py [--db PATH] [--calls 2000] [--out DIR]

Calls alternate between row counts, as decode and prefill do, so that no cache of the last one
helps. The device is idle before each batch of calls and its queue never fills.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine import TunedKernels
from scripts.bench_report import out_folder, provenance, table, write
from search_spaces import Bucket, Problem, UserError, space_for
from templates import Built, Kernel, KernelCache, Target, build_batch, launch_shape, render
from templates.device import device_spec
from tuner.provenance import command_line

# Small, so that the device keeps up with the host and calls never wait for room in its queue.
PROBLEM = Problem("grouped_gemm", experts=8, n=256, k=256, top_k=2)
BUCKETS = ("0.25", "1", "4", "16")
BATCH = 100
GOAL_US = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--db", help="tuning DB (default: $LIGHT_MOE_DB, else ./tuning.sqlite)")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--calls", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="folder (default: $OUT, else build/results)")
    options = parser.parse_args(given)
    try:
        if options.calls < BATCH:
            raise UserError(f"--calls {options.calls}: at least {BATCH}")
        device_spec(options.device)
        rows = measure(options.db, options.device, options.calls)
        facts = provenance(command_line("scripts.bench_dispatch", given))
        heads = ("call", "median µs", "p10", "p90", "p99")
        cells = [[name, *(f"{v:.2f}" for v in times.values())] for name, times in rows.items()]
        body = [*table(heads, cells), "", f"Goal: median <= {GOAL_US:g} µs for grouped_gemm."]
        title, data = "Host cost of a dispatch", {"microseconds": rows}
        write(out_folder(options.out), "dispatch", title, facts, body, data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(body))
    return 0


def measure(db: str | None, device: int, calls: int) -> dict[str, dict[str, float]]:
    """Microseconds per call by what is called: ours, ours into a given C, what of it is the bare
    launch through the driver, and torch.mm."""
    import torch

    torch.cuda.set_device(device)
    where = torch.device("cuda", device)
    kernels = TunedKernels(db, where)
    b = torch.randn(PROBLEM.experts, PROBLEM.n, PROBLEM.k, device=where, dtype=torch.float16)
    operands = [_operands(Bucket.parse(bucket), where) for bucket in BUCKETS]

    def ours(i: int, out: bool) -> None:
        a, offsets, c = operands[i % len(operands)]
        kernels.grouped_gemm(a, b, offsets, top_k=PROBLEM.top_k, out=c if out else None)

    def one_product(i: int) -> None:
        a, _, c = operands[i % len(operands)]
        torch.mm(a, b[0], out=c)

    bare = _bare_launch(where)
    ways: dict[str, Callable[[int], None]] = {
        "grouped_gemm": lambda i: ours(i, False),
        "grouped_gemm(out=c)": lambda i: ours(i, True),
        "of that, the driver's launch": lambda i: bare(),
        "torch.mm(out=c)": one_product,
    }
    return {name: _host_us(call, calls) for name, call in ways.items()}


def _bare_launch(where: Any) -> Callable[[], None]:
    """The default config's kernel on no rows, with nothing looked up or checked."""
    import torch

    gpu = device_spec(where.index)
    config = space_for(PROBLEM.op).view(PROBLEM, gpu).default()
    variant, target = render(PROBLEM, config), Target.for_tier("sm_75", gpu.arch)
    cache = KernelCache()
    [built] = build_batch(cache, [variant], target)
    assert isinstance(built, Built), built
    path = cache.cubin_path(variant, target.ptx_arch, gpu.arch)
    kernel = Kernel(variant.entry, path, variant.threads, variant.smem_bytes)
    offsets = torch.zeros(PROBLEM.experts + 1, dtype=torch.int32, device=where)
    scalars = launch_shape(PROBLEM, config, 1).passes[0].scalars
    stream = torch.cuda.current_stream(where).cuda_stream

    def launch() -> None:
        # Made at each call, so that the offsets live as long as what reads them.
        pointers = (0, 0, 0, offsets.data_ptr(), 0, 0, 0, 0, 0)
        kernel.launch((1, 1, 1), (*pointers, *scalars), stream)

    return launch


def _operands(bucket: Bucket, where: Any) -> tuple[Any, Any, Any]:
    import torch

    histogram = torch.tensor(bucket.histogram(PROBLEM, seed=1))
    rows = int(histogram.sum())
    offsets = torch.zeros(PROBLEM.experts + 1, dtype=torch.int32)
    offsets[1:] = histogram.cumsum(0)
    a = torch.randn(rows, PROBLEM.k, device=where, dtype=torch.float16)
    c = torch.empty(rows, PROBLEM.n, device=where, dtype=torch.float16)
    return a, offsets.to(where), c


def _host_us(call: Callable[[int], None], calls: int) -> dict[str, float]:
    """Each call timed by itself, the device drained every BATCH calls."""
    import torch

    for i in range(BATCH):  # compiles, loads, and fills torch's memory pool
        call(i)
    samples = []
    for i in range(calls):
        if i % BATCH == 0:
            torch.cuda.synchronize()
        began = time.perf_counter_ns()
        call(i)
        samples.append((time.perf_counter_ns() - began) / 1e3)
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    return {
        "median": statistics.median(samples), "p10": cuts[9], "p90": cuts[89], "p99": cuts[98],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
