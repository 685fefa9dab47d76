"""Gates in the tuning DB: stored, won, exported, imported and examined like GEMMs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from search_spaces import Bucket, load_model
from search_spaces.fingerprint import template_fingerprint
from search_spaces.gate_problem import GateProblem
from search_spaces.problems import AnyProblem
from tests.tuning_db.samples import GATE_UP, SIXTEEN, begin, trial
from tuning_db import TuningDB, frame
from tuning_db.cli import main
from tuning_db.doctor import examine
from tuning_db.exchange import Merged, export, merge, read_trials

QWEN = load_model("qwen3-30b-a3b").gate()
DEEPSEEK = GateProblem.parse(
    "fused_gate/v3/gate/E256.H7168.top8.f16.sigmoid.bias.g8of4top2.renorm.shared1"
)
CONFIG = "mma32x128x64_w1x4x1_s2_te_k1_l8_pass"


def won(db: TuningDB, gate: AnyProblem, **changes: object) -> None:
    """A measured winner of ``gate`` at 16 tokens per expert."""
    fields = {"problem": gate, "config": CONFIG, "time_us": 9.5, **changes}
    db.set_winner(gate, SIXTEEN, "H100", db.add_trial(trial(begin(db), **fields)))


@pytest.mark.parametrize("gate", [QWEN, DEEPSEEK, replace(QWEN, hidden=0, dtype="bf16")])
def test_every_part_of_a_gate_survives(db: TuningDB, gate: GateProblem) -> None:
    won(db, gate)
    winner = db.winner(gate, SIXTEEN, "H100")
    assert winner is not None and isinstance(winner.problem, GateProblem)
    assert (winner.problem, winner.problem.label) == (gate, gate.label)
    assert winner.trial.config == CONFIG
    other = replace(gate, renormalise=not gate.renormalise)
    assert db.winner(other, SIXTEEN, "H100") is None


def test_what_people_see_of_a_gate(db: TuningDB) -> None:
    gate = replace(QWEN, shared=2, shared_gate=True)
    won(db, gate)
    won(db, GATE_UP)  # beside a GEMM
    best = frame(db.url).set_index("op").loc["fused_gate"]
    assert (best.model, best.problem, best.config) == (QWEN.label, gate.key, CONFIG)
    with db.engine.connect() as connection:
        query = "SELECT experts, n, k, top_k, dtype, numerics FROM problem WHERE op = 'fused_gate'"
        [row] = connection.execute(text(query)).all()
    assert tuple(row) == (128, 129, 2048, 8, "f16", "fp32")  # N x K: the router, with its gate
    assert [w.problem.op for w in db.winners("H100", op="fused_gate")] == ["fused_gate"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_gates_travel(db: TuningDB, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"trials.{suffix}"
    with TuningDB.open(tmp_path / "colleague.sqlite") as colleague:
        for gate in (QWEN, DEEPSEEK):
            won(colleague, gate)
        export(colleague, file)
    assert merge(db, read_trials(file), file) == Merged(added=2, known=0, winners=2)
    for gate in (QWEN, DEEPSEEK):
        winner = db.winner(gate, SIXTEEN, "H100")
        assert winner is not None and (winner.problem, winner.problem.label) == (gate, gate.label)


def test_show_and_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "t.sqlite")
    with TuningDB.open(file) as db:
        won(db, QWEN, template_hash=template_fingerprint("fused_gate"), bucket=SIXTEEN)
        db.end_run(1, "finished")
        assert examine(db) == []
        fields = {"template_hash": "0" * 16, "bucket": Bucket(64.0)}
        db.add_trial(trial(1, problem=QWEN, config=CONFIG, **fields))
        [finding] = examine(db)
        assert finding.message.startswith("1 trials of fused_gate, 0 of them winners, were made")
    assert main(["show", "--db", file]) == 0
    told = capsys.readouterr().out
    assert "qwen3-30b-a3b/gate" in told and CONFIG in told
