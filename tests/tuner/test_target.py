"""Which GPU a search is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces import UserError, find_gpu
from tests.tuner.recordings import MANY, SMALL
from tuner import equipment
from tuner import target as module
from tuner.effort import EFFORTS, FULL, QUICK
from tuner.target import Target, resolve_targets
from tuning_db import Source, TrialRecord, TrialStatus, TuningDB

TI, TITAN = find_gpu("RTX 2080 Ti"), find_gpu("TITAN RTX")


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two 2080 Ti around a TITAN RTX; no test machine has one."""
    cards = [TI, replace(TITAN, sms=70), TI]
    monkeypatch.setattr(module, "device_count", lambda: len(cards))
    monkeypatch.setattr(module, "device_spec", lambda index: cards[index])


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, whatever this one has."""

    def none() -> int:
        raise UserError("no usable GPU")

    monkeypatch.setattr(module, "device_count", none)


@pytest.mark.usefixtures("box")
def test_identical_cards_make_one_target_and_others_their_own() -> None:
    titan = replace(TITAN, sms=70)
    assert resolve_targets(None, None, None).found == (Target(TI, (0, 2)), Target(titan, (1,)))
    assert resolve_targets("all", None, None) == resolve_targets(None, None, None)
    assert resolve_targets("1", None, None).found == (Target(titan, (1,)),)
    assert resolve_targets("2, 0,2", None, None).found == (Target(TI, (0, 2)),)


@pytest.mark.usefixtures("box")
def test_a_named_target_is_predicted_even_where_there_are_cards() -> None:
    assert resolve_targets(None, "NVIDIA GeForce RTX 2080 Ti", None).found == (Target(TI),)
    assert resolve_targets(None, None, "sm_75").found == (Target(TI),)
    assert resolve_targets(None, None, "sm_90a").found == (Target(find_gpu("H100")),)


@pytest.mark.usefixtures("bare")
def test_without_a_gpu_the_fallback_is_told() -> None:
    targets = resolve_targets(None, None, None)
    assert targets.found == (Target(TI),)
    assert targets.note is not None and "no GPU here" in targets.note
    assert resolve_targets(None, "T4", None).note is None
    with pytest.raises(UserError, match="no usable GPU"):
        resolve_targets("all", None, None)


@pytest.mark.parametrize("text", ["", ",", "0,", "-1", "0;1", "first"])
def test_malformed_card_numbers(text: str) -> None:
    with pytest.raises(UserError, match="expected device numbers"):
        resolve_targets(text, None, None)


def test_limits_of_the_user_replace_those_of_the_effort() -> None:
    assert EFFORTS == {"quick": QUICK, "full": FULL}
    assert QUICK.limited(trials=None, minutes=None, exhaustive=False) == QUICK
    timed = QUICK.limited(trials=None, minutes=3.0, exhaustive=False)
    assert (timed.trials, timed.minutes) == (None, 3.0)
    assert QUICK.limited(trials=5, minutes=None, exhaustive=True).trials == 5
    assert QUICK.limited(trials=None, minutes=None, exhaustive=True).trials is None


@pytest.mark.usefixtures("box")
def test_trials_are_booked_on_the_card_or_on_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that does not compile never saw a card."""
    monkeypatch.setattr(equipment, "device_uuid", lambda card: f"GPU-{card}")
    [two, _] = resolve_targets(None, None, None).found
    with TuningDB.open(tmp_path / "t.sqlite") as db:
        run = db.begin_run("a test", {}, None, 1)
        for gpu in equipment.gpu_records(two):
            db.gpu_id(gpu)
        for uuid in ("GPU-0", "GPU-2", None):
            failed = TrialRecord(
                run_id=run,
                problem=SMALL,
                bucket=MANY,
                gpu_name=two.gpu.name,
                gpu_uuid=uuid,
                config="a config",
                status=TrialStatus.COMPILE_ERROR,
                source=Source.MEASURED,
            )
            db.add_trial(failed)
        found = db.trials(SMALL, MANY, "RTX 2080 Ti")
    assert [trial.gpu_uuid for trial in found] == ["GPU-0", "GPU-2", None]
