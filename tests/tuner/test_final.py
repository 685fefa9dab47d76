"""Who wins a final, on one card and on several."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tuner.recordings import GPU, MANY, SMALL, recorded_configs
from tuner.final import choose_winner, finalists, provisional
from tuning_db import Source, TrialRecord, TrialStatus, Winner

CONFIGS = recorded_configs(6)
DEFAULT, A, B, C, D, E = CONFIGS


def trial(
    config: Any,
    time_us: float | None,
    spread_us: float = 0.1,
    *,
    card: str = "GPU-0",
    status: TrialStatus = TrialStatus.OK,
) -> TrialRecord:
    return TrialRecord(
        run_id=1,
        problem=SMALL,
        bucket=MANY,
        gpu_name=GPU.name,
        gpu_uuid=card,
        config=str(config),
        status=status,
        source=Source.MEASURED,
        time_us=time_us,
        time_spread_us=spread_us,
        is_default=config == DEFAULT,
    )


def by_config(*trials: TrialRecord) -> dict[str, list[TrialRecord]]:
    grouped: dict[str, list[TrialRecord]] = {}
    for one in trials:
        grouped.setdefault(one.config, []).append(one)
    return grouped


def test_the_fastest_wins_and_overlapping_spreads_are_ties() -> None:
    verdict = choose_winner(
        by_config(trial(DEFAULT, 20.0), trial(A, 10.0, 0.3), trial(B, 10.5, 0.2), trial(C, 10.6))
    )
    assert verdict.winner is not None and verdict.winner.config == str(A)
    assert [tie.config for tie in verdict.ties] == [str(B)]
    assert verdict.default is not None and verdict.default.time_us == 20.0


def test_a_default_that_is_fastest_wins_itself() -> None:
    verdict = choose_winner(by_config(trial(DEFAULT, 9.0), trial(A, 10.0)))
    assert verdict.winner == verdict.default


def test_the_mean_over_cards_decides_and_the_slower_card_stands_for_it() -> None:
    verdict = choose_winner(
        by_config(
            trial(A, 10.0, card="GPU-0"),
            trial(A, 14.0, card="GPU-1"),
            trial(B, 11.0, card="GPU-0"),
            trial(B, 11.5, card="GPU-1"),
        )
    )
    assert verdict.winner is not None
    assert (verdict.winner.config, verdict.winner.gpu_uuid) == (str(B), "GPU-1")
    assert verdict.ties == ()


def test_a_config_that_fails_on_one_card_cannot_win() -> None:
    wrong = trial(A, None, card="GPU-1", status=TrialStatus.WRONG_RESULT)
    verdict = choose_winner(by_config(trial(A, 5.0), wrong, trial(DEFAULT, 20.0)))
    assert verdict.winner is not None and verdict.winner.is_default


@pytest.mark.parametrize("status", [s for s in TrialStatus if s is not TrialStatus.OK])
def test_nobody_wins_when_nothing_works(status: TrialStatus) -> None:
    assert choose_winner(by_config(trial(DEFAULT, None, status=status))).winner is None
    assert provisional([trial(DEFAULT, None, status=status)]).winner is None


def test_finalists_are_the_fastest_the_default_and_the_present_winner() -> None:
    records = [trial(DEFAULT, 20.0), trial(A, 12.0), trial(B, 11.0), trial(C, 13.0)]
    records.append(trial(E, None, status=TrialStatus.TIMEOUT))
    incumbent = Winner(SMALL, MANY, GPU.name, trial(D, 10.0), None)
    assert finalists(records, 2, [DEFAULT], incumbent) == [B, A, DEFAULT, D]
    assert finalists(records, 2, [DEFAULT], None) == [B, A, DEFAULT]
    assert finalists(records, 2, [DEFAULT, E, C], incumbent) == [B, A, DEFAULT, C, D]
    assert finalists(records, 9, [DEFAULT], None) == [B, A, C, DEFAULT]


def test_a_default_or_winner_that_failed_now_is_no_finalist() -> None:
    failed = trial(DEFAULT, None, status=TrialStatus.LAUNCH_ERROR)
    lost = trial(D, None, status=TrialStatus.WRONG_RESULT)
    incumbent = Winner(SMALL, MANY, GPU.name, trial(D, 10.0), None)
    assert finalists([failed, lost, trial(A, 12.0)], 3, [DEFAULT], incumbent) == [A]
