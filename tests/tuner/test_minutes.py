"""How the minutes of a run bound searches, and whole layers on a card that is made up."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.recordings import GPU as RECORDED
from tests.tuner.recordings import made_up_recording
from tuner.effort import Effort
from tuner.final import Verdict
from tuner.layer_stage import MOST, NO_TIME, SECONDS, reserved_for_layers, search_layers
from tuner.options import parse_options
from tuner.place_search import Run
from tuner.plan import Place, Plan, make_plan
from tuner.progress import SearchProgress
from tuner.report import Outcome
from tuner.search import main
from tuner.storage import open_storage
from tuner.target import Target
from tuner.warm_start import warm_start
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB

GPU = "RTX 2080 Ti"
ARGUMENTS = ("--op", "moe_layer", "--shape", "E=4,H=64,I=64,top_k=2", "--buckets", "1,16",
             "--gpu", GPU, "--seed", "1")  # fmt: skip


def planned(folder: Path, *more: str) -> Plan:
    """A plan as it would be with a card."""
    database = ("--db", str(folder / "tuning.sqlite"))
    plan = make_plan(parse_options([*ARGUMENTS, *database, *more]))
    card = Target(plan.targets[0].gpu, (0,))
    places = (replace(p, target=card, source=Source.MEASURED) for p in plan.places)
    return replace(plan, places=tuple(places))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    plan = planned(tmp_path, "--minutes", "1")
    with TuningDB.open(plan.db_url) as db:
        db.gpu_id(GpuRecord(name=GPU, arch="sm_75"))
        run_id = db.begin_run("python -m tuner.search", {}, None, 1)
        progress = SearchProgress(Console(file=io.StringIO()))
        yield Run(plan, run_id, db, open_storage(plan.db_url), progress, {})


def default_of(run: Run, place: int) -> Outcome:
    """A searched place whose default won."""
    here = run.plan.places[place]
    record = TrialRecord(
        run_id=run.id,
        problem=here.problem,
        bucket=here.bucket,
        gpu_name=GPU,
        config=str(here.view.default()),
        status=TrialStatus.OK,
        source=Source.MEASURED,
        time_us=10.0,
        is_default=True,
    )
    return Outcome(here, (record,), Verdict(record, record), stored=True)


@pytest.mark.parametrize("minutes", [0.1, 0.5, 1.1, 60.0])
def test_seconds_are_kept_for_every_bucket_but_never_most_of_a_run(
    tmp_path: Path, minutes: float
) -> None:
    plan = planned(tmp_path, "--minutes", str(minutes))
    reserve = reserved_for_layers(plan, 6.0)
    kept = 60 * minutes * reserve / (6.0 + reserve)
    assert kept == pytest.approx(min(2 * SECONDS, MOST * 60 * minutes))


def test_without_a_card_or_minutes_nothing_is_kept(tmp_path: Path) -> None:
    assert reserved_for_layers(planned(tmp_path), 6.0) == 0
    database = ("--db", str(tmp_path / "tuning.sqlite"), "--minutes", "1")
    assert reserved_for_layers(make_plan(parse_options([*ARGUMENTS, *database])), 6.0) == 0


def test_when_the_minutes_are_over_no_layer_is_begun(run: Run) -> None:
    """There is no GPU here: a child would be refused, and its words be the reason."""
    outcomes = [default_of(run, place) for place in range(len(run.plan.places))]
    layers = search_layers(outcomes, run.plan.targets[0], run, Event(), lambda: True)
    assert [layer.skipped for layer in layers] == [NO_TIME] * 2
    assert [layer.place.bucket.tokens_per_expert for layer in layers] == [1.0, 16.0]
    assert all(layer.verdict.winner is None and not layer.records for layer in layers)


def test_when_the_minutes_are_over_nothing_is_ranked_and_every_final_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []

    def counted(place: Place, effort: Effort, rng: random.Random) -> list[Any]:
        ranked.append(place)
        return warm_start(place, effort, rng)

    monkeypatch.setattr("tuner.place_search.warm_start", counted)
    made_up_recording(20).save(tmp_path / "r.json.gz")
    files = ["--replay", str(tmp_path / "r.json.gz"), "--db", str(tmp_path / "tuning.sqlite")]
    assert main([*files, "--minutes", "1e-6", "--seed", "1"]) == 0
    with TuningDB.open(tmp_path / "tuning.sqlite", readonly=True) as db:
        winners = db.winners(RECORDED.name)
    assert ranked == []
    assert len(winners) > 1 and all(winner.trial.is_default for winner in winners)
    assert main([*files, "--trials", "2", "--seed", "1"]) == 0
    assert len(ranked) > 0
