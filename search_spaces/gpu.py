"""GpuSpec: what constraints, cost model and rooflines need to know of a GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass

from search_spaces.errors import UserError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class GpuSpec:
    """One GPU model. Rates are per SM and clock, sizes in bytes, ``dram_gbps`` in 1e9 bytes/s.

    ``mma_f32acc`` and ``mma_f16acc`` are FLOP/SM/clk of ``mma.m16n8k8`` on fp16 operands, the
    sm_75 tier's instruction: consumer Turing, Ampere and Ada run fp32 accumulation at half rate,
    and Hopper runs ``mma.sync`` at about half of its ``wgmma`` rate.
    """

    name: str
    arch: str
    sms: int
    clock_mhz: int
    memory_bytes: int
    dram_gbps: float
    l2_bytes: int
    smem_per_sm: int
    smem_per_block: int
    smem_reserved: int
    regs_per_sm: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    mma_f32acc: int
    mma_f16acc: int
    smem_bytes_per_clk: int

    def tensor_tflops(self, f16_accumulate: bool) -> float:
        """Ceiling of ``mma.m16n8k8`` in TFLOPS at ``clock_mhz``."""
        rate = self.mma_f16acc if f16_accumulate else self.mma_f32acc
        return self.sms * self.clock_mhz * rate / 1e6

    def floor_us(self, flops: float, traffic: float, *, f16_accumulate: bool) -> float:
        """Roofline: microseconds no kernel of the sm_75 tier can beat for this work."""
        tensor = flops / (self.tensor_tflops(f16_accumulate) * 1e6)
        return max(tensor, traffic / (self.dram_gbps * 1e3))


def _turing(name: str, sms: int, mhz: int, gib: int, gbps: float, l2: int, f32: int) -> GpuSpec:
    return GpuSpec(
        name, "sm_75", sms, mhz, gib * GIB, gbps, l2, 64 * KIB, 64 * KIB, 0, 65536, 1024, 16,
        f32, 1024, 64,
    )  # fmt: skip


def _ga10x(name: str, arch: str, sms: int, mhz: int, gbps: float, l2: int, blocks: int) -> GpuSpec:
    return GpuSpec(
        name, arch, sms, mhz, 24 * GIB, gbps, l2, 100 * KIB, 99 * KIB, KIB, 65536, 1536, blocks,
        512, 1024, 128,
    )  # fmt: skip


def _hopper(name: str, gib: int, gbps: float) -> GpuSpec:
    # Rates as measured with register-only m16n8k8 loops: 440 and 456 TFLOPS at 1755 MHz.
    return GpuSpec(
        name, "sm_90", 132, 1755, gib * GIB, gbps, 50 * MIB, 228 * KIB, 227 * KIB, KIB, 65536,
        2048, 32, 1900, 1970, 128,
    )  # fmt: skip


# Vendors' data sheets; the sustained clock of the 2080 Ti is its reference boost clock.
GPUS: tuple[GpuSpec, ...] = (
    _turing("RTX 2080 Ti", 68, 1545, 11, 616.0, 5632 * KIB, 512),
    _turing("T4", 40, 1590, 16, 320.0, 4 * MIB, 1024),
    _turing("TITAN RTX", 72, 1770, 24, 672.0, 6 * MIB, 1024),
    GpuSpec(
        "A100", "sm_80", 108, 1410, 80 * GIB, 2039.0, 40 * MIB, 164 * KIB, 163 * KIB, KIB, 65536,
        2048, 32, 2048, 2048, 128,
    ),
    _hopper("H100", 80, 3350.0),
    _hopper("H200", 141, 4800.0),
    _ga10x("RTX 3090", "sm_86", 82, 1695, 936.0, 6 * MIB, 16),
    _ga10x("RTX 4090", "sm_89", 128, 2520, 1008.0, 72 * MIB, 24),
)  # fmt: skip

_REFERENCE = {"sm_75": "RTX 2080 Ti", "sm_80": "A100", "sm_90": "H100", "sm_90a": "H100"}
_NOISE = re.compile(
    r"\b(nvidia|geforce|tesla|quadro|graphics|hbm\d\w*|pcie|sxm\d?|nvl|\d+gb)\b|-", re.IGNORECASE
)


def canonical_name(name: str) -> str:
    """The driver's name without vendor and packaging.

    "NVIDIA GeForce RTX 2080 Ti" is "RTX 2080 Ti", "NVIDIA H100 80GB HBM3" is "H100".
    """
    short = " ".join(_NOISE.sub(" ", name).split())
    known = {gpu.name.lower(): gpu.name for gpu in GPUS}
    return known.get(short.lower(), short)


def find_gpu(name: str) -> GpuSpec:
    """The table's entry for a GPU name in any spelling. Raises UserError naming the table."""
    for gpu in GPUS:
        if gpu.name == canonical_name(name):
            return gpu
    known = ", ".join(gpu.name for gpu in GPUS)
    raise UserError(f"unknown GPU '{name}': known without hardware are {known}")


def reference_gpu(arch: str) -> GpuSpec:
    """The card an architecture is predicted for when none is named. Raises UserError."""
    if arch not in _REFERENCE:
        raise UserError(f"unknown architecture '{arch}': choose one of {', '.join(_REFERENCE)}")
    return find_gpu(_REFERENCE[arch])
