"""Regret, from the trials of finals in a real SQLite DB, against figures worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from search_spaces import Bucket, GpuSpec, Problem, find_gpu
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB
from tuning_db.cli import main
from tuning_db.regret import Regret, regrets

GPU: GpuSpec = find_gpu("RTX 2080 Ti")
PROBLEM = Problem("grouped_gemm", 8, 512, 512, 2, label="small/down")
Times = Mapping[str, "float | None"]


@dataclass
class Tuner:
    """Writes what a search leaves: trials, finals on some cards, winners."""

    db: TuningDB
    cards: tuple[str, ...] = ("GPU-1",)

    def place(self, bucket: str, times: Times, winner: str | None, *, searched: bool) -> None:
        """A final of these mean times, None where a config fails; one run each."""
        run = self.db.begin_run("a test", {}, None, 1)
        place = Bucket.parse(bucket)
        ids = {}
        for config, mean_us in times.items():
            for number, card in enumerate(self.cards):
                self.db.gpu_id(GpuRecord(name=GPU.name, arch="sm_75", uuid=card))
                for finalist in (False, True) if searched else (True,):
                    # Cards differ by a microsecond each, evenly around the mean.
                    off = number - (len(self.cards) - 1) / 2
                    ids[config] = self.db.add_trial(
                        TrialRecord(
                            run_id=run, problem=PROBLEM, bucket=place, gpu_name=GPU.name,
                            gpu_uuid=card, config=config, source=Source.MEASURED,
                            status=TrialStatus.OK if mean_us else TrialStatus.WRONG_RESULT,
                            time_us=mean_us + off if mean_us else None,
                            is_default=config == "default", is_finalist=finalist,
                        )
                    )  # fmt: skip
        if winner is not None:
            self.db.set_winner(PROBLEM, place, GPU.name, ids[winner])
        self.db.end_run(run, "finished")

    def told(self) -> list[Regret]:
        return regrets(self.db, PROBLEM, GPU.name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "t.sqlite"


@pytest.fixture
def tuner(file: Path) -> Iterator[Tuner]:
    """Two searched buckets, 2 and 32, won by "few" and "many"."""
    with TuningDB.open(file) as db:
        found = Tuner(db)
        found.place("2", {"few": 10.0, "default": 20.0}, "few", searched=True)
        found.place("32", {"many": 50.0, "default": 60.0}, "many", searched=True)
        yield found


def figures(found: list[Regret]) -> list[tuple[str, str, float, float]]:
    """(bucket, place, point, regret in percent)."""
    return [
        (
            f"{r.bucket.tokens_per_expert:g}",
            r.where,
            r.point.tokens_per_expert,
            round(100 * r.share, 3),
        )
        for r in found
    ]


def test_without_a_point_winners_lose_nothing_that_is_known(tuner: Tuner) -> None:
    assert figures(tuner.told()) == [("2", "middle", 2, 0), ("32", "middle", 32, 0)]
    assert [r.selected_us for r in tuner.told()] == [None, None]


def test_a_point_belongs_to_both_neighbours(tuner: Tuner) -> None:
    tuner.place(
        "8", {"few": 26.0, "many": 25.0, "new": 20.0, "default": 40.0}, None, searched=False
    )
    assert figures(tuner.told()) == [
        ("2", "middle", 2, 0), ("2", "high", 8, 30), ("32", "low", 8, 25), ("32", "middle", 32, 0)
    ]  # fmt: skip
    high = tuner.told()[1]
    assert (high.winner, high.best, high.best_us, high.split) == ("few", "new", 20.0, False)


def test_a_point_with_a_winner_is_a_bucket_whose_sides_are_points(tuner: Tuner) -> None:
    tuner.place("8", {"few": 26.0, "many": 25.0, "new": 20.0}, "new", searched=False)
    tuner.place("4", {"few": 15.0, "new": 15.15}, None, searched=False)
    found = tuner.told()
    assert figures(found) == [
        ("2", "middle", 2, 0), ("2", "high", 4, 0), ("2", "high", 8, 30),
        ("8", "low", 4, 1), ("8", "middle", 8, 0), ("32", "low", 8, 25), ("32", "middle", 32, 0),
    ]  # fmt: skip
    assert [r.split for r in found] == [False, False, True, False, False, True, False]


def test_times_are_means_over_cards_and_failing_on_one_is_failing(tuner: Tuner) -> None:
    tuner.cards = ("GPU-1", "GPU-2", "GPU-3")
    tuner.place("8", {"few": None, "many": 25.0, "new": 20.0}, None, searched=False)
    low, high = [r for r in tuner.told() if r.where != "middle"]
    assert (low.time_us, low.share) == (None, math.inf)
    assert (high.time_us, high.best_us) == (25.0, 20.0)


def test_only_the_newest_final_counts(tuner: Tuner) -> None:
    tuner.place("8", {"few": 90.0, "many": 90.0, "new": 10.0}, None, searched=False)
    tuner.place("8", {"few": 20.0, "many": 22.0}, None, searched=False)
    assert [(r.best, round(r.share, 6)) for r in tuner.told() if r.where != "middle"] == [
        ("few", 0.0), ("few", 0.1)
    ]  # fmt: skip


def test_a_winner_that_the_point_never_timed_has_no_figure(tuner: Tuner) -> None:
    tuner.place("8", {"few": 20.0, "many": 22.0}, None, searched=False)
    tuner.place("32", {"other": 40.0, "many": 50.0}, "other", searched=True)
    assert [r.bucket.tokens_per_expert for r in tuner.told() if r.where != "middle"] == [2]


def test_selection_weighs_both_sides(tuner: Tuner) -> None:
    """few is taken for 40 us (in proportion), many for 50 (no less than at 32): few is taken."""
    tuner.place("8", {"few": 26.0, "many": 25.0, "new": 20.0}, None, searched=False)
    low, high = [r for r in tuner.told() if r.where != "middle"]
    assert low.selected_us == high.selected_us == 26.0
    assert low.selected_share == pytest.approx(0.3)


def test_skews_are_lines_of_their_own(tuner: Tuner) -> None:
    tuner.place("2@zipf:1", {"few": 10.0}, "few", searched=True)
    tuner.place("8@zipf:1", {"few": 26.0, "many": 25.0}, None, searched=False)
    assert [str(r.point) for r in tuner.told()] == ["2@uniform", "32@uniform", "2@zipf:1"]


def test_the_command_tells_them(
    tuner: Tuner, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuner.place("8", {"few": None, "many": 25.0, "new": 20.0}, "new", searched=False)
    assert main(["regret", "--db", str(file), "--model", "small"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][3:] == [
        "tokens per expert", "place", "µs", "best µs", "regret", "selected", "split", "source"
    ]  # fmt: skip
    assert [line[2:] for line in lines[2:5]] == [
        ["2@uniform", "8", "high", "-", "20", "-", "-", "yes", "measured"],
        ["8@uniform", "8", "middle", "20", "20", "0.0%", "-", "no", "measured"],
        ["32@uniform", "8", "low", "25", "20", "25.0%", "-", "yes", "measured"],
    ]
    assert main(["regret", "--db", str(file), "--json", "--gpu", "NVIDIA GeForce RTX 2080 Ti"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["regret"] for row in rows] == [0, None, 0, 0.25, 0]
    assert main(["regret", "--db", str(file), "--model", "other"]) == 0
    assert "python -m tuner.search --split" in capsys.readouterr().out
