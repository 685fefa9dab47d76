"""The study and its storage: what a killed run leaves behind is brought in line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import UserError
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from tests.tuner.recordings import GPU, MANY, SMALL, made_up_recording
from tuner.backends.replay import RecordedView
from tuner.optuna_file import optuna_file
from tuner.sampler import distributions
from tuner.storage import last_study, new_study, open_storage
from tuner.study import Study
from tuning_db import Source, TrialRecord, TrialStatus

PLACE = "a place"


@pytest.fixture
def view() -> RecordedView:
    return RecordedView(GROUPED_GEMM, SMALL, GPU, made_up_recording(40).trials[SMALL, MANY])


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[optuna.storages.RDBStorage]:
    opened = open_storage(f"sqlite:///{tmp_path / 'tuning.sqlite'}")
    yield opened
    opened.engine.dispose()


def record(config: Any, number: int, status: TrialStatus = TrialStatus.OK) -> TrialRecord:
    return TrialRecord(
        run_id=1,
        id=number,
        problem=SMALL,
        bucket=MANY,
        gpu_name=GPU.name,
        config=str(config),
        status=status,
        source=Source.REPLAYED,
        time_us=10.0 + number if status is TrialStatus.OK else None,
    )


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()]


def test_a_failure_teaches_the_sampler_as_a_broken_constraint(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    inner = new_study(storage, PLACE, 1)
    study = Study(inner, view, "random", "0")
    proposal = study.ask()
    assert proposal is not None
    study.tell(proposal, record(proposal.config, 1, TrialStatus.COMPILE_ERROR))
    [trial] = inner.get_trials()
    assert trial.state is TrialState.PRUNED
    assert trial.constraints == {"works": 1.0}
    assert trial.user_attrs["config"] == str(proposal.config)


def test_wanted_configs_come_first_and_only_once(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    study = Study(new_study(storage, PLACE, 1), view, "random", "0")
    default = view.default()
    first, again = study.ask(default), study.ask(default)
    assert first is not None and again is not None
    assert first.config == default
    assert again.config != default


def test_reconcile_closes_what_was_open_and_adds_what_is_missing(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    killed = new_study(storage, PLACE, 1)
    study = Study(killed, view, "random", "0")
    finished, running = study.ask(), study.ask()
    assert finished is not None and running is not None
    done = record(finished.config, 1)
    study.tell(finished, done)
    killed.enqueue_trial({p.name: p.values[0] for p in view.space.parameters})
    only_ours = next(config for config in view if config not in study.tried)
    unseen = record(only_ours, 2, TrialStatus.TIMEOUT)

    known = {done.config, unseen.config}
    resumed_inner = last_study(storage, PLACE, view, known, 2)
    assert resumed_inner is not None
    resumed = Study(resumed_inner, view, "random", "1")
    resumed.reconcile([done, unseen])

    assert states(resumed_inner) == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.PRUNED,
    ]
    assert resumed.tried == {finished.config, only_ours}
    rest = [resumed.ask() for _ in range(view.count - 2)]
    configs = {proposal.config for proposal in rest if proposal is not None}
    assert len(configs) == view.count - 2
    assert not configs & resumed.tried - configs
    assert resumed.ask() is None


def test_reconcile_twice_adds_nothing(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    records = [record(config, number) for number, config in enumerate(list(view)[:5], start=1)]
    inner = new_study(storage, PLACE, 1)
    for _ in range(2):
        Study(inner, view, "tpe", "0").reconcile(records)
    assert states(inner) == [TrialState.COMPLETE] * 5
    assert [trial.value for trial in inner.get_trials()] == [r.time_us for r in records]


def test_a_config_that_the_space_no_longer_has_is_left_out(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    known = set(view)
    full = GROUPED_GEMM.view(SMALL, GPU)
    other = next(config for config in full if config not in known)
    inner = new_study(storage, PLACE, 1)
    study = Study(inner, view, "random", "0")
    study.reconcile([record(other, 1)])
    assert states(inner) == []
    assert study.tried == set()


def test_the_newest_study_of_the_place_goes_on(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    new_study(storage, PLACE, 1)
    new_study(storage, "another", 2)
    newest = new_study(storage, PLACE, 3)
    new_study(storage, PLACE, 5)  # of another search, begun while run 4 goes on with run 3's
    found = last_study(storage, PLACE, view, (), 4)
    assert found is not None and found.study_name == newest.study_name
    assert Study(found, view, "random", "0").first_run == 3


def test_a_study_that_knows_more_than_our_table_is_not_trusted(
    storage: optuna.storages.RDBStorage, view: RecordedView
) -> None:
    inner = new_study(storage, PLACE, 1)
    config = view.default()
    inner.add_trial(
        optuna.trial.create_trial(
            value=1.0,
            params={p.name: getattr(config, p.name) for p in view.space.parameters},
            distributions=distributions(view),
        )
    )
    assert last_study(storage, PLACE, view, {str(config)}, 2) is not None
    assert last_study(storage, PLACE, view, (), 2) is None


def test_the_storage_lies_beside_the_db() -> None:
    assert str(optuna_file("sqlite:////data/t.sqlite")) == "/data/t.sqlite.optuna.sqlite"
    server = optuna_file("postgresql+psycopg://me:secret@host.lab:5432/moe?sslmode=require")
    assert server == Path.cwd() / "moe-host.lab.optuna.sqlite"


def test_a_file_that_is_no_optuna_storage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite.optuna.sqlite"
    path.write_text("not a database " * 100)
    with pytest.raises(UserError, match=r"t\.sqlite\.optuna\.sqlite cannot be used"):
        open_storage(f"sqlite:///{tmp_path / 't.sqlite'}")
