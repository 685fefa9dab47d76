"""Measure every config of a sub-grid of the space in some buckets, and keep it as a recording.

python scripts/record_exhaustive.py [--minutes 5] [--buckets 16,256] [--out FILE]

``python -m tuner.search --replay FILE`` then searches it without a GPU. The sub-grid (GRID below)
holds fast configs and slow ones; ``--set name=v1,v2`` changes the values of a parameter.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from search_spaces import Bucket, Problem, SearchSpace, UserError, space_for
from search_spaces.models import load_model
from search_spaces.parameter import Parameter, Value
from templates.built import BuildError, Built, Target
from templates.device import device_spec
from templates.grouped_gemm import render
from templates.pool import CompilePool
from tuner.backends.base import Candidate, Fidelity, Measurement
from tuner.backends.gpu import GpuBackend
from tuner.provenance import command_line, versions
from tuner.recording import RecordedTrial, Recording, Tables, Trials
from tuning_db.records import TrialStatus

TIER = "sm_75"
# Parameters that are not named here keep all their values.
GRID: dict[str, tuple[Value, ...]] = {
    "tile_m": (16, 32, 64, 128),
    "tile_n": (64, 128, 256),
    "tile_k": (32, 64),
    "warps_k": (1,),
    "min_ctas": (1,),
    "k_step": (8,),
    "fragments": (2,),
    "acc": ("f32", "f16p4"),
    "smem": ("none", "sw2.3.3"),
    "stages": (2,),
    "split_k": (1, 4),
    "cache": ("ca",),
    "group_m": (8,),
    "combine": ("none",),
}
BATCH = 8  # variants of one translation unit


@dataclass
class Progress:
    """What was measured in one bucket so far; ``late`` counts what the time did not allow."""

    trials: Trials = field(default_factory=dict)
    late: int = 0

    def line(self, bucket: Bucket) -> str:
        """For the terminal."""
        counts = Counter(trial.status.value for trial in self.trials.values())
        times = [t.time_us for t in self.trials.values() if t.time_us is not None]
        best = f", best {min(times):.1f} us" if times else ""
        late = f", {self.late} left out for lack of time" if self.late else ""
        return f"{bucket}: {dict(counts)}{best}{late}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        record(options, command_line("scripts.record_exhaustive", given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="mixtral-8x7b", help="default: %(default)s")
    add("--layer", default="gate_up", help="default: %(default)s")
    add("--buckets", default="16,256", help="tokens per expert (default: %(default)s)")
    add("--set", action="append", default=[], metavar="NAME=V1,V2", help="values of a parameter")
    add("--minutes", type=float, default=5.0, help="stop then (default: %(default)s)")
    add("--device", type=int, default=0)
    add("--seed", type=int, help="of inputs and order (default: a fresh one)")
    add("--out", type=Path, help="file (default: docs/results/recordings/...json.gz)")
    add("--count", action="store_true", help="only say how many configs the sub-grid has")
    return parser


def sub_space(op: str, changes: Sequence[str]) -> tuple[SearchSpace, dict[str, list[Value]]]:
    """The op's space with GRID's values and those of ``--set``, and the grid itself.

    Raises UserError for a parameter or a value that the space does not have.
    """
    space = space_for(op)
    known = {parameter.name: parameter.values for parameter in space.parameters}
    grid = {name: GRID.get(name, values) for name, values in known.items()}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in known:
            raise UserError(f"--set {change}: parameters are {', '.join(known)}")
        by_text = {str(value): value for value in known[name]}
        strange = [word for word in text.split(",") if word not in by_text]
        if strange:
            raise UserError(f"--set {change}: {name} can be {', '.join(by_text)}")
        grid[name] = tuple(by_text[word] for word in text.split(","))
    parameters = tuple(Parameter(name, values) for name, values in grid.items())
    return replace(space, parameters=parameters), {k: list(v) for k, v in grid.items()}


def record(options: argparse.Namespace, command: str) -> None:
    """Raises UserError for bad input and without a GPU."""
    deadline = time.monotonic() + 60 * options.minutes
    problem = load_model(options.model).problem(options.layer)
    buckets = [Bucket.parse(word) for word in options.buckets.split(",")]
    space, grid = sub_space(problem.op, options.set)
    gpu = device_spec(options.device)
    configs = list(space.view(problem, gpu))
    print(f"{len(configs)} configs of {problem} on {gpu.name}", flush=True)
    if options.count:
        return
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    # In random order, what the time cuts off is a sample like the rest.
    random.Random(seed).shuffle(configs)
    done: Tables = {}
    with CompilePool() as pool, closing(GpuBackend(gpu, [options.device], TIER)) as backend:
        target = Target.for_tier(TIER, gpu.arch)

        builds = _start_builds(problem, configs, pool, target)
        for number, bucket in enumerate(buckets):
            # The time that is left is shared evenly among the buckets that are left.
            share = (deadline - time.monotonic()) / (len(buckets) - number)
            backend.prepare(problem, bucket, seed + number)
            progress = _measure(backend, configs, builds, time.monotonic() + share)
            print(progress.line(bucket), flush=True)
            done[problem, bucket] = progress.trials
    path = options.out or _path(gpu.name, problem)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    Recording(gpu.name, command, date, versions(), done, grid).save(path)
    print(f"wrote {path} ({path.stat().st_size:,} bytes)")


def _path(gpu: str, problem: Problem) -> Path:
    root = Path(__file__).resolve().parent.parent / "docs" / "results" / "recordings"
    name = f"{gpu}_{problem.op}_{problem.label}".replace("/", "_").replace(" ", "_").lower()
    return root / f"{name}.json.gz"


Build = Future[list["Built | BuildError"]]


def _start_builds(
    problem: Problem, configs: Sequence[Any], pool: CompilePool, target: Target
) -> dict[Any, tuple[Build, int]]:
    """Config -> the future of its batch and its place there. Configs may share machine code."""
    keys = list(dict.fromkeys(config.compile_key for config in configs))
    by_key: dict[Any, tuple[Build, int]] = {}
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        future = pool.submit([render(problem, key) for key in batch], target)
        by_key.update({key: (future, place) for place, key in enumerate(batch)})
    return {config: by_key[config.compile_key] for config in configs}


def _measure(
    backend: GpuBackend,
    configs: Sequence[Any],
    builds: dict[Any, tuple[Build, int]],
    deadline: float,
) -> Progress:
    """One bucket: submit each config when its build is done, never more than fit the backend."""
    progress = Progress()
    running: list[Future[Measurement]] = []
    for config in configs:
        if time.monotonic() > deadline:
            progress.late = len(configs) - len(progress.trials) - len(running)
            break
        future, place = builds[config]
        built = future.result()[place]
        if isinstance(built, BuildError):
            progress.trials[str(config)] = RecordedTrial(TrialStatus.COMPILE_ERROR)
            continue
        while len(running) >= backend.slots:
            _settle(running.pop(0), progress)
        running.append(backend.submit(Candidate(config, built), Fidelity.SHORT))
    for left in running:
        _settle(left, progress)
    return progress


def _settle(future: Future[Measurement], progress: Progress) -> None:
    measured = future.result()
    progress.trials[str(measured.config)] = RecordedTrial.of(measured)


if __name__ == "__main__":
    sys.exit(main())
