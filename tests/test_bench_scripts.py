"""The benchmark scripts as far as they go without a GPU: peers, tables, sub-grids, bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.bench_grouped_gemm import Case, make_cases
from scripts.bench_grouped_gemm import make_parser as parser
from scripts.bench_report import write
from scripts.grouped_gemm_contest import Entry
from scripts.grouped_gemm_peers import expert_loop, grouped_mm
from scripts.grouped_gemm_tables import HEADS, Result, body
from scripts.probe_gpu import SOURCE, Ceilings
from scripts.record_exhaustive import sub_space
from search_spaces import Bucket, Problem, UserError, bucket_grid, find_gpu, space_for
from search_spaces.models import load_model
from search_spaces.numerics import tolerance
from tests.conftest import ROOT
from tests.tuner.cli import environment, error_line
from tuner.inputs import make_inputs
from tuner.reference import full_reference
from tuner.verify import check_values
from tuning_db import GpuRecord, Source, TrialRecord, TrialStatus, TuningDB

PROBLEM = Problem("grouped_gemm", experts=4, n=64, k=64, top_k=2, label="toy/down")
CEILINGS = Ceilings(
    read_gbps=1000.0, copy_gbps=900.0, mma_f32_tflops=100.0, mma_f16_tflops=200.0,
    dense_f16_tflops=150.0, dense_bf16_tflops=None, empty_launch_us=2.0, graph_replay_us=5.0,
)  # fmt: skip
SCRIPTS = ("probe_gpu", "bench_grouped_gemm", "record_exhaustive", "bench_dispatch")


@pytest.mark.parametrize("make", [grouped_mm, expert_loop])
def test_peers_compute_the_same_product(make: object) -> None:
    assert callable(make)
    inputs = make_inputs(PROBLEM, Bucket.parse("6@zipf:2"), 1, torch.device("cpu"))
    assert min(inputs.histogram) < max(inputs.histogram)
    peer = make(inputs)
    peer.launch()
    c = peer.result()
    verdict = check_values(c, full_reference(inputs), tolerance("f32", PROBLEM.k))
    assert c.shape == inputs.c.shape
    assert verdict.rel_error < (1e-2 if "bf16" in peer.name else 1e-3)


def result(**times: float) -> Result:
    entries = tuple(
        Entry(name.replace("_", " "), "CONFIG", 2e-4, us, 0.5) for name, us in times.items()
    )
    return Result(PROBLEM, Bucket.parse("16"), entries)


def test_rooflines_take_the_larger_of_two_floors() -> None:
    flops, traffic = 2 * 64 * 64 * 64, 4 * 64 * 64 * 2 + 2 * 64 * 128
    floor = result(winner=1.0).floor_us(CEILINGS)
    assert floor == pytest.approx(max(flops / 200e12, traffic / 1000e9) * 1e6)


def test_a_table_has_a_cell_for_every_head() -> None:
    full = result(winner=10.0, default=15.0, no_swizzle=20.0, padded_by_8=11.0)
    wrong = Result(
        PROBLEM, Bucket.parse("1"), (Entry("winner", "CONFIG", 3.0, error="C[0, 0] is wrong"),)
    )
    for row in (full.row(CEILINGS), result(winner=1.0).row(CEILINGS), wrong.row(CEILINGS)):
        assert len(row) == len(HEADS)
    assert full.row(CEILINGS)[HEADS.index("÷ winner")] == "1.50"
    assert full.sound
    assert not wrong.sound
    text = "\n".join(body([full, wrong], CEILINGS, ["toy/down 4096"]))
    assert "**C[0, 0] is wrong**" in text
    assert "| toy/down 16@uniform | 10.0 | 20.0 (2.00x) | 11.0 (1.10x) |" in text
    assert "Left out for lack of time: toy/down 4096" in text
    assert full.json(CEILINGS)["entries"][0]["time_us"] == 10.0


def test_a_report_is_written_twice_over(tmp_path: Path) -> None:
    facts = {"GPU": "none", "command": "`x`"}
    markdown, data = write(tmp_path / "new", "name", "Title", facts, ["| a |"], {"n": 1})
    assert markdown.read_text().startswith("# Title\n")
    assert json.loads(data.read_text()) == {"provenance": facts, "n": 1}
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "file", "name", "Title", facts, [], {})


def test_the_sub_grid_is_part_of_the_space_and_large_enough() -> None:
    problem, gpu = load_model("mixtral-8x7b").problem("gate_up"), find_gpu("H100")
    space, grid = sub_space("grouped_gemm", [])
    view, whole = space.view(problem, gpu), space_for("grouped_gemm").view(problem, gpu)
    configs = list(view)
    assert len(configs) == view.count >= 1000
    assert whole.default() in configs
    assert not any(whole.explain(config) for config in configs[::50])
    assert set(grid) == {parameter.name for parameter in space.parameters}

    narrow, _ = sub_space("grouped_gemm", ["smem=none", "swap=False"])
    fewer = list(narrow.view(problem, gpu))
    assert {(config.smem, config.swap) for config in fewer} == {("none", False)}


@pytest.mark.parametrize(
    ("change", "told"), [("tile_q=1", "parameters are"), ("tile_m=17", "tile_m can be 8, 16")]
)
def test_a_sub_grid_of_other_values_is_refused(change: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        sub_space("grouped_gemm", [change])


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_in_one_line_that_they_need_a_gpu(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--out", str(tmp_path / "out")],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "no usable GPU" in error_line(done)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


@pytest.mark.parametrize("arch", ["compute_75", "compute_90"])
def test_probe_kernels_are_what_they_say(arch: str) -> None:
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(SOURCE.read_text(), "probe.cu", [], [])
    nvrtc.compileProgram(program, ["-std=c++17", f"-arch={arch}"])
    entries = re.split(r"\.visible \.entry ", nvrtc.getPTX(program).decode())[1:]
    ptx = {entry.partition("(")[0]: entry for entry in entries}
    assert set(ptx) == {"read_only", "copy", "mma_f32", "mma_f16", "empty"}
    assert "ld.global.nc.v4" in ptx["read_only"]
    assert "st.global" in ptx["copy"]
    for acc in ("f32", "f16"):
        loop = ptx[f"mma_{acc}"]
        assert loop.count(f"mma.sync.aligned.m16n8k8.row.col.{acc}.f16.f16.{acc}") % 16 == 0
        assert "ld.local" not in loop


def cases(*arguments: str) -> list[Case]:
    return make_cases(parser().parse_args(arguments), find_gpu("H100"))


def test_every_bucket_is_a_case_and_some_compare_swizzles() -> None:
    found = cases("--config", "default", "--models", "olmoe-1b-7b", "--layers", "down")
    assert [case.bucket for case in found] == bucket_grid(found[0].problem)
    for case in found:
        default = case.configs["default"]
        assert case.configs["winner"] == default
        others = {role: c.smem for role, c in case.configs.items() if c != default}
        wanted = {"no swizzle": "none", "padded by 8": "pad8"}
        assert others == (wanted if case.bucket.tokens_per_expert in (1, 16, 256, 1024) else {})


def test_winners_come_from_the_db_and_a_missing_one_is_told(tmp_path: Path) -> None:
    db, problem = tmp_path / "db.sqlite", load_model("olmoe-1b-7b").problem("down")
    flags = ("--db", str(db), "--models", "olmoe-1b-7b", "--layers", "down", "--buckets")
    with pytest.raises(UserError):
        cases(*flags, "16")
    config = "64x64x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"
    with TuningDB.open(db) as tuned:
        run_id = tuned.begin_run("test", {}, None, 0)
        trial = TrialRecord(
            run_id=run_id, problem=problem, bucket=Bucket.parse("16"), gpu_name="H100",
            config=config, status=TrialStatus.OK, source=Source.PREDICTED, time_us=5.0,
        )  # fmt: skip
        tuned.gpu_id(GpuRecord(name="H100", arch="sm_90"))
        tuned.set_winner(problem, trial.bucket, "H100", tuned.add_trial(trial))
    [case] = cases(*flags, "16")
    assert str(case.configs["winner"]) == config
    assert str(case.configs["default"]) != config
    with pytest.raises(UserError, match=r"no winner for .* at 64@uniform on H100: search it first"):
        cases(*flags, "16,64")
