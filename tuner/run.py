"""``python -m tuner.run``: one config, rendered, built, verified and timed on a GPU."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces import space_for
from search_spaces.command_line import run_command
from search_spaces.cost_model import explain
from search_spaces.errors import UserError
from search_spaces.gpu import GpuSpec, find_gpu
from search_spaces.prices import predict
from templates.build import build_batch
from templates.built import Built, Target, require_built
from templates.cache import KernelCache
from templates.device import device_count, device_spec
from templates.ops import render
from templates.variant import translation_unit
from tuner.backends.base import Candidate, Measurement
from tuner.figures import Work
from tuner.job import Setting, job_of
from tuner.run_options import RunOptions, parse_run_options
from tuner.valid_config import valid_config
from tuning_db.records import Source, TrialStatus, Verified

EXIT_FAILED = 1
FALLBACK_GPU = "RTX 2080 Ti"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    0: right and timed, or printed; 1: the kernel is wrong or cannot run; 2: bad input, told in
    one line.
    """
    given = sys.argv[1:] if argv is None else argv
    return run_command(lambda: _run(parse_run_options(given)))


def _run(options: RunOptions) -> int:
    space = space_for(options.problem.op)
    # A name that is none is told before anything of the GPU, which a wrong one does not need.
    chosen = None if options.config == "default" else space.config_type.parse(options.config)
    gpu = _gpu(options)
    config = valid_config(chosen, space.view(options.problem, gpu))
    if options.view == "explain":
        # Which expert gets how many rows does not matter to the model: any seed will do.
        histogram = options.bucket.histogram(options.problem, options.seed or 0)
        prediction = predict(options.problem, config, gpu, histogram)
        print("\n".join([f"{config} on {gpu.name}", *explain(prediction)]))
        return 0
    variant = render(options.problem, config)
    if options.view == "source":
        print(translation_unit([variant]))
        return 0
    target, cache = Target.for_tier(variant.tier, gpu.arch), KernelCache()
    [result] = build_batch(cache, [variant], target)
    built = require_built(result, config)
    if options.view == "ptx":
        print(built.ptx)
        return 0
    if options.view == "sass":
        from tuner.disassembly import disassemble

        print(disassemble(built.binaries[gpu.arch].cubin))
        return 0
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    setting = Setting(options.problem, options.bucket, seed)
    measured = _measure(options, setting, Candidate(config, built), target, cache)
    _tell(Timed(setting, gpu, built, measured), as_json=options.json)
    return 0 if measured.status is TrialStatus.OK else EXIT_FAILED


def _gpu(options: RunOptions) -> GpuSpec:
    if options.gpu is not None:
        return find_gpu(options.gpu)
    try:
        device_count()
    except UserError as error:
        if options.device is not None:
            raise
        if options.view is None:
            raise UserError(
                f"timing needs a GPU ({error}): --explain, --source, --ptx and --sass work "
                "without one"
            ) from error
        return find_gpu(FALLBACK_GPU)
    return device_spec(options.device or 0)


def _measure(
    options: RunOptions, setting: Setting, candidate: Candidate, target: Target, cache: KernelCache
) -> Measurement:
    """In this very process, so that a profiler sees the kernel; it ends with it."""
    from tuner.measurer import GpuMeasurer
    from tuner.timing import FULL, Repeats

    count = options.iterations
    repeats = FULL if count is None else Repeats(count, count, 0.0)
    measurer = GpuMeasurer(options.device or 0)
    measurer.prepare(setting)
    try:
        return measurer.measure(job_of(candidate, target, cache), repeats)
    except RuntimeError as error:  # CUDA's own, an illegal address for one
        reason = str(error).partition("\n")[0]
        status, source = TrialStatus.LAUNCH_ERROR, Source.MEASURED
        return Measurement(candidate.config, status, source, Verified.NONE, error=reason)


@dataclass(frozen=True)
class Timed:
    """What is told at the end."""

    setting: Setting
    gpu: GpuSpec
    built: Built
    measured: Measurement

    def facts(self) -> dict[str, Any]:
        """Name -> value, in the order of telling; what does not apply is left out."""
        measured, us = self.measured, self.measured.time_us
        work = Work.of(self.setting.problem, self.setting.bucket, self.gpu)
        resources = self.built.binaries[self.gpu.arch].resources
        facts = {
            "problem": str(self.setting.problem),
            "bucket": str(self.setting.bucket),
            "config": str(measured.config),
            "gpu": self.gpu.name,
            "arch": resources.arch,
            "entry": self.built.variant.entry,
            "seed": self.setting.seed,
            "registers": resources.registers,
            "spill_bytes": resources.spill_stores + resources.spill_loads,
            "smem_bytes": self.built.variant.smem_bytes + resources.smem_static,
            "status": measured.status.value,
            "error": measured.error,
            "verified": measured.verified.value,
            "rel_error": measured.rel_error,
            "time_us": us,
            "spread_us": measured.spread_us,
            "tflops": (work.tflops(us) or None) if us else None,
            "gbps": work.gbps(us) if us else None,
            "roofline": work.roofline(us) if us else None,
            "sm_clock_mhz": measured.sm_clock_mhz,
            "temperature_c": measured.temperature_c,
            "gpu_busy": measured.gpu_busy,
        }
        return {name: value for name, value in facts.items() if value is not None}


def _tell(timed: Timed, *, as_json: bool) -> None:
    facts = timed.facts()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        print(f"{name:14}{value:.5g}" if isinstance(value, float) else f"{name:14}{value}")


if __name__ == "__main__":
    sys.exit(main())
