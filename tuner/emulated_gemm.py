"""EmulatedGemm: a grouped GEMM's PTX, executed on the CPU and checked like on a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.numerics import tolerance
from search_spaces.problem import Problem
from templates.built import Built
from templates.grouped_gemm import launch_shape
from tuner.emulated import Emulated
from tuner.emulated_passes import emulate_passes
from tuner.emulator import EmulationFault, Unwritten
from tuner.inputs import POISON, Inputs, draw_inputs
from tuner.patch import Patch, ctas_of
from tuner.reference import AnyReference, full_reference, part_reference
from tuner.verify import Verdict, check_values, check_writes
from tuning_db.records import TrialStatus

BUDGET = 100_000_000  # warp instructions of a cohort: minutes
LARGEST_BYTES = 1 << 30  # of A, B and C: the emulator keeps them several times
CPU = torch.device("cpu")


def check_config(
    problem: Problem,
    config: Any,
    built: Built,
    histogram: Sequence[int],
    seed: int,
    *,
    sample: Sequence[Patch] | None = None,
    count: bool = False,
    budget: int = BUDGET,
    processes: int = 1,
) -> Emulated:
    """Runs ``built``, which was built for (problem, config), on operands drawn from ``seed``.

    ``histogram`` is rows per expert, [E], at least one in all, and whole tokens where rows are
    combined. Every element of C is compared with fp32 and has to be written, counters have to be
    zero afterwards. With ``sample``, only the CTAs of these parts of C run, whose rows stay apart;
    they have to write these and nothing else. ``count`` keeps the emulation's counters.
    ``processes`` share the CTAs, unless these add up each other's sums. Raises UserError for
    operands beyond a gigabyte and for more than one process where CTAs do that, PtxError for PTX
    that the emulator does not know.
    """
    rows = sum(histogram)
    require_size(problem, rows)
    inputs = draw_inputs(problem, Bucket(rows / problem.experts), histogram, seed, CPU)
    inputs.poison()
    shape = launch_shape(problem, config, rows)
    counters = torch.zeros(shape.counters, dtype=torch.int32)
    a, b, c, *others = inputs.operands
    try:
        emulation = emulate_passes(
            built, shape, (a, b, Unwritten(c), *others), counters,
            ctas=None if sample is None else ctas_of(sample, shape), count=count, budget=budget,
            processes=processes,
        )  # fmt: skip
    except EmulationFault as fault:
        return Emulated(TrialStatus.LAUNCH_ERROR, str(fault), None, None)
    verdict = _verdict(inputs, config, sample)
    reason = verdict.reason
    if reason is None and bool(counters.any()):
        reason = "counters are not zero after the launch"
    status = TrialStatus.OK if reason is None else TrialStatus.WRONG_RESULT
    return Emulated(status, reason, verdict.rel_error, emulation)


def require_size(problem: Problem, rows: int) -> None:
    """Raises UserError for operands beyond what is emulated."""
    needed = problem.traffic(rows, problem.experts)
    if needed > LARGEST_BYTES:
        raise UserError(
            f"{problem} with {rows} rows has {needed / 1e9:.1f} GB of operands, and at most "
            f"{LARGEST_BYTES / 1e9:.1f} GB are emulated: choose fewer experts with --shape"
        )


def _verdict(inputs: Inputs, config: Any, sample: Sequence[Patch] | None) -> Verdict:
    """A hole in C or a write beside it says more than the wrong numbers that come with it."""
    references: Iterable[AnyReference]
    if sample is None:
        references, reason = full_reference(inputs), check_writes(inputs)
    else:
        references = (part_reference(inputs, p.expert, p.rows, p.columns) for p in sample)
        reason = _check_parts(inputs, sample)
    verdict = check_values(inputs.c, references, tolerance(config.acc, inputs.problem.k))
    return verdict if reason is None else Verdict(verdict.rel_error, reason)


def _check_parts(inputs: Inputs, sample: Sequence[Patch]) -> str | None:
    """The reason when one of the parts was not wholly written, or something beyond them was."""
    written = inputs.c.view(torch.int16) != POISON
    for part in sample:
        rows, columns = (slice(r.start, r.stop) for r in (part.rows, part.columns))
        if not bool(written[rows, columns].all()):
            row, column = torch.nonzero(~written[rows, columns])[0].tolist()
            where = f"C[{part.rows.start + row}, {part.columns.start + column}]"
            return f"{where} was never written"
        written[rows, columns] = False
    if not bool(written.any()):
        return None
    row, column = torch.nonzero(written)[0].tolist()
    return f"C[{row}, {column}] was written by a CTA to which it does not belong"
