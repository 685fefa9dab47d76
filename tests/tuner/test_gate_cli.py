"""``--op fused_gate`` on every command of the tuner: what it tells, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Bucket, find_gpu, space_for
from search_spaces.gate_problem import GateProblem
from templates import Variant, render
from tests.tuner.cli import error_line, search
from tests.tuner.planted import Bug, plant
from tuner import emulate, run
from tuner.figures import Work
from tuning_db import frame
from tuning_db.cli import main as tuning_db

GATE = ("--op", "fused_gate")
SHAPE = (*GATE, "--shape", "E=16,H=64,top_k=4")
KEY = "E16.H64.top4.f16.softmax"
FMA = "fma8x4x256_w2x2x1_s1_te_k1_l4_pass"


def emulated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert emulate.main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_emulate_proves_a_gate_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    found = emulated(capsys, "--config", "default", *SHAPE)
    assert found["problem"] == f"fused_gate/small/{KEY}"
    [config] = found["configs"]
    assert (config["status"], config["reason"]) == ("ok", None)
    assert config["tokens"] == found["tokens"] > 1 and "tiles" not in config
    figures = config["counters"]["figures"]
    results = 4 * (5 * 4 * found["tokens"] + 17)  # beside them, rows of each block by expert
    assert results <= figures["global_store_bytes"]["value"] <= results + 4 * 16 * found["tokens"]
    assert figures["written_bytes"]["ideal"] == results
    assert figures["read_bytes"]["ideal"] == 2 * 64 * (found["tokens"] + 16)
    assert figures["read_bytes"]["value"] >= figures["read_bytes"]["ideal"]
    assert figures["flops"]["value"] >= figures["flops"]["ideal"] == 2 * 64 * 16 * found["tokens"]


def test_emulate_takes_a_bucket_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    view = space_for("fused_gate").view(GateProblem(16, 64, 4), find_gpu("RTX 2080 Ti"))
    pair = ("--compare", str(view.default()), FMA)
    assert emulate.main([*pair, *SHAPE, "--bucket", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    right = "right: experts, weights and sorted rows of 12 tokens, relative error"
    assert [line.startswith(right) for line in lines[:2]] == [True, True]
    assert f"problem  fused_gate/custom/{KEY}" in lines and "tokens   12" in lines
    assert sum(line.startswith("ran      12 tokens in ") for line in lines) == 2


def test_given_logits_need_no_router(capsys: pytest.CaptureFixture[str]) -> None:
    found = emulated(capsys, "--config", "default", *GATE, "--model", "olmoe-1b-7b", "--logits")
    assert found["problem"] == "fused_gate/small/E64.top8.f16.softmax"
    figures = found["configs"][0]["counters"]["figures"]
    assert "tensor" not in figures and figures["read_bytes"]["ideal"] == 2 * 64 * found["tokens"]


def test_a_planted_bug_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel believes that there are fewer experts to choose among."""

    def buggy(problem: Any, config: Any) -> Variant:
        return plant(render(problem, config), Bug("kExperts = 16", "kExperts = 15"))

    monkeypatch.setattr(emulate, "render", buggy)
    assert emulate.main(["--config", "default", *SHAPE]) == 1
    told = capsys.readouterr().out
    assert told.startswith("wrong: "), told


def test_run_explains_and_prints_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--config", "default", "--bucket", "16", "--gpu", "RTX 2080 Ti", *SHAPE)
    assert run.main([*where, "--explain"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("on RTX 2080 Ti") and told[1].startswith("predicted ")
    assert run.main([*where, "--source"]) == 0
    assert "#include <light_moe/gate_sm75.cuh>" in capsys.readouterr().out


def test_a_search_proves_stores_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = (*SHAPE, "--buckets", "2", "--seed", "1", "--trials")
    result = search(tmp_path, *wanted, "2")
    assert result.returncode == 0, result.stderr
    assert f"problem  fused_gate/custom/{KEY}: " in result.stdout
    db = tmp_path / "tuning.sqlite"
    best = frame(db)
    assert list(best.bucket) == ["2@uniform"]
    assert set(best.op) == {"fused_gate"} and set(best.verified) == {"emulated"}
    assert set(best.source) == {"predicted"} and (best.gbps > 0).all()

    again = search(tmp_path, *wanted, "4", "--resume", "--json")
    assert again.returncode == 0, again.stderr
    assert [place["trials"] for place in json.loads(again.stdout)["places"]] == [4]
    trials = frame(db, "trials")
    searched = trials[~trials.is_finalist]
    assert len(searched) == len(set(searched.config)) == 4

    assert tuning_db(["doctor", "--db", str(db)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_a_gates_work_is_its_tokens() -> None:
    gpu, bucket = find_gpu("RTX 2080 Ti"), Bucket(2.0)
    gate = GateProblem(16, 64, 4)
    work = Work.of(gate, bucket, gpu)
    tokens = 2 * 16 // 4
    assert work.flops == 2 * tokens * 16 * 64
    assert work.traffic == 2 * 64 * (tokens + 16) + 4 * (5 * 4 * tokens + 17)
    assert work.floor_us == pytest.approx(work.traffic / (gpu.dram_gbps * 1e3))
    logits = Work.of(replace(gate, hidden=0), bucket, gpu)
    assert (logits.flops, logits.tflops(1.0)) == (0, 0.0)
    assert logits.traffic == 2 * 16 * tokens + 4 * (5 * 4 * tokens + 17)


BAD = [
    (["--layer", "down"], "--layer does not go with --op fused_gate"),
    (["--epilogue", "swiglu"], "--epilogue does not go with --op fused_gate"),
    (["--gather"], "--gather does not go with --op fused_gate"),
    (["--numerics", "fp16"], "--numerics does not go with --op fused_gate"),
    (["--shape", "E=8,N=512,K=512,top_k=2"], "unknown key 'N', known are E, H, top_k"),
    (["--shape", "E=8,top_k=2"], "lacks H: expected e.g. E=128,H=2048,top_k=8"),
    (["--shape", "E=8,H=64,top_k=2", "--logits"], "unknown key 'H', known are E, top_k"),
    (["--shape", "E=8,H=60,top_k=2"], "H=60 is no multiple of 8"),
    (["--shape", "E=8,H=64,top_k=9"], "top_k=9: must lie in 1..8 for E=8"),
    (["--model", "qwen2-57b-a14b", "--logits"], "a shared gate needs"),
    (["--model", "mixtral"], "unknown model 'mixtral'"),
    (["--config", "128x128x32_w2x2x1_s2_none_f32_r2x8_mn_ca_o1_g8_k1"], "is no fused_gate config"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD)
def test_bad_input_is_told_alike_by_every_command(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = [] if "--config" in arguments else ["--config", "default"]
    commands: list[tuple[Callable[[list[str]], int], list[str]]] = [
        (emulate.main, config),
        (run.main, [*config, "--bucket", "1", "--explain"]),
    ]
    for main, more in commands:
        assert main([*GATE, *arguments, *more]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith("error: ") and told.err.count("\n") == 1
        assert expected in told.err


@pytest.mark.parametrize(("arguments", "expected"), [BAD[0], BAD[4], BAD[8], BAD[11]])
def test_a_search_tells_the_same(arguments: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in error_line(search(tmp_path, *GATE, *arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rows", "3"], "--rows 3 does not go with --op fused_gate: it is emulated whole"),
        (["--bucket", "1", "--ctas", "3"], "--ctas 3 does not go with --op fused_gate"),
        (["--processes", "2"], "--processes 2 does not go with --op fused_gate"),
        (["--bucket", "1000000"], "at most 0.3 GB are emulated: choose a smaller --bucket"),
    ],
)
def test_what_a_gate_is_not_emulated_by(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emulate.main(["--config", "default", *SHAPE, *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and expected in told


def test_logits_are_a_gates(capsys: pytest.CaptureFixture[str]) -> None:
    assert emulate.main(["--config", "default", "--logits"]) == 2
    assert capsys.readouterr().err == "error: --logits goes with --op fused_gate\n"
