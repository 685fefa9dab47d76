"""python -m tuning_db: what it prints, what it returns, and one line for bad input."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.tuning_db.samples import CONFIG, GATE_UP, OTHER, SIXTEEN, begin, predicted, trial
from tuning_db import TuningDB, schema
from tuning_db.cli import main


@pytest.fixture
def file(sqlite_file: Path) -> Path:
    """A DB with a default, a winner and a prediction."""
    with TuningDB.open(sqlite_file) as db:
        run = begin(db)
        db.add_trial(trial(run, is_default=True, time_us=150.0))
        best = db.add_trial(trial(run, config=OTHER, tflops=281.34, gbps=1755.0, roofline=0.634))
        db.set_winner(GATE_UP, SIXTEEN, "H100", best)
        number = db.add_trial(predicted(run))
        db.set_winner(GATE_UP, SIXTEEN, "RTX 2080 Ti", number)
        db.end_run(run, "finished")
    return sqlite_file


def run_cli(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_show_prints_plain_lines_into_a_pipe(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("show", "--db", file) == 0
    assert [line.split("\t") for line in lines(capsys)] == [
        ["GPU", "model", "bucket", "config", "µs", "TFLOPS", "GB/s", "roofline", "default µs",
         "speed-up", "source", "verified"],
        ["H100", "mixtral-8x7b/gate_up", "16@uniform", OTHER, "100", "281.3", "1755", "63%", "150",
         "1.50x", "measured", "gpu"],
        ["RTX 2080 Ti", "mixtral-8x7b/gate_up", "16@uniform", CONFIG, "100", "-", "-", "-", "-",
         "-", "predicted", "none"],
    ]  # fmt: skip


def test_show_chooses_views_gpus_and_models(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, count in (
        (["--view", "trials"], 3),
        (["--gpu", "NVIDIA GeForce RTX 2080 Ti"], 1),
        (["--model", "mixtral-8x7b", "--gpu", "H100"], 1),
    ):
        assert run_cli("show", "--db", file, *arguments) == 0
        assert len(lines(capsys)) == 1 + count


def test_show_json_has_every_column(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("show", "--db", file, "--json", "--gpu", "H100") == 0
    (row,) = json.loads("\n".join(lines(capsys)))
    assert (row["config"], row["speedup_vs_default"], row["registers"]) == (OTHER, 1.5, None)
    assert row["created_at"].endswith("+00:00")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_show_of_an_empty_database(
    sqlite_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    TuningDB.open(sqlite_file).close()
    assert run_cli("show", "--db", sqlite_file, *arguments) == 0
    out = "\n".join(lines(capsys))
    assert json.loads(out) == [] if arguments else "python -m tuner.search" in out


@pytest.mark.parametrize("width", ["160", "40"])
def test_show_draws_a_table_on_a_terminal(file: Path, width: str) -> None:
    command = [sys.executable, "-m", "tuning_db", "show", "--db", str(file)]
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": width, "TERM": "xterm"}
    subprocess.run(command, stdout=follower, env=environment, check=True, timeout=60)
    os.close(follower)
    output = os.read(leader, 65536).decode()
    os.close(leader)
    assert "mixtral-8x7b/gate_up on H100" in output
    assert "─" in output
    # In a narrow terminal a config is folded, and no column is cut.
    assert (OTHER in output) == (width == "160")
    for part in ("16@uniform", OTHER[:8], "measured"):
        assert part in output


def test_show_into_head_says_nothing(file: Path) -> None:
    command = f"{sys.executable} -m tuning_db show --db {file} --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_a_file_that_is_no_export_leaves_no_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("GPU,config\n1,2\n")
    assert run_cli("import", tmp_path / "x.csv", "--db", tmp_path / "new.sqlite") == 2
    assert "is no export of this version's" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_export_and_import(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, new = tmp_path / "out.parquet", tmp_path / "new.sqlite"
    assert run_cli("export", out, "--db", file) == 0
    assert run_cli("import", out, "--db", new) == 0
    assert run_cli("import", out, "--db", new) == 0
    assert lines(capsys) == [
        f"3 rows written to {out}",
        "3 trials added, 0 were known, 2 winners changed",
        "0 trials added, 3 were known, 0 winners changed",
    ]


def test_doctor_returns_1_for_errors_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("doctor", "--db", file) == 0
    assert lines(capsys) == [f"{file}: schema 0002, 0 errors, 0 warnings"]
    with TuningDB.open(file) as db, db.writing() as session:
        session.execute(text("UPDATE trial SET template_hash = 'old'"))
    assert run_cli("doctor", "--db", file) == 0
    assert lines(capsys)[1] == f"{file}: schema 0002, 0 errors, 1 warnings"
    with TuningDB.open(file) as db, db.writing() as session:
        session.execute(text("UPDATE trial SET status = 'timeout' WHERE id = 2"))
    assert run_cli("doctor", "--db", file) == 1
    assert lines(capsys)[0].startswith("error: winners: the winner of grouped_gemm/E8.N28672")
    assert run_cli("doctor", "--db", file, "--json") == 1
    report = json.loads("\n".join(lines(capsys)))
    assert (report["ok"], report["schema"], report["db"]) == (False, "0002", str(file))
    assert [f["check"] for f in report["findings"]] == ["winners", "stale_trials"]


def test_doctor_migrates_when_asked(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TuningDB.open(file) as db:
        schema.downgrade(db.engine, "0001")
    assert run_cli("show", "--db", file) == 2
    assert "python -m tuning_db doctor --migrate" in capsys.readouterr().err
    assert run_cli("doctor", "--db", file, "--migrate") == 0
    capsys.readouterr()
    assert run_cli("show", "--db", file) == 0
    assert len(lines(capsys)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "--db", "gone.sqlite"], "there is no tuning DB at "),
        (["export", "x.csv", "--db", "gone.sqlite"], "there is no tuning DB at "),
        (["doctor", "--db", "gone.sqlite", "--migrate"], "there is no tuning DB at "),
        (["show", "--db", "gone/new.sqlite"], "there is no directory "),
        (["doctor", "--db", "text.sqlite"], "text.sqlite is no SQLite file"),
        (["doctor", "--db", "text.sqlite"], "text.sqlite is no SQLite file"),
        (["show", "--db", "oracles://x"], "there is no kind of database 'oracles'"),
        (["show", "--db", "tuning.sqlite", "--view", "runs"], "unknown view 'runs': choose"),
        (["export", "x.xml", "--db", "tuning.sqlite"], "its suffix '.xml' tells no format"),
        (["export", "x", "--format", "xml", "--db", "tuning.sqlite"], "unknown format 'xml'"),
        (["export", ".", "--format", "csv", "--db", "tuning.sqlite"], "is a directory"),
        (["import", "text.sqlite", "--format", "json", "--db", "tuning.sqlite"], "is no export of"),
        (["show", "--colour"], "unknown option '--colour'"),
        (["repair"], "invalid choice: 'repair'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(file.parent)
    Path("text.sqlite").write_text("no database " * 100)
    before = sorted(file.parent.iterdir())
    assert run_cli(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(file.parent.iterdir()) == before
