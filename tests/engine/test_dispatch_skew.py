"""Dispatch by rows and skew from a real SQLite DB: whose winners answer, and how often it asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine import TunedKernels
from engine.kernels.dispatcher import Dispatcher, preferred_skew
from search_spaces import Problem, Skew, UserError, find_gpu
from tests.engine.tuned_db import CARD, DEFAULT, FEW, GATE_UP, MANY, add_bucket
from tuning_db import Source
from tuning_db.tunings import Tunings

MIDDLE = FEW.replace("_g1_", "_g4_")
OTHER = Problem("grouped_gemm", 64, 2048, 1024, 6)
RANGES = [  # whose winners are nearest, by the borders between 0, 0.5, 1.2 and, for OTHER, 2
    (0.0, 0), (0.24, 0), (0.26, 1), (0.59, 1), (0.61, 2), (0.84, 2), (0.86, 3),
    (0.99, 3), (1.01, 4), (1.24, 4), (1.26, 5), (1.59, 5), (1.61, 6), (8.0, 6),
]  # fmt: skip


@pytest.fixture(scope="module")
def dispatcher(tmp_path_factory: pytest.TempPathFactory) -> Dispatcher:
    """GATE_UP is tuned for three skews and OTHER for two, one of them its own."""
    file = tmp_path_factory.mktemp("skewed") / "t.sqlite"
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    add_bucket(file, "16@zipf:0.5", {MIDDLE: 55.0, DEFAULT: 80.0})
    add_bucket(file, "16@zipf:1.2", {MANY: 60.0, DEFAULT: 80.0})
    add_bucket(file, "256", {MANY: 500.0, DEFAULT: 800.0})
    for bucket, config in (("16", FEW), ("16@zipf:2", MANY)):
        add_bucket(file, bucket, {config: 5.0, DEFAULT: 8.0}, problem=OTHER)
    return Dispatcher(Tunings(file, find_gpu(CARD)), None)


@pytest.mark.parametrize(("exponent", "index"), RANGES)
def test_skews_that_are_served_alike_share_an_index(
    dispatcher: Dispatcher, exponent: float, index: int
) -> None:
    assert dispatcher.skew_index(Skew("zipf", exponent)) == index
    assert dispatcher.skew_index(None) == 0
    assert dispatcher.skew_index(dispatcher.skews[index]) == index
    assert len(dispatcher.skews) == 7


def test_the_nearest_tuned_skew_answers(dispatcher: Dispatcher) -> None:
    def pick(skew: str | None, problem: Problem = GATE_UP, rows: int = 128) -> str:
        wanted = None if skew is None else Skew.parse(skew)
        return dispatcher.choose(problem, rows, top_k=problem.top_k, skew=wanted).config

    skews = (None, "uniform", "zipf:0.2", "zipf:0.6", "zipf:0.9", "zipf:3")
    assert [pick(skew) for skew in skews] == [FEW, FEW, FEW, MIDDLE, MANY, MANY]
    assert [pick(s, OTHER, 1024) for s in ("zipf:0.9", "zipf:1.1")] == [FEW, MANY]
    assert pick("zipf:1.2", rows=2048) == MANY, "nothing skewed is near: uniform winners speak"


@given(st.floats(0.01, 8), st.sampled_from([GATE_UP, OTHER]), st.integers(1, 5000))
@settings(max_examples=200, deadline=None)
def test_an_index_stands_for_all_of_its_range(
    dispatcher: Dispatcher, exponent: float, problem: Problem, rows: int
) -> None:
    """Choosing for the index is choosing for the exponent itself; on a border two are as near."""
    assume(min(abs(exponent - border) for border in dispatcher.tunings.borders) > 1e-9)
    fixed = Dispatcher(dispatcher.tunings, Skew("zipf", exponent))
    skew = Skew("zipf", exponent)
    assert dispatcher.choose(problem, rows, top_k=None, skew=skew) == fixed.choose(
        problem, rows, top_k=None
    )


def test_who_asked_for_one_skew_keeps_it(dispatcher: Dispatcher) -> None:
    fixed = Dispatcher(dispatcher.tunings, Skew.parse("zipf:0.5"))
    steep = Skew.parse("zipf:1.2")
    assert fixed.choose(GATE_UP, 128, top_k=2, skew=steep).config == MIDDLE
    assert {fixed.skew_index(skew) for skew in (None, Skew(), steep)} == {0}
    assert fixed.skews == (Skew.parse("zipf:0.5"),)


def test_one_tuned_skew_needs_one_entry(tmp_path: Path) -> None:
    add_bucket(tmp_path / "t.sqlite", "16", {FEW: 50.0, DEFAULT: 80.0})
    dispatcher = Dispatcher(Tunings(tmp_path / "t.sqlite", find_gpu(CARD)), None)
    assert dispatcher.skew_index(Skew("zipf", 1.2)) == 0


def test_a_measured_time_of_another_skew_beats_a_prediction_of_this_one(tmp_path: Path) -> None:
    file = tmp_path / "t.sqlite"
    add_bucket(file, "16", {FEW: 50.0, DEFAULT: 80.0})
    add_bucket(file, "16@zipf:1.2", {MANY: 1.0, DEFAULT: 2.0}, source=Source.PREDICTED)
    dispatcher = Dispatcher(Tunings(file, find_gpu(CARD)), None)
    choice = dispatcher.choose(GATE_UP, 128, top_k=2, skew=Skew("zipf", 1.2))
    assert (choice.config, choice.source) == (FEW, Source.MEASURED)


def test_auto_is_a_skew_to_ask_for(tmp_path: Path) -> None:
    assert preferred_skew("auto") is None
    assert preferred_skew("zipf:1.2") == Skew("zipf", 1.2)
    kernels = TunedKernels(tmp_path / "none", "cpu", skew="auto")
    assert kernels.explain(GATE_UP, 64).config == DEFAULT
    with pytest.raises(UserError, match=r"skew 'steep': use uniform or zipf:X .*, or auto"):
        TunedKernels(tmp_path / "none", "cpu", skew="steep")
