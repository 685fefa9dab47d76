"""Export and import: a colleague's trials arrive whole, once, and all or none."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import text

from search_spaces.errors import UserError
from tests.tuning_db.samples import (
    DOWN,
    FULL,
    GATE_UP,
    OTHER,
    SIXTEEN,
    SKEWED,
    begin,
    predicted,
    trial,
)
from tuning_db import Source, TrialStatus, TuningDB, frame
from tuning_db.exchange import Merged, export, merge, read_trials

FORMATS = ["csv", "json", "parquet"]
HERE_ALONE = ["id", "run_id"]  # numbers of rows, which another DB gives anew


@pytest.fixture
def colleague(tmp_path: Path) -> Iterator[TuningDB]:
    """A DB with two winners, and every kind of value in its columns."""
    with TuningDB.open(tmp_path / "colleague.sqlite") as db:
        run = begin(db, "python -m tuner.search --op grouped_gemm")
        db.set_winner(GATE_UP, SKEWED, "H100", db.add_trial(trial(run, **FULL)))
        db.add_trial(trial(run, status=TrialStatus.WRONG_RESULT, time_us=None, rel_error=math.inf))
        db.add_trial(trial(run, status=TrialStatus.COMPILE_ERROR, error="x" * 200_000))
        db.end_run(run, "finished")
        second = begin(db, "make search")
        best = db.add_trial(predicted(second, problem=DOWN, config=OTHER))
        db.set_winner(DOWN, SIXTEEN, "RTX 2080 Ti", best)
        yield db


def take(db: TuningDB, file: Path) -> Merged:
    """What ``python -m tuning_db import`` does."""
    return merge(db, read_trials(file), file)


def content(db: TuningDB) -> pd.DataFrame:
    return frame(db.url, "trials").drop(columns=HERE_ALONE)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_round_trip_loses_nothing(
    db: TuningDB, colleague: TuningDB, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"trials.{suffix}"
    assert export(colleague, file) == 4
    begin(db)  # so that numbers differ from the colleague's
    assert take(db, file) == Merged(added=4, known=0, winners=2)
    pd.testing.assert_frame_equal(content(db), content(colleague))
    winner = db.winner(GATE_UP, SKEWED, "H100")
    assert winner is not None
    expected = trial(winner.trial.run_id, id=winner.trial.id, **FULL)
    assert winner.trial == expected
    assert db.winner(DOWN, SIXTEEN, "RTX 2080 Ti") is not None


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_second_import_adds_nothing(
    db: TuningDB, colleague: TuningDB, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"trials.{suffix}"
    export(colleague, file)
    take(db, file)
    before = content(db)
    assert take(db, file) == Merged(added=0, known=4, winners=0)
    pd.testing.assert_frame_equal(content(db), before)
    with db.engine.connect() as connection:
        for table, count in (("run", 2), ("gpu", 2), ("problem", 2), ("winner", 2)):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == count


def test_trials_that_went_round_come_home_as_known(db: TuningDB, tmp_path: Path) -> None:
    db.add_trial(trial(begin(db)))
    export(db, tmp_path / "mine.csv")
    with TuningDB.open(tmp_path / "friend.sqlite") as friend:
        take(friend, tmp_path / "mine.csv")
        export(friend, tmp_path / "theirs.json")
    assert take(db, tmp_path / "theirs.json") == Merged(added=0, known=1, winners=0)


@pytest.mark.parametrize(
    ("mine", "theirs", "taken"),
    [
        ((Source.MEASURED, 100.0), (Source.MEASURED, 90.0), True),
        ((Source.MEASURED, 100.0), (Source.MEASURED, 110.0), False),
        ((Source.MEASURED, 100.0), (Source.PREDICTED, 10.0), False),
        ((Source.PREDICTED, 10.0), (Source.MEASURED, 100.0), True),
    ],
)
def test_the_faster_of_two_winners_stays(
    db: TuningDB,
    tmp_path: Path,
    mine: tuple[Source, float],
    theirs: tuple[Source, float],
    taken: bool,
) -> None:
    with TuningDB.open(tmp_path / "theirs.sqlite") as other:
        for database, (source, time_us) in ((db, mine), (other, theirs)):
            number = database.add_trial(trial(begin(database), source=source, time_us=time_us))
            database.set_winner(GATE_UP, SIXTEEN, "H100", number)
        export(other, tmp_path / "theirs.parquet")
    assert take(db, tmp_path / "theirs.parquet").winners == taken
    winner = db.winner(GATE_UP, SIXTEEN, "H100")
    assert winner is not None
    assert (winner.trial.source, winner.trial.time_us) == (theirs if taken else mine)
    # Once more: whoever won the first time wins again.
    assert take(db, tmp_path / "theirs.parquet").winners == 0


def test_a_run_taken_in_half_way_is_brought_up_to_date(db: TuningDB, tmp_path: Path) -> None:
    file = tmp_path / "trials.json"
    with TuningDB.open(tmp_path / "theirs.sqlite") as other:
        run = begin(other)
        other.add_trial(trial(run))
        export(other, file)
        take(db, file)
        assert frame(db.url, "trials").run_status.tolist() == ["running"]
        other.add_trial(trial(run))
        other.end_run(run, "finished")
        export(other, file)
    assert take(db, file) == Merged(added=1, known=1, winners=0)
    assert frame(db.url, "trials").run_status.tolist() == ["finished", "finished"]


def test_gpu_and_model_choose_what_is_exported(colleague: TuningDB, tmp_path: Path) -> None:
    def count(**choice: str) -> int:
        return export(colleague, tmp_path / "some.csv", **choice)

    assert count(gpu="NVIDIA H100 PCIe") == 3
    assert count(gpu="RTX 2080 Ti") == 1
    assert count(model="mixtral-8x7b") == 4
    assert count(model="mixtral-8x7b/down") == count(model=DOWN.key) == 1
    assert count(model="mixtral") == count(model="mixtral%") == count(gpu="A100") == 0


def test_json_is_strict_json(colleague: TuningDB, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    export(colleague, tmp_path / "x.json")
    json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)


def test_the_file_is_written_whole_or_not_at_all(colleague: TuningDB, tmp_path: Path) -> None:
    file = tmp_path / "full" / "x.csv"
    file.parent.mkdir()
    file.write_text("what was there")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))  # as if the disk were full
        with pytest.raises(UserError, match=r"cannot write .*x\.csv: File too large"):
            export(colleague, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [found.read_text() for found in file.parent.iterdir()] == ["what was there"]


def test_an_export_can_be_read_by_others(colleague: TuningDB, tmp_path: Path) -> None:
    export(colleague, tmp_path / "x.csv")
    (tmp_path / "y.csv").touch()
    assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "y.csv").stat().st_mode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.xlsx", "suffix '.xlsx' tells no format, add --format csv|json|parquet|vllm"),
        ("folder", "folder is a directory"),
        ("nowhere/x.csv", "cannot write .*No such file or directory"),
    ],
)
def test_a_bad_destination_is_named(
    colleague: TuningDB, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        export(colleague, tmp_path / name, format_name="csv" if name == "folder" else None)


def test_an_unknown_format_is_named(colleague: TuningDB, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown format 'xml': choose csv"):
        export(colleague, tmp_path / "x.csv", format_name="xml")


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, TuningDB], None]:
    """An export in which the last trial was changed by hand."""

    def write(file: Path, source: TuningDB) -> None:
        export(source, file)
        document = json.loads(file.read_text())
        change(document["trials"][-1])
        file.write_text(json.dumps(document))

    return write


def raw(content: bytes) -> Callable[[Path, TuningDB], None]:
    def write(file: Path, source: TuningDB) -> None:
        file.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("x.json", raw(b"{"), "is no export of this version.*: no JSON"),
        ("x.json", raw(b"[1, 2]"), "its schema is None, not 'light-moe/trials/1'"),
        ("x.json", raw(b'{"schema": "light-moe/trials/9"}'), "its schema is 'light-moe/trials/9'"),
        ("x.json", raw(b'{"schema": "light-moe/trials/1", "trials": 3}'), "no list of objects"),
        ("x.csv", raw(b"name,score\n1,2\n"), "row 1 has no 'gpu'"),
        ("x.csv", raw(b""), "no header with a 'uid' column"),
        ("x.csv", raw(b"\xff\xfe"), "no CSV in UTF-8"),
        ("x.parquet", raw(b"PAR1 nothing PAR1"), "no Parquet"),
        ("x.json", edited(lambda row: row.pop("gpu_arch")), "row 4 has no 'gpu_arch'"),
        ("x.json", edited(lambda row: row.update(colour=1)), "row 4 has 'colour', which is no"),
        (
            "x.json",
            edited(lambda row: row.update(time_us="fast")),
            "row 4: time_us='fast' is no nu",
        ),
        ("x.json", edited(lambda row: row.update(time_us=-1)), "row 4: .*time_us=-1.0"),
        ("x.json", edited(lambda row: row.update(is_winner="maybe")), "is no true or false"),
        ("x.json", edited(lambda row: row.update(created_at="noon")), "is no date and time"),
        ("x.json", edited(lambda row: row.update(registers=[])), r"registers=\[\] is no whole num"),
        ("x.json", edited(lambda row: row.update(config=None)), "row 4: config is empty"),
        ("x.json", edited(lambda row: row.update(status="fine")), "row 4: 'fine' is not a valid"),
        ("x.json", edited(lambda row: row.update(problem="gemm")), "'gemm' is no problem key"),
        ("x.json", edited(lambda row: row.update(status="timeout")), "its status is timeout"),
    ],
)
def test_a_foreign_or_broken_file_adds_nothing(
    sqlite_file: Path,
    colleague: TuningDB,
    tmp_path: Path,
    name: str,
    write: Callable[[Path, TuningDB], None],
    message: str,
) -> None:
    write(tmp_path / name, colleague)
    with TuningDB.open(sqlite_file) as db:
        with pytest.raises(UserError, match=message):
            take(db, tmp_path / name)
        with db.engine.connect() as connection:
            for table in ("run", "gpu", "problem", "trial", "winner"):
                assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0


def test_a_missing_file_is_named(db: TuningDB, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*gone\.csv: No such file"):
        take(db, tmp_path / "gone.csv")


def test_labels_of_the_file_name_problems_that_had_none(
    db: TuningDB, colleague: TuningDB, tmp_path: Path
) -> None:
    db.problem_id(replace(GATE_UP, label="custom"))
    db.problem_id(replace(DOWN, label="mine/down"))
    export(colleague, tmp_path / "x.csv")
    take(db, tmp_path / "x.csv")
    assert set(frame(db.url, "trials").model) == {"mixtral-8x7b/gate_up", "mine/down"}
