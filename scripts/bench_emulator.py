"""What emulation costs: seconds of a CTA, instructions per second, and where the time goes.

CPU-seconds of one process pinned to one core, medians. Needs no GPU.

python scripts/bench_emulator.py [--config NAME] [--k 256] [--repeat 7] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_report import out_folder, table, write
from scripts.emulator_runs import Case, Cost, Kind, kinds_of, make_case, median
from scripts.host_facts import host_facts
from search_spaces import UserError
from tuner.provenance import command_line

CONFIG = "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
GOAL = 1.0  # seconds for one CTA of CONFIG over K = 256, checks and counters on
COHORT = 4, 4  # CTAs along M and N: 16 of 128 threads fill a cohort
WAYS: Mapping[str, tuple[bool, bool]] = {
    "checks and counters": (True, True),
    "checks": (True, False),
    "counters": (False, True),
    "neither": (False, False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        if options.repeat < 1:
            raise UserError("--repeat must be 1 or more")
        facts = host_facts(command_line("scripts.bench_emulator", given))
        with one_core():
            cases = [make_case(options.config, options.k, *tiles) for tiles in ((1, 1), COHORT)]
            speeds = [measure(case, options.repeat) for case in cases]
            kinds = kinds_of(cases[-1], options.repeat)
        lines = body(cases, speeds, kinds)
        data = {
            "config": options.config,
            "k": options.k,
            "speeds": {
                str(case.ctas): {way: asdict(speed) for way, speed in by_way.items()}
                for case, by_way in zip(cases, speeds, strict=True)
            },
            "kinds": [asdict(kind) for kind in kinds],
        }
        write(out_folder(options.out), "emulator", "What emulation costs", facts, lines, data)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one of its cores, so that CPU-seconds are what a core alone would need."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(case: Case, repeat: int) -> dict[str, Cost]:
    """Every way in turns, ``repeat`` times after one that warms up; medians."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for turn in range(repeat + 1):
        for way, (checks, count) in WAYS.items():
            cost = case.run(checks=checks, count=count)
            if turn:
                costs[way].append(cost)
    return {way: median(found) for way, found in costs.items()}


def body(
    cases: Sequence[Case], speeds: Sequence[Mapping[str, Cost]], kinds: Sequence[Kind]
) -> list[str]:
    """Tables of both measurements."""
    rows = [
        [
            str(case.ctas), way, f"{speed.cpu_s:.3f}", f"{speed.start_s:.3f}",
            f"{speed.warp_instructions:,}", _rate(speed.warp_instructions, speed.cpu_s),
            *(_rate(speed.thread_instructions, s) for s in (speed.cpu_s, speed.running_s)),
        ]
        for case, by_way in zip(cases, speeds, strict=True)
        for way, speed in by_way.items()
    ]  # fmt: skip
    one = speeds[0]["checks and counters"]
    total = sum(kind.cpu_s for kind in kinds)
    costs = [
        [
            kind.name, f"{kind.steps:,}", f"{1e3 * kind.cpu_s:.1f}", f"{kind.cpu_s / total:.0%}",
            f"{1e6 * kind.cpu_s / kind.steps:.1f}" if kind.steps else "–",
        ]
        for kind in kinds
    ]  # fmt: skip
    return [
        f"`{cases[0].config}` over K = {cases[0].problem.k}, CPU-seconds on one core, medians.",
        "Reading and assembling the PTX is part of the time and told beside it; the last column",
        "leaves it out.",
        "",
        *table(
            ["CTAs", "with", "CPU-s", "of it reading", "warp instructions", "of these per s",
             "thread instructions per s", "once read"],
            rows,
        ),
        "",
        f"One CTA with everything on: {one.cpu_s:.2f} s. The goal for the 128x128x32 tile over "
        f"K = 256 is at most {GOAL:.0f} s.",
        "",
        f"## Where the time goes: {cases[-1].ctas} CTAs, checks and counters on",
        "",
        "A step executes one instruction for all threads of the cohort at once.",
        "",
        *table(["kind of instruction", "steps", "CPU-ms", "share", "µs a step"], costs),
    ]  # fmt: skip


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds / 1e6:.2f} M"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=CONFIG, metavar="NAME", help="default: %(default)s")
    parser.add_argument("--k", type=int, default=256, metavar="K", help="default: %(default)s")
    parser.add_argument("--repeat", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: $OUT, build/results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
