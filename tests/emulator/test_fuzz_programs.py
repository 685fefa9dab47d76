"""Random programs of PTX arithmetic, emulated and interpreted in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from templates.built import Binary
from templates.jitlink import link
from tests.emulator.float_oracle import to_float
from tests.emulator.random_programs import (
    NAMES,
    OPERATIONS,
    Line,
    Statement,
    interpret,
    programs,
    ptx,
    states,
)
from tuner.emulator import Unwritten, emulate

THREADS = 40  # one warp and a part of another
FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)


def compare(program: tuple[Statement, ...], seed: int, cohort_lanes: int = 2048) -> None:
    """Fails unless every register of every thread ends with the same bits; NaN equals NaN."""
    text, first = ptx(program, THREADS), states(seed, THREADS)
    found = np.zeros_like(first)
    emulate(
        text, (1, 1, 1), (THREADS, 1, 1), 0, [first, Unwritten(found)], cohort_lanes=cohort_lanes
    )
    for thread in range(THREADS):
        state = dict(zip(NAMES, first[:, thread].tolist(), strict=True))
        interpret(program, state)
        for slot, name in enumerate(NAMES):
            got = int(found[slot, thread])
            both_nan = name[0] == "f" and np.isnan([to_float(got), to_float(state[name])]).all()
            assert got == state[name] or both_nan, f"%{name[0]}{name[1]} of thread {thread}\n{text}"


@pytest.mark.parametrize("number", range(0, len(OPERATIONS), 12))
def test_each_operation_alone(number: int) -> None:
    """Twelve at a time, on registers that differ, and on one that is source and target at once."""
    for operation in OPERATIONS[number : number + 12]:
        sources = [(kind, i % 3) for i, kind in enumerate(operation.kinds[1:])]
        for target in (0, 1):
            line = Line(operation, target, tuple(sources), None)
            for seed in range(3):
                compare((line,), seed)


def test_the_assembler_takes_every_operation() -> None:
    """What is fuzzed is PTX, not what the emulator's reader takes for it."""
    lines = [
        Line(operation, 0, tuple((kind, 1) for kind in operation.kinds[1:]), None)
        for operation in OPERATIONS
    ]
    linked = link(ptx(tuple(lines), THREADS), "k", "sm_75")
    assert isinstance(linked, Binary), linked


@settings(FUZZ, max_examples=60)
@given(programs(straight=True), SEEDS)
def test_straight_programs(program: tuple[Statement, ...], seed: int) -> None:
    compare(program, seed)


@settings(FUZZ, max_examples=40)
@given(programs(straight=False), SEEDS)
def test_programs_with_branches_and_loops(program: tuple[Statement, ...], seed: int) -> None:
    compare(program, seed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(FUZZ, max_examples=2000, derandomize=False)
@given(programs(straight=True) | programs(straight=False), SEEDS)
def test_many_programs(program: tuple[Statement, ...], seed: int) -> None:
    compare(program, seed)
