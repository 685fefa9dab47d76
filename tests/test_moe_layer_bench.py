"""The MoE layer's and the gate's benchmarks as far as they go without a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine import TunedKernels
from scripts import bench_report
from scripts.bench_gate import HEADS as GATE_HEADS
from scripts.bench_gate import Result as GateResult
from scripts.bench_gate import body as gate_body
from scripts.bench_gate import main as gate_main
from scripts.bench_gate import make_cases as gate_cases
from scripts.bench_gate import make_parser as gate_parser
from scripts.bench_moe_layer import main as layer_main
from scripts.bench_moe_layer import make_cases, make_parser
from scripts.gate_contest import check_routing, make_inputs
from scripts.moe_layer_contest import Entry
from scripts.moe_layer_runs import PEERS, choose_peers
from scripts.moe_layer_tables import FEW_TOKENS, HEADS, HUMMING, OURS, Result, body
from scripts.moe_peers.ours import NAME
from scripts.moe_peers.warm import main as warm_main
from scripts.probe_gpu import Ceilings
from scripts.profile_moe_layer import body as launches_body
from scripts.profile_moe_layer import main as profile_main
from search_spaces import Skew, UserError
from search_spaces.models import load_model
from tests.conftest import ROOT
from tests.tuner.cli import environment, error_line

CEILINGS = Ceilings(
    read_gbps=1000.0, copy_gbps=900.0, mma_f32_tflops=100.0, mma_f16_tflops=200.0,
    dense_f16_tflops=150.0, dense_bf16_tflops=None, empty_launch_us=2.0, graph_replay_us=5.0,
)  # fmt: skip
OLMOE = load_model("olmoe-1b-7b")
SCRIPTS = ("bench_moe_layer", "bench_gate", "profile_moe_layer")


def result(tokens: int = 16, skew: str = "uniform", **times: float | str) -> Result:
    """``times`` by contestant: microseconds, or why there are none."""
    names = {"ours": OURS, "humming": HUMMING}
    entries = tuple(
        Entry(names.get(name, name), "", error=us)
        if isinstance(us, str)
        else Entry(names.get(name, name), "", 1e-3, us, 0.5)
        for name, us in times.items()
    )
    return Result(OLMOE, Skew.parse(skew), tokens, 40, entries)


def test_names_are_the_same_everywhere() -> None:
    assert NAME == OURS
    assert HUMMING in [peer.name for peer in PEERS]
    assert [peer.name for peer in choose_peers("vLLM,grouped_mm")] == ["vLLM", "grouped_mm"]
    assert choose_peers("all") == list(PEERS)
    with pytest.raises(UserError, match="--peers 'vllm': known are torch loop"):
        choose_peers("vllm")


def test_the_memory_limit_counts_what_must_move() -> None:
    weights = 40 * 3 * 2048 * 1024 + 64 * 2048  # 40 experts and the router
    activations = 2 * 16 * 2048 + 2 * 16 * 8 * 1024
    assert result().traffic == 2 * (weights + activations)
    assert result().memory_us(CEILINGS) == pytest.approx(2 * (weights + activations) / 1e6)
    assert result().flops == 16 * (8 * 6 * 2048 * 1024 + 2 * 2048 * 64)


@pytest.mark.parametrize(
    ("ours", "peer", "told"),
    [(700.0, 800.0, "met"), (810.0, 800.0, "**missed**"), (520.0, 510.0, "met"),
     (530.0, 510.0, "**missed**"), ("wrong", 800.0, "**no time**")],
)  # fmt: skip
def test_goals_at_few_tokens(ours: float | str, peer: float, told: str) -> None:
    """The limit is 504 us: a peer at 510 uses more than 0.9 of it, and a tie of 3 % will do."""
    few = result(ours=ours, vLLM=peer, loop=2000.0, humming=100.0)
    assert few.best_peer is not None and few.best_peer.name == "vLLM"
    assert few.verdict(CEILINGS) == told
    assert result(FEW_TOKENS + 1, ours=ours, vLLM=peer).verdict(CEILINGS) == ""
    assert result(ours=ours).verdict(CEILINGS) == ""


def test_a_table_has_a_cell_for_every_head_and_tells_all() -> None:
    full = result(ours=600.0, vLLM=900.0, loop=1200.0, humming=1200.0, broken="no such thing")
    skewed = result(1024, "zipf:1.2", ours=660.0)
    even, wrong = result(1024, ours=600.0, humming=1800.0), result(4, ours="wrong result", vLLM=9.0)
    cases = [full, even, skewed, wrong]
    assert {len(case.row(CEILINGS)) for case in cases} == {len(HEADS)}
    assert full.row(CEILINGS)[HEADS.index("best peer ÷ ours")] == "1.50"
    text = "\n".join(body(cases, CEILINGS, ["olmoe-1b-7b uniform T=8192"]))
    assert "**wrong result**" in text
    assert "- broken: no such thing (first at T = 16)" in text
    assert "| olmoe-1b-7b | zipf:1.2 | 1024 | 600.0 | 660.0 | 1.10 |" in text
    assert "over 2 cases: geometric mean 2.45, least 2.00 (goals: 1.5, 1)" in text
    rate = even.flops / 600.0 / 1e6
    assert f"at T = 1024: {rate:.0f} TFLOPS, {rate / 200:.0%} of the m16n8k8" in text
    assert "Left out for lack of time: olmoe-1b-7b uniform T=8192" in text
    assert full.json(CEILINGS)["entries"][4] == {
        "name": "broken", "note": "", "error": "no such thing",
    }  # fmt: skip


def test_cases_are_all_that_is_asked_and_ours_alone_with_more_skew() -> None:
    flags = ["--models", "olmoe-1b-7b,mixtral-8x7b", "--tokens", "64,1024,4096"]
    cases = make_cases(make_parser().parse_args(flags))
    assert [mine[0].model.name for mine in cases] == ["olmoe-1b-7b", "mixtral-8x7b"]
    told = [(str(case.skew), case.tokens, case.alone) for case in cases[0]]
    together = [(skew, t, False) for skew in ("uniform", "zipf:1") for t in (64, 1024, 4096)]
    assert told == [*together, ("zipf:1.2", 1024, True), ("zipf:1.2", 4096, True)]
    for wrong in ("0", "1,x", "-1", "70000", ""):
        with pytest.raises(UserError, match=r"must be whole numbers in 1\.\.65536"):
            make_cases(make_parser().parse_args([f"--tokens={wrong}"]))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_in_one_line_that_they_need_a_gpu(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--out", str(tmp_path / "out")],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "no usable GPU" in error_line(done)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


@pytest.mark.parametrize("main", [layer_main, gate_main, profile_main, warm_main])
@pytest.mark.parametrize(
    ("flags", "told"),
    [(["--sead", "1"], "unknown option '--sead'"), (["--models", "nope"], "unknown model 'nope'"),
     (["--tokens", "1,x"], "--tokens 'x'"), (["--device", "-1"], "-1 is not a whole number")],
)  # fmt: skip
def test_bad_flags_are_one_line(
    main: Callable[[list[str]], int], flags: list[str], told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line


@pytest.mark.parametrize("main", [layer_main, gate_main])
@pytest.mark.parametrize("minutes", ["nan", "inf", "0", "-3", "soon"])
def test_minutes_have_an_end(
    main: Callable[[list[str]], int], minutes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--minutes={minutes}"]) == 2
    assert f"'{minutes}' is no number above 0 and at most" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "deepseek-v2-lite"])
@pytest.mark.parametrize("logits", [False, True])
def test_gates_are_held_against_torch(name: str, logits: bool) -> None:
    inputs = make_inputs(load_model(name), logits, 33, seed=5, device=torch.device("cpu"))
    kernels = TunedKernels(None, "cpu")
    routing = kernels.fused_gate(inputs.x, inputs.router, problem=inputs.problem)
    check_routing(routing, inputs)
    assert routing.weights is not None
    for broken in (routing.ids, routing.slots, routing.inverse, routing.weights):
        kept = broken.clone()
        broken[-1] = broken[0]
        with pytest.raises(UserError, match="wrong result"):
            check_routing(routing, inputs)
        broken.copy_(kept)


def test_a_gate_table_has_a_cell_for_every_head() -> None:
    gate = load_model("qwen3-30b-a3b").gate()
    times = {"fused_gate": 10.0, "torch chain": 29.0, "torch.compile": 15.0}
    slow = GateResult(gate, 64, times, {})
    fast = GateResult(gate, 64, {**times, "torch chain": 31.0}, {"torch.compile": "gone"})
    wrong = GateResult(gate, 1, {"torch chain": 9.0}, {"fused_gate": "wrong result"})
    assert {len(r.row(CEILINGS)) for r in (slow, fast, wrong)} == {len(GATE_HEADS)}
    assert slow.row(CEILINGS)[-1] == "**missed**"
    assert fast.row(CEILINGS)[-1] == "met"
    limit = GateResult(gate, 8192, {}, {}).memory_us(CEILINGS)
    for ours, told in ((2.1 * limit, "**missed**"), (1.9 * limit, "met")):
        timed = GateResult(gate, 8192, {"fused_gate": ours, "torch chain": 9 * ours}, {})
        assert timed.row(CEILINGS)[-1] == told
    text = "\n".join(gate_body([slow, wrong], CEILINGS, ["x T=1"]))
    assert "**wrong result**" in text
    assert "Left out for lack of time: x T=1" in text


def test_every_model_has_a_share_of_the_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases of 4 s: the first model may begin them in 10 of 20 s."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    left_out: list[str] = []
    taken = []
    for case, deadline in bench_report.in_time(["abcde", "vwxyz"], 120.0, left_out):
        taken.append(case)
        assert deadline == (110.0 if case in "abcde" else 120.0)
        now += 4
    assert ("".join(taken), "".join(left_out)) == ("abcvwx", "deyz")


def test_gates_of_every_model_are_cases() -> None:
    flags = ["--models", "olmoe-1b-7b,mixtral-8x7b", "--tokens", "1,64"]
    cases = gate_cases(gate_parser().parse_args(flags))
    told = [str(case) for case in cases[1]]
    assert told == [f"mixtral-8x7b {x} T={t}" for x in ("hidden", "logits") for t in (1, 64)]
    assert len({case.compiles for mine in cases for case in mine}) == 8


def test_launches_are_listed_in_order() -> None:
    lines = launches_body({("m", 1): [("gate", 3.0), ("gemm", 5.5)], ("m", 64): [("gate", 4.0)]})
    assert "| m | 1 | 2 of 2 | `gemm` | 5.5 |" in lines
    assert "At most 2 launches a layer." in lines
