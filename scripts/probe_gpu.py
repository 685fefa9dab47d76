"""What this GPU can do at best, measured: the ceilings that rooflines are drawn with.

python scripts/probe_gpu.py [--device 0] [--out DIR]
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import out_folder, provenance, table, write
from search_spaces import UserError
from templates.device import device_spec, device_uuid
from tuner.provenance import command_line

SOURCE = Path(__file__).with_name("probe_gpu.cu")
BLOCK = 256
BUFFER_BYTES = 4 << 30
MMA_ITERATIONS = 20_000
MMA_FLOPS = 2 * 16 * 8 * 8
CHAINS, UNROLL = 8, 8  # as in the source
MMA_BLOCKS_PER_SM = 4  # 8 warps a sub-partition; their registers fit at once on every card
DENSE = 8192
REPLAYS = 1000


@dataclass(frozen=True)
class Ceilings:
    """Bandwidths in 1e9 bytes/s (a copy counts reads and writes), rates in TFLOPS, times in us.

    ``mma_*`` is register-only ``mma.m16n8k8`` on fp16 operands with that accumulator, ``dense_*``
    torch's 8192 x 8192 x 8192 product. ``empty_launch_us`` is what :class:`tuner.timing.Stopwatch`
    reads for a kernel that does nothing, and so a part of all its figures; ``graph_replay_us`` the
    time from one replay of a CUDA graph with one such kernel to the next.
    """

    read_gbps: float
    copy_gbps: float
    mma_f32_tflops: float
    mma_f16_tflops: float
    dense_f16_tflops: float
    dense_bf16_tflops: float | None
    empty_launch_us: float
    graph_replay_us: float

    def floor_us(self, flops: float, traffic: float) -> float:
        """Roofline in microseconds, with fp16 accumulators allowed."""
        rate = max(self.mma_f32_tflops, self.mma_f16_tflops)
        return max(flops / rate / 1e6, traffic / self.read_gbps / 1e3)


class Probe:
    """Times the kernels of probe_gpu.cu on torch's current device."""

    def __init__(self, device: int) -> None:
        import cupy
        import torch

        from tuner.card import Card
        from tuner.timing import Stopwatch

        torch.cuda.set_device(device)
        self._torch, self._cupy = torch, cupy
        self._gpu = device_spec(device)
        self._module = cupy.RawModule(code=SOURCE.read_text(), options=("-std=c++17",))
        self._watch = Stopwatch(torch.device("cuda", device), Card(device_uuid(device)))
        free, _ = torch.cuda.mem_get_info()
        halves = min(BUFFER_BYTES, free // 4) // 2
        # Random bits: a memory that compresses, or wires that do not toggle, would flatter.
        self._data = torch.empty(halves, dtype=torch.float16, device="cuda").normal_()

    def ceilings(self) -> Ceilings:
        """Measure them all: some five seconds."""
        mma = {name: self._mma(name) for name in ("mma_f32", "mma_f16")}
        bf16 = self._torch.cuda.get_device_capability() >= (8, 0)
        return Ceilings(
            read_gbps=self._read_gbps(),
            copy_gbps=self._copy_gbps(),
            mma_f32_tflops=mma["mma_f32"],
            mma_f16_tflops=mma["mma_f16"],
            dense_f16_tflops=self._dense(self._torch.float16),
            dense_bf16_tflops=self._dense(self._torch.bfloat16) if bf16 else None,
            empty_launch_us=self._us(self._kernel("empty", 1)),
            graph_replay_us=self._replay(),
        )

    def _us(self, launch: Callable[[], object]) -> float:
        from tuner.timing import FULL

        launch()
        [timing] = self._watch.race([launch], FULL, random.Random(0))
        return timing.median_us

    def _kernel(self, name: str, blocks: int, *arguments: Any) -> Callable[[], None]:
        """A launch on torch's current stream, which is another one while a graph is captured."""
        function = self._module.get_function(name)

        def launch() -> None:
            stream = self._torch.cuda.current_stream().cuda_stream
            with self._cupy.cuda.ExternalStream(stream):
                function((blocks,), (BLOCK,), arguments)

        return launch

    def _sink(self) -> Any:
        return self._torch.zeros(1, dtype=self._torch.float32, device="cuda")

    def _stream_grid(self, chunks: int) -> tuple[int, int]:
        """Blocks that fill the GPU, and ``chunks`` of 16 bytes rounded down to whole rounds."""
        blocks = self._gpu.sms * self._gpu.max_threads_per_sm // BLOCK
        per_round = UNROLL * blocks * BLOCK
        return blocks, chunks // per_round * per_round

    def _read_gbps(self) -> float:
        sink = self._sink()
        blocks, chunks = self._stream_grid(self._data.numel() // 8)
        pointers = (self._data.data_ptr(), chunks, sink.data_ptr())
        return 16 * chunks / self._us(self._kernel("read_only", blocks, *pointers)) / 1e3

    def _copy_gbps(self) -> float:
        """From the first half of the buffer to the second."""
        half = self._data.numel() // 2
        blocks, chunks = self._stream_grid(half // 8)
        pointers = (self._data.data_ptr(), self._data[half:].data_ptr(), chunks)
        return 2 * 16 * chunks / self._us(self._kernel("copy", blocks, *pointers)) / 1e3

    def _mma(self, name: str) -> float:
        import numpy as np

        sink = self._sink()
        pointers = (self._data.data_ptr(), sink.data_ptr(), np.int32(MMA_ITERATIONS))
        blocks = self._gpu.sms * MMA_BLOCKS_PER_SM
        us = self._us(self._kernel(name, blocks, *pointers))
        mmas = blocks * (BLOCK // 32) * MMA_ITERATIONS * 2 * CHAINS
        return mmas * MMA_FLOPS / us / 1e6

    def _dense(self, dtype: Any) -> float:
        shape = (DENSE, DENSE)
        a, b = (self._torch.randn(shape, device="cuda").to(dtype) for _ in range(2))
        c = self._torch.empty_like(a)
        us = self._us(lambda: self._torch.mm(a, b.T, out=c))
        return float(2 * DENSE**3 / us / 1e6)

    def _replay(self) -> float:
        torch = self._torch
        graph, launch = torch.cuda.CUDAGraph(), self._kernel("empty", 1)
        with torch.cuda.graph(graph):
            launch()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(10):
            graph.replay()
        start.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) * 1e3 / REPLAYS


def measure_ceilings(device: int = 0) -> Ceilings:
    """The ceilings of a CUDA device. Raises UserError without a GPU."""
    device_spec(device)
    return Probe(device).ceilings()


def ceiling_rows(ceilings: Ceilings) -> list[str]:
    """As a Markdown table."""
    rows = [
        [name, f"{value:.4g}" if value is not None else "-"]
        for name, value in asdict(ceilings).items()
    ]
    return table(["ceiling", "measured"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder (default: $OUT, else build/results)")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        ceilings = measure_ceilings(options.device)
        facts = provenance(command_line("scripts.probe_gpu", given))
        body = ceiling_rows(ceilings)
        data = {"ceilings": asdict(ceilings)}
        write(out_folder(options.out), "ceilings", "Ceilings", facts, body, data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(body))
    return 0


if __name__ == "__main__":
    sys.exit(main())
