"""Minutes are shared out so that every place is searched."""

from __future__ import annotations

from tuner.clock import Clock


class _Time:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def begin(clock: Clock) -> float | None:
    """The deadline of the next place, which needs a search."""
    clock.begin()
    return clock.deadline()


def test_without_minutes_there_is_no_deadline() -> None:
    assert begin(Clock(None, 3)) is None


def test_equal_shares_where_searches_end_in_time() -> None:
    time = _Time()
    clock = Clock(4.0, 4, time)
    for number in range(1, 5):
        assert begin(clock) == 100 + 60 * number
        time.now = 100 + 60 * number


def test_a_place_that_ends_early_leaves_its_time_to_the_others() -> None:
    time = _Time()
    clock = Clock(2.0, 2, time)
    begin(clock)
    time.now += 10
    assert begin(clock) == time.now + 110


def test_long_finals_shorten_every_search_and_starve_none() -> None:
    time = _Time()
    clock = Clock(2.0, 16, time)  # 7.5 s for each
    windows = []
    for _ in range(16):
        deadline = begin(clock)
        assert deadline is not None
        windows.append(deadline - time.now)
        time.now = deadline + 5.0
    assert min(windows) > 1.0
    assert time.now < 100 + 120 + 2 * 7.5


def test_when_time_is_up_the_deadline_is_now() -> None:
    time = _Time()
    clock = Clock(1.0, 2, time)
    begin(clock)
    time.now += 600
    assert begin(clock) == time.now


def test_a_reserve_is_left_when_the_last_place_has_had_its_share() -> None:
    time = _Time()
    clock = Clock(5.0, 4 + 1.0, time)
    for number in range(1, 5):
        assert begin(clock) == 100 + 60 * number
        time.now = 100 + 60 * number
    assert not clock.over()
    time.now += 60
    assert clock.over()
    assert not Clock(None, 1, time).over()


def test_what_a_place_needs_before_its_search_is_not_taken_off_it() -> None:
    """A measuring process starts for the first place alone: no other one pays for that either."""
    time = _Time()
    clock = Clock(1.0, 3, time)
    clock.begin()
    time.now += 12
    deadline = clock.deadline()
    assert deadline == time.now + 16
    time.now = deadline
    assert begin(clock) == time.now + 16


def test_a_place_that_needs_no_search_leaves_its_time_to_the_others() -> None:
    time = _Time()
    clock = Clock(2.0, 2, time)
    clock.begin()
    assert begin(clock) == time.now + 120
