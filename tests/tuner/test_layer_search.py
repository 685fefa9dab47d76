"""``python -m tuner.search --op moe_layer`` from start to end, where there is no GPU."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Bucket
from search_spaces.gate_problem import GateProblem
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from tests.tuner.cli import search
from tuner.search import main
from tuning_db import Source, TrialStatus, TuningDB

SHAPE = "E=4,H=64,I=64,top_k=2"
LAYER = LayerProblem(GateProblem(4, 64, 2), 64)
GPU = "RTX 2080 Ti"
BUCKETS = (Bucket(1.0), Bucket(16.0))
ARGUMENTS = ("--op", "moe_layer", "--shape", SHAPE, "--buckets", "16,1", "--trials", "3",
             "--check", "none", "--seed", "3")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layer")


@pytest.fixture(scope="module")
def transcript(folder: Path) -> str:
    result = search(folder, *ARGUMENTS)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def count_trials(folder: Path) -> int:
    with sqlite3.connect(folder / "tuning.sqlite") as db:
        return int(db.execute("SELECT count(*) FROM trial").fetchone()[0])


def open_db(folder: Path) -> TuningDB:
    return TuningDB.open(folder / "tuning.sqlite", readonly=True)


@pytest.mark.usefixtures("transcript")
@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
def test_a_layers_winner_is_the_sum_of_its_parts(folder: Path, bucket: Bucket) -> None:
    with open_db(folder) as db:
        winner = db.winner(LAYER, bucket, GPU)
        parts = [db.winner(part, bucket, GPU) for part in LAYER.parts]
        trials = db.trials(LAYER, bucket, GPU)
    assert winner is not None and winner.trial.time_us is not None
    assert winner.trial.source is Source.PREDICTED
    config = LayerConfig.parse(winner.trial.config)
    assert [str(part) for part in config.parts] == [part.trial.config for part in parts if part]
    total = sum(part.trial.time_us or 0 for part in parts if part)
    assert winner.trial.time_us == pytest.approx(total)
    assert winner.default_us is not None and winner.default_us > winner.trial.time_us
    assert {trial.status for trial in trials} == {TrialStatus.OK}
    assert min(trial.time_us or 0 for trial in trials) == winner.trial.time_us
    assert len({trial.config for trial in trials}) == len(trials) > 4
    assert sum(trial.is_default for trial in trials) == 1


def test_the_table_has_the_layers(transcript: str, folder: Path) -> None:
    _, _, table = transcript.partition(f"{LAYER} on {GPU}")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]]
            for line in table.splitlines() if line.startswith("│")]  # fmt: skip
    assert [row[1] for row in rows] == ["gate", "gate_up", "down"] * 2
    with open_db(folder) as db:
        for bucket, lines in zip(BUCKETS, (rows[:3], rows[3:]), strict=True):
            winner = db.winner(LAYER, bucket, GPU)
            assert winner is not None and winner.default_us is not None
            time_us = winner.trial.time_us or 0
            assert "+".join(line[2] for line in lines) == winner.trial.config
            speedup = f"{winner.default_us / time_us:.2f}x"
            shown = [f"{time_us:.1f}", f"{winner.default_us:.1f}", speedup, "predicted", "none"]
            assert [lines[0][0], *lines[0][4:]] == [str(bucket), *shown]
            assert sum(int(line[3].removesuffix(" %")) for line in lines) in (99, 100, 101)
    assert "the sums of their parts, nothing was measured" in transcript


def test_the_tuning_db_shows_layers(transcript: str, folder: Path) -> None:
    assert transcript
    with open_db(folder) as db:
        ops = [winner.problem.op for winner in db.winners(GPU)]
    assert sorted(ops) == ["fused_gate"] * 2 + ["grouped_gemm"] * 4 + ["moe_layer"] * 2


@pytest.mark.usefixtures("transcript")
def test_resume_makes_up_for_a_lost_final_and_repeats_nothing(folder: Path) -> None:
    """What a kill between a part's search and the layer's leaves behind."""
    before = count_trials(folder)
    with sqlite3.connect(folder / "tuning.sqlite") as db:
        [layer] = db.execute("SELECT id FROM problem WHERE op = 'moe_layer'").fetchone()
        for table in ("winner", "trial"):
            where = "problem_id = ? AND tokens_per_expert = 16"
            db.execute(f"DELETE FROM {table} WHERE {where}", (layer,))
    assert count_trials(folder) < before
    again = search(folder, *ARGUMENTS, "--resume", "--json")
    assert again.returncode == 0, again.stderr
    assert count_trials(folder) == before
    with open_db(folder) as db:
        assert db.winner(LAYER, BUCKETS[1], GPU) is not None
    found: dict[str, Any] = json.loads(again.stdout)
    assert [layer["bucket"] for layer in found["layers"]] == list(map(str, BUCKETS))
    for layer in found["layers"]:
        assert layer["stored"] and sum(layer["shares"]) == pytest.approx(1)
        assert layer["time_us"] < layer["default_us"]


COMMANDS = {
    "layer": (["--layer", "down"], "--layer does not go with --op moe_layer"),
    "epilogue": (["--epilogue", "geglu"], "--epilogue does not go with --op moe_layer"),
    "gather": (["--gather"], "--gather does not go with --op moe_layer"),
    "logits": (["--logits"], "--logits goes with --op fused_gate"),
    "replay": (["--replay", "x.json.gz"], "no layer is recorded"),
    "gemm's shape": (["--shape", "E=8,N=64,K=64,top_k=2"], "unknown key 'N', known are E, H, I"),
    "size": (["--shape", "E=4,H=64,I=60,top_k=2"], "is not a multiple of"),
    "half a config": (["--shape", SHAPE, "--config", "a+b"], "'a+b' is no moe_layer config"),
    "bucket": (["--shape", SHAPE, "--buckets", "0.1"], "bucket 0.1 is less than one token"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_input_is_one_line(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, told = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    assert main(["--op", "moe_layer", *arguments]) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.startswith("error: ") and found.err.count("\n") == 1
    assert told in found.err
    assert list(tmp_path.iterdir()) == []
