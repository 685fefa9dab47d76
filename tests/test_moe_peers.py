"""The peers of the MoE layer benchmark that a CPU can run, and the inputs they share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import TunedKernels
from scripts.moe_layer_contest import check, one_line, sample
from scripts.moe_peers import torch_loop, transformers_block, vllm_modules
from scripts.moe_peers.layer import Layer, draw_hidden, make_layer, reference
from scripts.moe_peers.ours import Ours
from scripts.moe_peers.vllm_triton import nearest_table, site_folder
from search_spaces import Skew, UserError
from search_spaces.models import load_model
from tests.conftest import ROOT

CPU = torch.device("cpu")
MODELS = ("mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "olmoe-1b-7b")
ALLOWED = {torch.float16: 3e-3, torch.bfloat16: 2e-2}


@pytest.fixture(params=MODELS)
def layer(request: pytest.FixtureRequest) -> Layer:
    """A layer of that model's kind, small enough for a CPU, with fresh weights."""
    model = load_model(request.param)
    shared = 2 * 64 if model.shared_intermediate else 0
    small = replace(model, hidden=192, intermediate=64, shared_intermediate=shared)
    return make_layer(small, int(torch.randint(1 << 30, ()).item()), CPU)


def hidden_of(layer: Layer, tokens: int, skew: str = "zipf:1.2") -> torch.Tensor:
    seed = int(torch.randint(1 << 30, ()).item())
    return draw_hidden(layer.model, layer.router, tokens, Skew.parse(skew), seed)


def by_hand(layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
    """[T, H] in fp64, a token and an expert at a time."""
    out = torch.zeros(hidden.shape, dtype=torch.float64)

    def mlp(x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        gate, up = (gate_up.double() @ x).chunk(2)
        return down.double() @ (gate / (1 + (-gate).exp()) * up)

    for token, x in enumerate(hidden.double()):
        scores = (layer.router.double() @ x).softmax(0)
        chosen = sorted(range(len(scores)), key=lambda e: -float(scores[e]))[: layer.model.top_k]
        total = sum(float(scores[e]) for e in chosen) if layer.model.norm_topk else 1.0
        for e in chosen:
            out[token] += float(scores[e]) / total * mlp(x, layer.gate_up[e], layer.down[e])
        if layer.shared_gate_up is not None and layer.shared_down is not None:
            out[token] += mlp(x, layer.shared_gate_up, layer.shared_down)
    return out


def rel_error(out: torch.Tensor, expected: torch.Tensor) -> float:
    return float((out.double() - expected.double()).norm() / expected.double().norm())


def test_the_reference_is_what_a_layer_computes(layer: Layer) -> None:
    hidden = hidden_of(layer, 9)
    assert rel_error(reference(layer, hidden), by_hand(layer, hidden)) < 1e-5


@pytest.mark.parametrize("tokens", [1, 9])
def test_peers_compute_the_layer(tokens: int, layer: Layer) -> None:
    hidden = hidden_of(layer, tokens)
    expected = by_hand(layer, hidden)
    ours = Ours(TunedKernels(None, "cpu"), max_tokens=16).peer
    for peer in (torch_loop.PEER, transformers_block.PEER, ours):
        out = peer.prepare(layer.cast(peer.dtype), hidden.to(peer.dtype))()
        assert out.shape == hidden.shape
        assert rel_error(out, expected) < ALLOWED[peer.dtype]


def test_triton_peers_compute_the_layer() -> None:
    """In a process of its own: Triton decides on import whether it interprets."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "interpreted_peers.py")],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    errors = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}
    assert set(errors) == {"silu_and_mul", "combine", "mixtral-8x7b", "deepseek-v2-lite"}
    assert max(errors["silu_and_mul"], errors["combine"]) < 1e-3
    assert max(errors.values()) < ALLOWED[torch.bfloat16]


@pytest.mark.soak
def test_vllm_computes_the_layer() -> None:
    """From a folder that scripts/peers_site.py made of vLLM's wheel."""
    if "LIGHT_MOE_PEERS" not in os.environ:
        pytest.skip("LIGHT_MOE_PEERS names no folder: make one with scripts/peers_site.py")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "interpreted_vllm.py")],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=290,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    errors = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(errors) == 8
    assert max(errors) < ALLOWED[torch.float16]


@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_are_routed_as_wanted_in_every_type(name: str) -> None:
    model = replace(load_model(name), hidden=512)
    router = torch.randn(model.experts, 512).mul_(512**-0.5).half()
    most = {}
    for skew in ("uniform", "zipf:1.2"):
        hidden = draw_hidden(model, router, 2000, Skew.parse(skew), seed=7)
        assert torch.isfinite(hidden).all()
        assert 0.8 < float(hidden.float().std()) < 2
        chosen = (hidden.double() @ router.double().T).topk(model.top_k).indices
        for dtype in (torch.float16, torch.bfloat16):
            logits = hidden.to(dtype) @ router.to(dtype).T
            assert torch.equal(logits.topk(model.top_k).indices, chosen), "other order, or others"
        loads = torch.bincount(chosen.flatten(), minlength=model.experts)
        most[skew] = float(loads.max()) / (2000 * model.top_k / model.experts)
    assert most["uniform"] < 1.4
    assert most["zipf:1.2"] > min(2.0, 0.9 * model.experts / model.top_k)


def test_what_is_wrong_is_not_timed(layer: Layer) -> None:
    hidden = hidden_of(layer, 80)
    expected, right = sample(layer, hidden, seed=3), by_hand(layer, hidden).half()
    assert expected.tokens.numel() in (62, 63, 64)
    assert check(right, expected, torch.float16) < 3e-3
    last_row_off = right.clone()
    last_row_off[-1] = 0
    hole = right.clone()
    hole[40, 5] = torch.nan
    for wrong, told in ((last_row_off, "relative error"), (hole, "not every element is finite")):
        with pytest.raises(UserError, match=told):
            check(wrong, expected, torch.float16)


def test_reasons_fit_a_cell() -> None:
    assert one_line(UserError("no table")) == "no table"
    assert one_line(RuntimeError("a | b\nmore" + "x" * 300)) == "RuntimeError: a / b"


def test_the_nearest_table_is_of_the_same_experts(tmp_path: Path) -> None:
    device = "NVIDIA_H100_80GB_HBM3"
    for shape, card in (
        ("E=64,N=1280", device), ("E=64,N=2560", "NVIDIA_H200"),
        ("E=8,N=1408", device), ("E=128,N=768", "NVIDIA_H200"),
    ):  # fmt: skip
        (tmp_path / f"{shape},device_name={card}.json").write_text(json.dumps({}))
    assert nearest_table(tmp_path, 64, 1408, device).name.startswith("E=64,N=1280")
    assert nearest_table(tmp_path, 64, 2048, device).name.startswith("E=64,N=2560")
    assert nearest_table(tmp_path, 128, 768, device).name.endswith("NVIDIA_H200.json")
    with pytest.raises(UserError, match="has a table for this GPU"):
        nearest_table(tmp_path, 64, 1280, device)
    with pytest.raises(UserError, match="no table for 60 experts"):
        nearest_table(tmp_path, 60, 1408, device)


def test_missing_peer_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHT_MOE_PEERS", raising=False)
    with pytest.raises(UserError, match=r"LIGHT_MOE_PEERS='' names no folder"):
        site_folder()
    monkeypatch.setenv("LIGHT_MOE_PEERS", str(tmp_path))
    assert site_folder() == tmp_path
    for load in (vllm_modules.load_fused_moe, vllm_modules.load_operators):
        with pytest.raises(UserError, match=r"scripts/peers_site\.py"):
            load(tmp_path)
    unknown = replace(load_model("mixtral-8x7b"), model_type="qwen2_moe", experts=2, hidden=64,
                      intermediate=64)  # fmt: skip
    with pytest.raises(UserError, match="no transformers block is known here for qwen2_moe"):
        transformers_block.make_block(make_layer(unknown, 1, CPU))
