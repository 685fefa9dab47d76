"""``python -m engine.measure`` on a CPU: its inputs, its oracle, its events, what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from engine.measure import main
from engine.measuring.layer_inputs import LayerInputs, deal_experts, make_inputs
from engine.measuring.layer_measurer import LayerMeasurer
from engine.measuring.layer_oracle import layer_oracle
from engine.measuring.request import Request
from engine.measuring.stopwatch import CpuStopwatch, Timing
from search_spaces import Bucket, Skew, UserError, find_gpu
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import MOE_LAYER
from tests.tuner.cli import environment, error_line
from tuner.layer_child import Question

CPU = torch.device("cpu")
TINY = LayerProblem(GateProblem(4, 64, 2, renormalise=True), 64)
GROUPED = GateProblem(
    16, 128, 4, score="sigmoid", bias=True, groups=4, topk_group=2, group_score="top2", shared=2
)
LAYERS = (TINY, LayerProblem(GROUPED, 48, epilogue="geglu"))
ZIPF = Skew.parse("zipf:1.2")


@pytest.mark.parametrize("skew", [Skew(), ZIPF], ids=str)
@pytest.mark.parametrize("tokens", [1, 5, 64, 1000])
def test_experts_are_dealt_as_the_bucket_says(tokens: int, skew: Skew) -> None:
    gate = GateProblem(16, 128, 4)
    dealt = deal_experts(gate, tokens, skew, seed=5)
    assert dealt.shape == (tokens, 4)
    assert all(len(set(row)) == 4 for row in dealt.tolist())
    counts = torch.bincount(dealt.flatten(), minlength=16).tolist()
    assert counts == Bucket(tokens * 4 / 16, skew).histogram(gate, 5)


@pytest.mark.parametrize("skew", [Skew(), ZIPF], ids=str)
def test_the_gate_finds_about_those_loads(skew: Skew) -> None:
    problem = LayerProblem(GateProblem(32, 512, 4), 64)
    inputs = make_inputs(problem, 512, skew, 7, CPU)
    logits = inputs.hidden.float() @ inputs.weights.router.float().T
    found = logits.topk(4).indices.sort(dim=1).values
    dealt = deal_experts(problem.gate, 512, skew, 7).sort(dim=1).values
    assert (found == dealt).float().mean() > 0.99


def by_hand(inputs: LayerInputs, token: int) -> list[float]:
    """One token's answer in Python's own numbers, from the definitions of gates and layers."""
    gate, size = inputs.problem.gate, inputs.problem.intermediate
    x = inputs.hidden[token].double().tolist()

    def dot(row: torch.Tensor, vector: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(row.double().tolist(), vector, strict=True))

    scores = [1 / (1 + math.exp(-dot(row, x))) for row in inputs.weights.router]
    if gate.score == "softmax":
        odds = [score / (1 - score) for score in scores]
        scores = [odd / sum(odds) for odd in odds]
    bias = [0.0] * gate.experts if inputs.weights.bias is None else inputs.weights.bias.tolist()
    wish = [score + extra for score, extra in zip(scores, bias, strict=True)]
    groups = [range(g, g + gate.experts // gate.groups)
              for g in range(0, gate.experts, gate.experts // gate.groups)]  # fmt: skip
    groups.sort(key=lambda group: -sum(sorted(wish[e] for e in group)[-2:]))
    allowed = [e for group in groups[: gate.topk_group] for e in group]
    chosen = sorted(allowed, key=lambda e: -wish[e])[: gate.top_k]
    total = sum(scores[e] for e in chosen) if gate.renormalise else 1.0
    shares = {e: scores[e] / total for e in chosen} | {
        gate.experts + s: 1.0 for s in range(gate.shared)
    }
    answer = [0.0] * inputs.problem.hidden
    for expert, share in shares.items():
        columns = [dot(row, x) for row in inputs.weights.gate_up[expert]]
        act = []
        for i in range(size):
            g, up = columns[i // 8 * 16 + i % 8], columns[i // 8 * 16 + 8 + i % 8]
            if inputs.problem.epilogue == "swiglu":
                act.append(g / (1 + math.exp(-g)) * up)
            else:
                inner = math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)
                act.append(0.5 * g * (1 + math.tanh(inner)) * up)
        for n, row in enumerate(inputs.weights.down[expert]):
            answer[n] += share * dot(row, act)
    return answer


@pytest.mark.parametrize("problem", LAYERS, ids=str)
def test_the_oracle_is_right(problem: LayerProblem) -> None:
    inputs = make_inputs(problem, 6, Skew(), 3, CPU)
    oracle = layer_oracle(inputs)
    assert oracle.clear.any()
    for token in torch.nonzero(oracle.clear).flatten().tolist():
        expected = torch.tensor(by_hand(inputs, token))
        torch.testing.assert_close(oracle.values[token], expected, rtol=1e-4, atol=1e-4)


def test_a_tie_for_the_last_slot_is_nobodys_mistake() -> None:
    inputs = make_inputs(TINY, 8, Skew(), 3, CPU)
    inputs.weights.router[1] = inputs.weights.router[0]  # whoever is asked for one gets either
    oracle = layer_oracle(inputs)
    assert 0 < int(oracle.clear.sum()) < 8


def request(problem: LayerProblem, tokens: int = 16) -> Request:
    default = MOE_LAYER.view(problem, find_gpu("RTX 2080 Ti")).default()
    return Request(problem, tokens, Skew(), (default,), seed=9, device="cpu")


@pytest.mark.parametrize("problem", LAYERS, ids=str)
def test_a_right_layer_passes_and_a_wrong_one_does_not(problem: LayerProblem) -> None:
    asked = request(problem)
    [config] = asked.configs
    measurer = LayerMeasurer(asked)
    found = measurer.check(config)
    assert (found.status, found.error) == ("ok", None)
    assert found.rel_error is not None and 0 < found.rel_error < 0.002
    experts = measurer._layer.down
    experts[1] = experts[2]  # as a kernel that reads another expert's weights
    found = measurer.check(config)
    assert found.status == "wrong_result" and found.rel_error is not None
    assert found.rel_error > 0.05 and "of its norm" in str(found.error)
    experts[1] = torch.nan
    assert measurer.check(config).rel_error == torch.inf


def test_the_tuners_requests_are_understood() -> None:
    asked = replace(request(LAYERS[1], 100), skew=ZIPF)
    question = Question(asked.problem, asked.tokens, asked.skew, asked.seed, asked.device)
    assert Request.from_json(question.line(list(map(str, asked.configs))).decode()) == asked


def test_a_stopwatch_gives_every_launch_its_turns() -> None:
    calls: list[str] = []
    first, second = CpuStopwatch().race([lambda: calls.append("a"), lambda: calls.append("b")], 1)
    assert len(first.samples_us) == len(second.samples_us) == calls.count("a") == calls.count("b")
    assert [set(calls[i : i + 2]) for i in range(0, len(calls), 2)] == [{"a", "b"}] * 3
    timing = Timing(tuple(float(n) for n in range(1, 12)))
    assert (timing.median_us, timing.spread_us) == (6.0, 4.0)


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--problem", TINY.key, "--tokens", "8", "--device", "cpu", "--seed", "4"]) == 0
    title, setting, heading, row = capsys.readouterr().out.splitlines()
    assert title.startswith(str(TINY)) and "the torch reference" in title
    assert setting == "8 tokens, uniform, seed 4"
    assert heading.split() == ["us", "+-", "error", "config"]
    time_us, spread_us, error, config = row.split()
    assert float(time_us) > 1 and float(spread_us) >= 0 and 0 < float(error) < 0.002
    assert config == str(request(TINY).configs[0])


def test_programs_get_events(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--problem", TINY.key, "--tokens", "8", "--device", "cpu", "--json"]
    assert main(flags) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["ready", "checked", "timed", "done"]


BAD = {
    "op": (["--op", "gate"], "unknown op 'gate'"),
    "no layer": ([], "which layer?"),
    "no tokens": (["--model", "olmoe-1b-7b"], "--tokens is missing"),
    "both": (["--model", "olmoe-1b-7b", "--problem", TINY.key], "not allowed with"),
    "gemm": (["--problem", TINY.gate_up.key, "--tokens", "1"], "is no layer's key"),
    "device": (["--problem", TINY.key, "--tokens", "1", "--device", "gpu"], "device 'gpu'"),
    "many": (["--problem", TINY.key, "--tokens", "99999999"], "99999999 tokens: must lie in"),
    "config": (["--problem", TINY.key, "--tokens", "1", "--config", "x"], "'x' is no moe_layer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, told = BAD[name]
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    assert line.startswith("error: ") and told in line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[1]",
        "{}",
        "nonsense",
        '{"problem": 1}',
        '{"problem": "x", "tokens": "x", "skew": "uniform", "configs": [], "seed": 1, "device": 0}',
    ],
)
def test_a_request_that_is_none(line: str) -> None:
    with pytest.raises(UserError, match="the request on stdin cannot be read"):
        Request.from_json(line)


def test_without_a_gpu_it_says_what_there_is() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "engine.measure", "--problem", TINY.key, "--tokens", "1"],
        env=environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "no usable GPU" in error_line(result) and "--device cpu" in result.stderr
