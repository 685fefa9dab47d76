"""``python -m tuner.emulate``: verdicts, counters against arithmetic by hand, refusals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Problem
from templates import Variant, render
from tests.tuner.cli import environment, error_line
from tests.tuner.planted import BEYOND, LEFT_OUT, Bug, plant
from tuner import emulate as emulate_module
from tuner.emulate import main

SHAPE = ("--shape", "E=4,N=96,K=72,top_k=2")
ROWS = ("--rows", "20,0,1")
CONFIG = "16x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
SWAPPED = "16x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_nm_ca_o1_g8_k1"
UNSWIZZLED = "16x32x32_w1x2x1_s2_none_f32_r2x8_mn_ca_o1_g8_k1"


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def figures(found: dict[str, Any], index: int = 0) -> dict[str, tuple[int, int | None]]:
    table = found["configs"][index]["counters"]["figures"]
    return {name: (figure["value"], figure["ideal"]) for name, figure in table.items()}


def test_the_counters_are_what_the_problem_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "--config", CONFIG, *SHAPE, *ROWS)
    assert found["rows"] == [20, 0, 1, 0]
    [config] = found["configs"]
    assert (config["status"], config["reason"]) == ("ok", None)
    assert 0 < config["rel_error"] < 1e-3
    assert config["tiles"] == config["all_tiles"] == 3 * 3  # 2 + 0 + 1 tiles of rows, 3 of columns
    counts = figures(found)
    # 16x32 tiles over 96 columns, K = 72 padded to 3 tiles of 32: whole tiles are multiplied.
    executed = 9 * (32 // 8) * (3 * 32 // 8)
    assert counts["mma"] == (executed, 9 * (32 // 8) * (72 // 8))
    assert counts["flops"] == (executed * 2 * 16 * 8 * 8, 2 * 21 * 96 * 72)
    assert counts["global_store_bytes"][0] == 21 * 96 * 2  # each element of C once
    assert counts["written_bytes"][1] == 21 * 96 * 2
    assert counts["read_bytes"][1] == 2 * 72 * (21 + 2 * 96)  # A once, two experts' weights once
    assert counts["read_bytes"][0] >= 2 * 72 * (3 * 21 + 3 * 96)  # once by each tile that needs it


def test_processes_share_the_ctas(capsys: pytest.CaptureFixture[str]) -> None:
    alone = document(capsys, "--config", CONFIG, *SHAPE, *ROWS)
    shared = document(capsys, "--config", CONFIG, *SHAPE, *ROWS, "--processes", "2")
    assert figures(shared) == figures(alone)
    assert shared["configs"][0]["status"] == "ok"


def test_ctas_that_add_up_their_sums_need_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    long = ("--shape", "E=2,N=32,K=1024,top_k=1", "--rows", "3")
    assert main(["--config", f"{CONFIG[:-1]}2", *long, "--processes", "2"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "one process" in told and told.count("\n") == 1


def test_tokens_on_the_narrow_axis_need_fewer_mmas(capsys: pytest.CaptureFixture[str]) -> None:
    counts = figures(document(capsys, "--config", SWAPPED, *SHAPE, *ROWS))
    # 8-wide blocks of the 16, 4 and 1 rows of the three tiles of rows, 16-wide ones of 96 columns.
    assert counts["mma"][1] == (2 + 1 + 1) * (96 // 16) * (72 // 8)
    assert counts["mma"][0] == 9 * (16 // 8) * (32 // 16) * (3 * 32 // 8)


def test_rows_that_are_combined(capsys: pytest.CaptureFixture[str]) -> None:
    """All of its tiles, two launches with reduce, and C of a row for each token."""
    for suffix, ctas in (("co", 15), ("ca", 15), ("cr", 17)):
        found = document(
            capsys, "--config", f"{CONFIG}_{suffix}", *SHAPE, "--combine", "any", "--rows", "19,0,1"
        )
        assert found["problem"].endswith(".combine-any")
        [config] = found["configs"]
        assert (config["status"], config["tiles"]) == ("ok", 9)
        assert config["ctas"] == ctas, suffix
        counts = figures(found)
        assert counts["written_bytes"][1] == 10 * 96 * 2
        assert counts["read_bytes"][1] == 2 * 72 * (20 + 2 * 96) + 8 * 20


def test_a_gated_and_gathered_layer(capsys: pytest.CaptureFixture[str]) -> None:
    """Half the columns are written, and each row's number is read beside its token's row."""
    fused = ("--epilogue", "swiglu", "--gather")
    found = document(capsys, "--config", CONFIG, *SHAPE, *ROWS, *fused)
    assert found["problem"].endswith(".swiglu.gather")
    [config] = found["configs"]
    assert (config["status"], config["tiles"], config["all_tiles"]) == ("ok", 9, 9)
    counts = figures(found)
    assert counts["mma"] == (9 * (32 // 8) * (3 * 32 // 8), 9 * (32 // 8) * (72 // 8))
    assert counts["flops"][1] == 2 * 21 * 96 * 72
    assert counts["global_store_bytes"][0] == counts["written_bytes"][1] == 21 * 48 * 2
    assert counts["read_bytes"][1] == 2 * 72 * (21 + 2 * 96) + 4 * 21

    assert main(["--config", CONFIG, *SHAPE, *ROWS, *fused, "--ctas", "4"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("right: every element of 4 of 9 tiles of C within its bound")
    assert re.search(r"^problem .*/E4\.N96\.K72\.top2\.f16\.promoted\.swiglu\.gather$", told, re.M)


def test_a_comparison_shows_what_the_swizzle_removes(capsys: pytest.CaptureFixture[str]) -> None:
    """Unswizzled, 8 rows of 32 halves share 2 of the 8 chunks of the banks: 4 wavefronts for 1."""
    pair = ("--compare", UNSWIZZLED, CONFIG, *SHAPE, *ROWS)
    found = document(capsys, *pair)
    conflicts = []
    for index in (0, 1):
        counts = figures(found, index)
        conflicts.append(counts["shared_ldmatrix_conflicts"][0])
        wavefronts, ideal = counts["shared_ldmatrix_wavefronts"]
        assert ideal is not None and conflicts[-1] == wavefronts - ideal
        assert wavefronts == (4 * ideal, ideal)[index]
        assert counts["mma"] == figures(found, 0)["mma"]

    assert main([*pair]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("right: every element of C") for line in lines[:2]] == [True, True]
    [row] = [line for line in lines if line.startswith("shared ldmatrix conflicts")]
    assert f"{conflicts[0]:,}" in row and row.split()[-2:] == ["0", "0.000"]


def test_the_default_is_a_small_problem_of_the_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", CONFIG, "--layer", "down", "--seed", "3", "--lines", "5"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("right: ")
    assert re.search(r"^problem +grouped_gemm/small/E4\.N64\.K96\.top2\.f16\.promoted$", told, re.M)
    assert re.search(r"^seed +3$", told, re.M)
    _, _, table = told.partition(f"\n\n{CONFIG}\n")
    heading, *lines = table.splitlines()
    assert heading.split()[0] == "line" and len(lines) == 5
    assert "st.global" in table  # half of each of its sectors is wasted: what costs most here


def test_a_sample_of_a_larger_problem(capsys: pytest.CaptureFixture[str]) -> None:
    split = CONFIG.removesuffix("k1") + "k2"
    large = ("--shape", "E=4,N=512,K=256,top_k=2", "--bucket", "16", "--ctas", "3")
    assert main(["--config", split, *large]) == 0
    told = capsys.readouterr().out
    assert told.startswith("right: every element of 3 of 64 tiles of C within its bound")
    assert "3 of 64 tiles of C in 6 CTAs" in told


@pytest.mark.parametrize(
    ("bug", "told", "status"),
    [
        (LEFT_OUT, r"wrong: \d+ of \d+ elements are wrong, the worst C\[", "wrong_result"),
        (BEYOND, r"fault: out of bounds at PTX line \d+, .*ld\.global", "launch_error"),
    ],
    ids=["wrong", "fault"],
)
def test_a_planted_bug_is_told_first(
    bug: Bug,
    told: str,
    status: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buggy(problem: Problem, config: Any) -> Variant:
        return plant(render(problem, config), bug)

    monkeypatch.setattr(emulate_module, "render", buggy)
    arguments = ["--config", CONFIG, *SHAPE, *ROWS]
    assert main(arguments) == 1
    assert re.match(told, capsys.readouterr().out)
    assert main([*arguments, "--json"]) == 1
    [config] = json.loads(capsys.readouterr().out)["configs"]
    assert config["status"] == status and config["reason"]
    assert (config["counters"] is None) == (status == "launch_error")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "fast"], "'fast' is no grouped_gemm config"),
        (["--config", "default", "--op", "gemm"], "unknown op 'gemm'"),
        (["--config", CONFIG.replace("f32", "f16")], "acc=f16 is not allowed with promoted"),
        (["--config", "default", "--epilogue", "glu"], "unknown epilogue 'glu'"),
        (["--config", "default", "--layer", "down", "--gather"], "an epilogue and gather go with"),
        (
            ["--config", CONFIG.replace("w1x2", "w1x4"), "--epilogue", "swiglu"],
            "8 columns per warp: swiglu needs gate and up columns in one",
        ),
        (["--config", "default", "--gpu", "A9"], "unknown GPU 'A9'"),
        (["--config", "default", "--ctas", "3"], "--ctas 3 goes with --bucket or --rows"),
        (["--config", "default", "--rows", "3,x"], "--rows '3,x': expected rows"),
        (["--config", "default", "--rows", "0,0"], "there is nothing to launch"),
        (["--config", "default", *SHAPE, "--rows", "1,1,1,1,1"], "has 5 experts, the problem 4"),
        (["--config", "default", "--bucket", "4", "--rows", "1"], "not allowed with"),
        (["--config", "default", "--combine", "any"], "combine any goes with layer down"),
        (["--config", CONFIG, *SHAPE, "--combine", "any"], "rows of C are combined here"),
        (["--config", f"{CONFIG}_co", *SHAPE], "combine=ordered: rows of C stay apart"),
        (
            ["--config", "default", *SHAPE, "--combine", "any", "--rows", "3"],
            "3 rows are no whole tokens of top_k=2",
        ),
        (
            ["--config", "default", *SHAPE, "--combine", "any", "--rows", "4", "--ctas", "1"],
            "--ctas 1 does not go with --combine",
        ),
        (["--config", "default", "--bucket", "16"], "at most 1.1 GB are emulated"),
        (["--config", "default", "--lines", "0"], "--lines: 0 is not a whole number"),
        (["--config", "default", "--seed", "x"], "--seed: 'x' is not a whole number"),
        (["--compare", CONFIG], "--compare: expected 2 arguments"),
        (["--config", "default", "--compare", "a", "b"], "not allowed with"),
        ([], "--config"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert expected in captured.err


def test_missing_headers_name_the_package(tmp_path: Path) -> None:
    """A Python path on which cutlass_library holds no headers."""
    (tmp_path / "cutlass_library").mkdir()
    (tmp_path / "cutlass_library" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "tuner.emulate", "--config", "default"],
        env=environment(PYTHONPATH=path), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "nvidia-cutlass" in error_line(done)
