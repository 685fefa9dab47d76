"""Holds the emulator's counters against Nsight Compute's, launch by launch.

scripts/compare_counters.sh makes the profiles on a GPU and then calls this:

python scripts/compare_counters.py --profiles FOLDER [--out FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import out_folder, table, write
from scripts.host_facts import host_facts
from scripts.ncu_profile import (
    LDMATRIX,
    LOAD_SECTORS,
    METRICS,
    MMA,
    STORE_SECTORS,
    WAVEFRONTS,
    WAVEFRONTS_IDEAL,
    Profile,
    read_profile,
)
from search_spaces import Bucket, Problem, UserError
from search_spaces.grouped_gemm import GroupedGemmConfig
from templates.built import Target, require_built
from templates.compiler import compile_batch
from templates.grouped_gemm import launch_shape, render
from tuner.emulated_gemm import check_config
from tuner.emulator.counts import Totals
from tuner.provenance import command_line

# Swizzled, plain and padded; tokens on either axis of the MMA; warps along K; split K.
CONFIGS = (
    "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1",
    "128x128x32_w2x2x1_s2_none_f32_r2x8_mn_ca_o1_g8_k1",
    "128x128x64_w2x4x1_s2_sw3.3.3_f16p8_r2x16_mn_ca_o1_g8_k1",
    "8x32x128_w1x2x1_s1_pad8_f32_r2x16_nm_cs_o1_g1_k1",
    "16x64x128_w1x4x1_s1_sw3.3.4_f32_r2x16_mn_cs_o1_g1_k1",
    "64x64x32_w2x2x2_s2_pad8_f32_r1x8_mn_ca_o1_g8_k2",
)
# Ragged along N and K, so that predicates matter; small enough to emulate every CTA.
SHAPE = "E=4,N=520,K=1000,top_k=2"
PROBLEM = Problem("grouped_gemm", experts=4, n=520, k=1000, top_k=2)
BUCKET = "48@zipf:1.2"
SEED = 1
ALLOWED = 2  # configs that may differ: the assembler may change what it makes of the PTX


@dataclass(frozen=True)
class Counter:
    """What is compared: from the profiler, from the emulator."""

    name: str
    profiled: Callable[[Mapping[str, int]], int]
    emulated: Callable[[Totals], int]


def _opcodes(totals: Totals, root: str) -> int:
    return sum(count for name, count in totals.by_opcode.items() if name.split(".")[0] == root)


def _sectors(totals: Totals, kind: str) -> int:
    return totals.globals[kind].sectors if kind in totals.globals else 0


COUNTERS = (
    Counter("ldmatrix", lambda c: c[LDMATRIX], lambda t: _opcodes(t, "ldmatrix")),
    Counter("mma", lambda c: c[MMA], lambda t: t.mma),
    Counter(
        "bank conflicts",
        lambda c: c[WAVEFRONTS] - c[WAVEFRONTS_IDEAL],
        lambda t: sum(counts.conflicts for counts in t.shared.values()),
    ),
    Counter("load sectors", lambda c: c[LOAD_SECTORS], lambda t: _sectors(t, "load")),
    Counter("store sectors", lambda c: c[STORE_SECTORS], lambda t: _sectors(t, "store")),
)


@dataclass(frozen=True)
class Comparison:
    """One config: (profiled, emulated) by name of the counter."""

    config: str
    gpu: str
    counts: Mapping[str, tuple[int, int]]

    @property
    def equal(self) -> bool:
        """Whether every counter agrees exactly."""
        return all(profiled == emulated for profiled, emulated in self.counts.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 when more than ALLOWED configs differ, 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if options.metrics:
        print(",".join(METRICS))
        return 0
    if options.commands:
        for config in CONFIGS:
            print(f"{config} --shape {SHAPE} --bucket {BUCKET} --seed {SEED}")
        return 0
    try:
        profiles = {name: read_profile(options.profiles / f"{name}.csv") for name in CONFIGS}
        found = [compare(name, profile) for name, profile in profiles.items()]
        facts = {"GPU": found[0].gpu, **host_facts(command_line("scripts.compare_counters", given))}
        data = {"shape": SHAPE, "bucket": BUCKET, "configs": {o.config: o.counts for o in found}}
        title = "Counters: Nsight Compute and the emulator"
        write(out_folder(options.out), "counters", title, facts, body(found), data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(body(found)))
    return status(found)


def status(found: Sequence[Comparison]) -> int:
    """0, or 1 when more than ALLOWED configs differ."""
    return 0 if sum(not one.equal for one in found) <= ALLOWED else 1


def compare(name: str, profile: Profile) -> Comparison:
    """Emulates the profiled launch. Raises UserError when it is another one."""
    config = GroupedGemmConfig.parse(name)
    histogram = Bucket.parse(BUCKET).histogram(PROBLEM, SEED)
    variant, shape = render(PROBLEM, config), launch_shape(PROBLEM, config, sum(histogram))
    ours = str(shape.passes[0].grid), f"({variant.threads}, 1, 1)"
    if (profile.grid, profile.block) != ours:
        raise UserError(
            f"{name}: the profile is of grid {profile.grid} and block {profile.block}, not of "
            f"{ours[0]} and {ours[1]}: profile it with what --commands prints"
        )
    totals = emulate_counts(config, histogram)
    pairs = {c.name: (c.profiled(profile.counts), c.emulated(totals)) for c in COUNTERS}
    return Comparison(name, profile.gpu, pairs)


def emulate_counts(config: Any, histogram: Sequence[int]) -> Totals:
    """What the emulator counts for every CTA of PROBLEM. Raises UserError for a wrong kernel."""
    [result] = compile_batch([render(PROBLEM, config)], Target("compute_75", ()))
    built = require_built(result, config)
    checked = check_config(PROBLEM, config, built, histogram, SEED, count=True)
    if not checked.ok or checked.emulation is None or checked.emulation.counters is None:
        raise UserError(f"{config} is wrong: {checked.reason}")
    return checked.emulation.counters.totals()


def body(found: Sequence[Comparison]) -> list[str]:
    """A row for each config; a counter that differs shows both."""
    rows = [
        [f"`{one.config}`", *(_cell(*one.counts[counter.name]) for counter in COUNTERS)]
        for one in found
    ]
    equal = sum(one.equal for one in found)
    return [
        f"One launch of each config on {SHAPE} at {BUCKET}. Where both agree there is one figure,",
        "where not, the profiler's and then the emulator's.",
        "",
        *table(["config", *(counter.name for counter in COUNTERS)], rows),
        "",
        f"{equal} of {len(found)} configs agree in everything.",
    ]


def _cell(profiled: int, emulated: int) -> str:
    return f"{profiled:,}" if profiled == emulated else f"**{profiled:,} / {emulated:,}**"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--profiles", type=Path, metavar="FOLDER", help="CONFIG.csv for each config")
    what.add_argument("--metrics", action="store_true", help="print what ncu has to collect")
    what.add_argument("--commands", action="store_true", help="print what it has to profile")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: $OUT, build/results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
