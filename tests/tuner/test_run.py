"""``python -m tuner.run`` where there is no GPU: what it prints, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces import Bucket, Problem, UserError, find_gpu, space_for
from tests.tuner.cli import environment, error_line
from tuner import run as run_module
from tuner.figures import Work
from tuner.run import main

SMALL = ("--shape", "E=2,N=64,K=64,top_k=1", "--bucket", "8")
PROBLEM = Problem("grouped_gemm", experts=2, n=64, k=64, top_k=1)
VIEW = space_for("grouped_gemm").view(PROBLEM, find_gpu("RTX 2080 Ti"))


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are about machines without one; CUDA has no way to forget a GPU within a process."""

    def none() -> int:
        raise UserError("no usable GPU: hidden by the test")

    monkeypatch.setattr(run_module, "device_count", none)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tuner.run", *arguments]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=240)


def test_source_has_the_config_and_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(VIEW.default()), "--source", *SMALL]) == 0
    text = capsys.readouterr().out
    assert text.startswith("#include <light_moe/")
    entry = re.search(r"extern \"C\" __global__ .*\n(lm_\w+)\(", text)
    assert entry is not None

    assert main(["--config", "default", "--ptx", *SMALL]) == 0
    ptx = capsys.readouterr().out
    assert f".entry {entry[1]}(" in ptx
    assert ".target sm_75" in ptx


def test_explain_shows_the_bank_conflicts_that_a_swizzle_removes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rows of 32 halves: unswizzled, the 8 rows of a matrix share 2 of 8 chunks of the banks."""
    told = {}
    for smem in ("none", "sw2.3.3"):
        name = f"128x128x32_w2x2x1_s2_{smem}_f32_r2x8_mn_ca_o1_g8_k1"
        arguments = ["--config", name, "--bucket", "256", "--explain", "--gpu", "RTX 2080 Ti"]
        assert main(arguments) == 0
        told[smem] = capsys.readouterr().out
    assert "0 extra wavefronts by bank conflicts" in told["sw2.3.3"]
    assert "3 extra wavefronts by bank conflicts" in told["none"]


def test_sass_is_the_targets_machine_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "default", "--sass", *SMALL]) == 0
    turing = capsys.readouterr().out
    assert main(["--config", "default", "--sass", "--gpu", "H100", *SMALL]) == 0
    hopper = capsys.readouterr().out
    assert "HMMA.1688.F32" in turing
    assert "HMMA.1688.F32" in hopper
    assert turing != hopper
    assert re.search(r"EF_CUDA_SM75|sm_75", turing)
    assert re.search(r"EF_CUDA_SM90|sm_90", hopper)


def test_timing_needs_a_gpu_and_says_so() -> None:
    line = error_line(command("--config", "default", *SMALL))
    assert "timing needs a GPU" in line
    assert "--sass work without one" in line


def test_a_closed_pipe_is_no_error() -> None:
    line = f"{sys.executable} -m tuner.run --config default --bucket 8 --source | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def invalid_name() -> str:
    """Breaks several rules at once."""
    name = "128x128x32_w4x4x4_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
    assert len(VIEW.explain(VIEW.space.config_type.parse(name))) >= 2
    return name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "128x128", *SMALL], "is no grouped_gemm config"),
        (["--config", "default", *SMALL, "--source", "--gpu", "RTX 9"], "unknown GPU 'RTX 9'"),
        (
            ["--config", "default", *SMALL, "--gpu", "T4"],
            "add --explain, --source, --ptx or --sass",
        ),
        (["--config", "default", *SMALL, "--json", "--ptx"], "--json goes with a time"),
        (["--config", "default", *SMALL, "--layer", "down"], "--layer goes with --model"),
        (["--config", "default", *SMALL, "--op", "conv"], "unknown op 'conv'"),
        (["--config", "default", *SMALL, "--numerics", "f8"], "fp32, promoted, fp16"),
        (["--config", "default", *SMALL, "--iterations", "0"], "0 is not a whole number"),
        (["--config", "default", *SMALL, "--seed", "-1"], "-1 is not a whole number"),
        (["--config", "default", "--bucket", "many"], "bucket 'many'"),
        (["--config", "default", "--bucket", "8@zipf:1", "--skew", "uniform"], "has a skew"),
        (["--config", "default", "--bucket", "8", "--model", "gpt"], "gpt"),
        (["--config", "default", "--bucket", "8", "--shape", "E=8"], "shape 'E=8'"),
        (["--bucket", "8"], "--config"),
        (["--config", "default"], "--bucket"),
        (["--config", "default", *SMALL, "--what"], "--what"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def test_every_reason_of_an_invalid_config_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", invalid_name(), "--source", *SMALL]) == 2
    told = capsys.readouterr().err
    for violation in VIEW.explain(VIEW.space.config_type.parse(invalid_name())):
        assert str(violation) in told


def test_no_disassembler_names_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tuner.disassembly.find_spec", lambda name: None)
    assert main(["--config", "default", "--sass", *SMALL]) == 2
    assert "install triton" in capsys.readouterr().err


def test_figures_agree_with_arithmetic_by_hand() -> None:
    problem = Problem("grouped_gemm", experts=8, n=28672, k=4096, top_k=2)
    gpu = find_gpu("RTX 2080 Ti")
    work = Work.of(problem, Bucket.parse("1024"), gpu)
    flops = 2 * 8192 * 28672 * 4096
    assert work.tflops(20_000.0) == pytest.approx(flops / 20e-3 / 1e12)
    weights, rows = 8 * 28672 * 4096 * 2, 8192 * (4096 + 28672) * 2
    assert work.gbps(20_000.0) == pytest.approx((weights + rows) / 20e-3 / 1e9)
    # Compute-bound: fp16 accumulation at 1024 FLOP/SM/clk is the ceiling of promoted numerics.
    assert work.roofline(20_000.0) == pytest.approx(flops / 20e-3 / (68 * 1545e6 * 1024))
    one_token = Work.of(problem, Bucket.parse("0.25"), gpu)
    assert one_token.traffic == 2 * 28672 * 4096 * 2 + 2 * (4096 + 28672) * 2
